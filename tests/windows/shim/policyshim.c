// A stand-in for AppLocker's Exe and Dll collections on Wine: a DLL that makes its process obey C:\bench\policy.txt.
//
// It replaces two of kernelbase's imports from ntdll: NtCreateUserProcess, through which every CreateProcess goes, and
// LdrLoadDll, through which every LoadLibrary of a full path goes (a DLL that another one imports is not checked).
// What the policy refuses ends with the status that AppLocker uses, which callers see as error 1260.
//
// A child gets the shim by a user-mode call queued to its first thread, which is still suspended then: it runs when the
// thread first starts, before the program's own code. A child that its creator keeps suspended and ends (as probes do)
// therefore never runs one instruction, of the shim neither.
//
// The policy is UTF-8, tab-separated, and read anew for each decision (no file: everything is allowed):
//   exe  enforced | audit             the collection has rules: what none allows is refused (in audit: only recorded)
//   exe  allow|deny  KIND  VALUE      KIND: path (AppLocker's variables, '*', '?'), sha256 (Authenticode, hex) or never
//   exe  except      KIND  VALUE      an exception of the rule above
// A deny rule beats every allow rule. Decisions are appended to C:\bench\decisions.log:
//   PID  exe|dll  ALLOW|DENY|AUDIT  PATH  RULE          (loads of DLLs are recorded only when refused)
#define _WIN32_WINNT 0x0A00
#include <windows.h>
#include <winternl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <wchar.h>
#include "sha256.h"

#define STATUS_REFUSED ((NTSTATUS)0xC0000364)  // STATUS_ACCESS_DISABLED_BY_POLICY_OTHER
#define STAYS_SUSPENDED 1                      // THREAD_CREATE_FLAGS_CREATE_SUSPENDED
#define IMAGE_NAME 0x00020005                  // PS_ATTRIBUTE_IMAGE_NAME
#define LONGEST 4096

struct attribute { ULONG_PTR kind; SIZE_T size; void *value; SIZE_T *returned; };
struct attributes { SIZE_T total; struct attribute each[1]; };
typedef NTSTATUS(NTAPI *create_user_process)(HANDLE *, HANDLE *, ACCESS_MASK, ACCESS_MASK, OBJECT_ATTRIBUTES *, OBJECT_ATTRIBUTES *,
                                             ULONG, ULONG, void *, void *, struct attributes *);
typedef NTSTATUS(NTAPI *load_dll)(LPCWSTR, DWORD *, const UNICODE_STRING *, HMODULE *);

NTSYSAPI WCHAR NTAPI RtlUpcaseUnicodeChar(WCHAR);

static create_user_process real_create;
static load_dll real_load;
static HMODULE self;

static char *read_file(const WCHAR *path, size_t *size) {
    LARGE_INTEGER length;
    DWORD done = 0;
    HANDLE file = CreateFileW(path, GENERIC_READ, FILE_SHARE_READ | FILE_SHARE_WRITE | FILE_SHARE_DELETE, NULL, OPEN_EXISTING, 0, NULL);
    if (file == INVALID_HANDLE_VALUE) return NULL;
    char *data = GetFileSizeEx(file, &length) ? malloc(length.QuadPart + 1) : NULL;
    if (data && !ReadFile(file, data, (DWORD)length.QuadPart, &done, NULL)) done = 0;
    CloseHandle(file);
    if (data) data[done] = 0;
    *size = done;
    return data;
}

static WCHAR upper(WCHAR c) { return c < 128 ? (c >= 'a' && c <= 'z' ? c - 32 : c) : RtlUpcaseUnicodeChar(c); }

// '*' stands for any characters, backslashes included, '?' for exactly one; case does not count.
static int matches(const WCHAR *pattern, const WCHAR *path) {
    const WCHAR *star = NULL, *retry = NULL;
    while (*path) {
        if (*pattern == L'*') {
            star = ++pattern;
            retry = path;
        } else if (*pattern && (*pattern == L'?' || upper(*pattern) == upper(*path))) {
            pattern++;
            path++;
        } else if (star) {
            pattern = star;
            path = ++retry;
        } else {
            return 0;
        }
    }
    while (*pattern == L'*') pattern++;
    return !*pattern;
}

// One variable can stand for two folders: each is tried. An unknown variable matches nothing.
static int path_matches(const WCHAR *rule, const WCHAR *path) {
    static const struct { const WCHAR *name, *folder; } variables[] = {
        {L"%OSDRIVE%", L"C:"}, {L"%WINDIR%", L"C:\\Windows"},
        {L"%SYSTEM32%", L"C:\\Windows\\System32"}, {L"%SYSTEM32%", L"C:\\Windows\\SysWOW64"},
        {L"%PROGRAMFILES%", L"C:\\Program Files"}, {L"%PROGRAMFILES%", L"C:\\Program Files (x86)"}};
    WCHAR expanded[LONGEST + 32];
    if (rule[0] != L'%') return matches(rule, path);
    for (size_t i = 0; i < sizeof variables / sizeof *variables; i++) {
        size_t length = wcslen(variables[i].name);
        if (_wcsnicmp(rule, variables[i].name, length)) continue;
        wcscpy(expanded, variables[i].folder);
        wcsncat(expanded, rule + length, LONGEST);
        if (matches(expanded, path)) return 1;
    }
    return 0;
}

struct subject { const WCHAR *path; WCHAR sha256[65]; int hashed; };

static int condition_holds(const char *kind, const char *text, struct subject *subject) {
    WCHAR value[LONGEST];
    if (!MultiByteToWideChar(CP_UTF8, 0, text, -1, value, LONGEST)) return 0;
    if (!strcmp(kind, "path")) return path_matches(value, subject->path);
    if (strcmp(kind, "sha256")) return 0;
    if (!subject->hashed) {
        size_t size;
        char *data = read_file(subject->path, &size);
        subject->hashed = 1;
        if (!data || !authenticode((BYTE *)data, size, subject->sha256)) subject->sha256[0] = 0;
        free(data);
    }
    return subject->sha256[0] && !_wcsicmp(subject->sha256, value);
}

struct decision { const char *word; char rule[LONGEST]; };

// The rule that is being read counts once the next one (or the end) shows that no exception took it back.
static struct decision decide(const char *collection, const WCHAR *path) {
    struct decision decision = {"ALLOW", "no rules"};
    struct subject subject = {path, L"", 0};
    size_t size;
    int enforced = 0, audit = 0, allowed = 0, denied = 0, pending = 0, pending_denies = 0;
    char pending_rule[LONGEST] = "", allowing[LONGEST] = "", denying[LONGEST] = "", *place = NULL;
    char *policy = read_file(L"C:\\bench\\policy.txt", &size);
    if (!policy) return decision;
    for (char *line = strtok_s(policy, "\r\n", &place);; line = strtok_s(NULL, "\r\n", &place)) {
        char *word[4] = {"", "", "", ""}, *next = NULL;
        int words = 0;
        if (line && *line != '#')
            for (char *each = strtok_s(line, "\t", &next); each && words < 4; each = strtok_s(NULL, "\t", &next)) word[words++] = each;
        if (line && strcmp(word[0], collection)) continue;
        int is_exception = !strcmp(word[1], "except");
        if (!is_exception && pending) {
            if (pending_denies) denied = 1, strcpy(denying, pending_rule);
            else allowed = 1, strcpy(allowing, pending_rule);
            pending = 0;
        }
        if (!line) break;
        if (!strcmp(word[1], "enforced")) enforced = 1;
        if (!strcmp(word[1], "audit")) audit = 1;
        if (words < 4) continue;
        int holds = condition_holds(word[2], word[3], &subject);
        if (is_exception) {
            if (holds) pending = 0;
        } else if (holds) {
            pending = 1;
            pending_denies = !strcmp(word[1], "deny");
            strncpy(pending_rule, word[3], LONGEST - 1);
        }
    }
    free(policy);
    if (!enforced && !audit) return decision;
    strcpy(decision.rule, denied ? denying : allowed ? allowing : "no rule allows it");
    if (denied || !allowed) decision.word = enforced ? "DENY" : "AUDIT";
    return decision;
}

static void record(const char *collection, const struct decision *decision, const WCHAR *path) {
    char name[2 * LONGEST], line[4 * LONGEST];
    DWORD done;
    if (!WideCharToMultiByte(CP_UTF8, 0, path, -1, name, sizeof name, NULL, NULL)) return;
    int size = _snprintf(line, sizeof line, "%lu\t%s\t%s\t%s\t%s\r\n", GetCurrentProcessId(), collection, decision->word, name, decision->rule);
    HANDLE log = CreateFileW(L"C:\\bench\\decisions.log", FILE_APPEND_DATA, FILE_SHARE_READ | FILE_SHARE_WRITE | FILE_SHARE_DELETE,
                             NULL, OPEN_ALWAYS, 0, NULL);
    if (log == INVALID_HANDLE_VALUE) return;
    WriteFile(log, line, size, &done, NULL);
    CloseHandle(log);
}

// AppLocker judges the opened image: links are followed, short forms gone, and what is no image (a batch file, junk) is
// for the loader to refuse. Returns 0 where there is no image.
static int real_path(const WCHAR *path, WCHAR *out) {
    char magic[2];
    DWORD done = 0;
    HANDLE file = CreateFileW(path, GENERIC_READ, FILE_SHARE_READ | FILE_SHARE_WRITE | FILE_SHARE_DELETE, NULL, OPEN_EXISTING, 0, NULL);
    if (file == INVALID_HANDLE_VALUE) return 0;
    int image = ReadFile(file, magic, 2, &done, NULL) && done == 2 && !memcmp(magic, "MZ", 2);
    DWORD length = image ? GetFinalPathNameByHandleW(file, out, LONGEST, 0) : 0;
    CloseHandle(file);
    if (!length || length >= LONGEST) return 0;
    if (!wcsncmp(out, L"\\\\?\\UNC\\", 8)) memmove(out + 1, out + 7, (wcslen(out + 7) + 1) * sizeof *out);
    else if (!wcsncmp(out, L"\\\\?\\", 4)) memmove(out, out + 4, (wcslen(out + 4) + 1) * sizeof *out);
    return 1;
}

static int refused(const char *collection, const WCHAR *path) {
    WCHAR judged[LONGEST];
    DWORD error = GetLastError();
    int refuse = 0;
    if (real_path(path, judged)) {
        struct decision decision = decide(collection, judged);
        refuse = !strcmp(decision.word, "DENY");
        if (refuse || !strcmp(collection, "exe")) record(collection, &decision, judged);
    }
    SetLastError(error);
    return refuse;
}

static void follow(HANDLE process, HANDLE thread) {
    WCHAR me[MAX_PATH];
    SIZE_T size = (GetModuleFileNameW(self, me, MAX_PATH) + 1) * sizeof *me;
    void *memory = VirtualAllocEx(process, NULL, size, MEM_RESERVE | MEM_COMMIT, PAGE_READWRITE);
    if (memory && WriteProcessMemory(process, memory, me, size, NULL)) QueueUserAPC((PAPCFUNC)(void *)LoadLibraryW, thread, (ULONG_PTR)memory);
}

static NTSTATUS NTAPI checked_create(HANDLE *process, HANDLE *thread, ACCESS_MASK process_access, ACCESS_MASK thread_access,
                                     OBJECT_ATTRIBUTES *process_attributes, OBJECT_ATTRIBUTES *thread_attributes, ULONG process_flags,
                                     ULONG thread_flags, void *parameters, void *info, struct attributes *attributes) {
    SIZE_T count = (attributes->total - sizeof attributes->total) / sizeof *attributes->each;
    for (SIZE_T i = 0; i < count; i++) {
        WCHAR path[LONGEST];
        struct attribute *attribute = attributes->each + i;
        size_t length = attribute->size / sizeof *path;
        if (attribute->kind != IMAGE_NAME || length >= LONGEST) continue;
        memcpy(path, attribute->value, attribute->size);
        path[length] = 0;
        if (!wcsncmp(path, L"\\??\\", 4)) path[1] = L'\\';
        if (refused("exe", path)) return STATUS_REFUSED;
    }
    NTSTATUS status = real_create(process, thread, process_access, thread_access, process_attributes, thread_attributes, process_flags,
                                  thread_flags | STAYS_SUSPENDED, parameters, info, attributes);
    if (status >= 0) {
        follow(*process, *thread);
        if (!(thread_flags & STAYS_SUSPENDED)) ResumeThread(*thread);
    }
    return status;
}

static NTSTATUS NTAPI checked_load(LPCWSTR search, DWORD *flags, const UNICODE_STRING *name, HMODULE *module) {
    WCHAR path[LONGEST];
    size_t length = name->Length / sizeof *path;
    if (length > 3 && length < LONGEST && (name->Buffer[1] == L':' || name->Buffer[0] == L'\\')) {
        memcpy(path, name->Buffer, name->Length);
        path[length] = 0;
        if (refused("dll", path)) return STATUS_REFUSED;
    }
    return real_load(search, flags, name, module);
}

// Replaces one function that a module imports. Returns the replaced one, NULL if it isn't imported.
static void *redirect(HMODULE module, void *from, void *to) {
    BYTE *base = (BYTE *)module;
    IMAGE_NT_HEADERS *headers = (IMAGE_NT_HEADERS *)(base + ((IMAGE_DOS_HEADER *)base)->e_lfanew);
    IMAGE_DATA_DIRECTORY *directory = headers->OptionalHeader.DataDirectory + IMAGE_DIRECTORY_ENTRY_IMPORT;
    for (IMAGE_IMPORT_DESCRIPTOR *each = (void *)(base + directory->VirtualAddress); each->Name; each++) {
        for (void **slot = (void **)(base + each->FirstThunk); *slot; slot++) {
            DWORD protection;
            if (*slot != from) continue;
            VirtualProtect(slot, sizeof *slot, PAGE_READWRITE, &protection);
            *slot = to;
            VirtualProtect(slot, sizeof *slot, protection, &protection);
            return from;
        }
    }
    return NULL;
}

BOOL WINAPI DllMain(HINSTANCE module, DWORD reason, void *reserved) {
    (void)reserved;
    if (reason != DLL_PROCESS_ATTACH) return TRUE;
    self = module;
    HMODULE ntdll = GetModuleHandleW(L"ntdll"), kernelbase = GetModuleHandleW(L"kernelbase");
    real_create = (create_user_process)(void *)GetProcAddress(ntdll, "NtCreateUserProcess");
    real_load = (load_dll)(void *)GetProcAddress(ntdll, "LdrLoadDll");
    return real_create && real_load && redirect(kernelbase, (void *)real_create, (void *)checked_create) &&
           redirect(kernelbase, (void *)real_load, (void *)checked_load);
}
