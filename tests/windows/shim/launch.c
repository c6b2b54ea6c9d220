// launch.exe PROGRAM ARGUMENTS...: runs PROGRAM as an ordinary user under the policy shim, and ends with its exit code.
//
// Wine gives every user an administrator's token, so "as an ordinary user" is a new one without that group. 120: the shim or the token can't be had; 121: PROGRAM was not started.
#define _WIN32_WINNT 0x0A00
#include <windows.h>
#include <winternl.h>
#include <stdio.h>
#include <wchar.h>

NTSTATUS NTAPI NtCreateToken(HANDLE *, ACCESS_MASK, OBJECT_ATTRIBUTES *, TOKEN_TYPE, LUID *, LARGE_INTEGER *, TOKEN_USER *, TOKEN_GROUPS *,
                             TOKEN_PRIVILEGES *, TOKEN_OWNER *, TOKEN_PRIMARY_GROUP *, TOKEN_DEFAULT_DACL *, TOKEN_SOURCE *);

static int fail(int code, const char *what) {
    fprintf(stderr, "launch: %s: error %lu\n", what, GetLastError());
    return code;
}

// The groups and privileges of this process but for Administrators, in a token that is no half of an elevated pair.
static HANDLE ordinary_token(void) {
    static const TOKEN_INFORMATION_CLASS kinds[] = {TokenUser, TokenGroups, TokenPrimaryGroup, TokenDefaultDacl, TokenStatistics};
    BYTE facts[5][4096], administrators[SECURITY_MAX_SID_SIZE];
    DWORD size = sizeof administrators;
    HANDLE own, ordinary;
    if (!OpenProcessToken(GetCurrentProcess(), TOKEN_ALL_ACCESS, &own)) return NULL;
    if (!CreateWellKnownSid(WinBuiltinAdministratorsSid, NULL, administrators, &size)) return NULL;
    for (int i = 0; i < 5; i++)
        if (!GetTokenInformation(own, kinds[i], facts[i], sizeof facts[i], &size)) return NULL;
    TOKEN_GROUPS *groups = (TOKEN_GROUPS *)facts[1];
    DWORD kept = 0;
    for (DWORD i = 0; i < groups->GroupCount; i++)
        if (!EqualSid(groups->Groups[i].Sid, administrators)) groups->Groups[kept++] = groups->Groups[i];
    groups->GroupCount = kept;
    TOKEN_PRIVILEGES none = {0};
    TOKEN_OWNER owner = {((TOKEN_USER *)facts[0])->User.Sid};
    TOKEN_STATISTICS *statistics = (TOKEN_STATISTICS *)facts[4];
    TOKEN_SOURCE source = {.SourceName = "bench"};
    SECURITY_QUALITY_OF_SERVICE quality = {sizeof quality, SecurityImpersonation, SECURITY_STATIC_TRACKING, FALSE};
    OBJECT_ATTRIBUTES attributes = {.Length = sizeof attributes, .SecurityQualityOfService = &quality};
    NTSTATUS status = NtCreateToken(&ordinary, TOKEN_ALL_ACCESS, &attributes, TokenPrimary, &statistics->AuthenticationId,
                                    &statistics->ExpirationTime, (TOKEN_USER *)facts[0], groups, &none, &owner,
                                    (TOKEN_PRIMARY_GROUP *)facts[2], (TOKEN_DEFAULT_DACL *)facts[3], &source);
    if (status >= 0) return ordinary;
    SetLastError(RtlNtStatusToDosError(status));
    return NULL;
}

int wmain(int argc, wchar_t **argv) {
    (void)argv;
    if (argc < 2) {
        fprintf(stderr, "usage: launch PROGRAM ARGUMENTS...\n");
        return 120;
    }
    if (!LoadLibraryW(L"C:\\bench\\policyshim.dll")) return fail(120, "C:\\bench\\policyshim.dll");
    HANDLE token = ordinary_token();
    if (!token) return fail(120, "an ordinary user's token");
    wchar_t *command = GetCommandLineW();
    if (*command == L'"') command = wcschr(command + 1, L'"') + 1;
    else while (*command && *command != L' ') command++;
    while (*command == L' ') command++;
    STARTUPINFOW startup = {.cb = sizeof startup};
    PROCESS_INFORMATION process;
    if (!CreateProcessAsUserW(token, NULL, command, NULL, NULL, TRUE, 0, NULL, NULL, &startup, &process)) return fail(121, "not started");
    WaitForSingleObject(process.hProcess, INFINITE);
    DWORD code;
    GetExitCodeProcess(process.hProcess, &code);
    return (int)code;
}
