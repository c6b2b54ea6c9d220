/* A DLL that notes in C:\src\ran.txt that it was loaded. Built as what OpenSSL takes for a provider, and as version.dll. */
#include <windows.h>

BOOL WINAPI DllMain(HINSTANCE self, DWORD reason, LPVOID reserved) {
  char name[MAX_PATH];
  DWORD written;
  (void)reserved;
  if (reason != DLL_PROCESS_ATTACH) return TRUE;
  DWORD length = GetModuleFileNameA(self, name, MAX_PATH);
  HANDLE file = CreateFileA("C:\\src\\ran.txt", FILE_APPEND_DATA, 3, NULL, OPEN_ALWAYS, 0, NULL);
  WriteFile(file, name, length, &written, NULL);
  WriteFile(file, "\n", 1, &written, NULL);
  CloseHandle(file);
  return TRUE;
}

__declspec(dllexport) int OSSL_provider_init(void) { return 0; }
__declspec(dllexport) DWORD WINAPI GetFileVersionInfoSizeW(LPCWSTR name, LPDWORD handle) { return (void)name, (void)handle, 0; }
__declspec(dllexport) BOOL WINAPI GetFileVersionInfoW(LPCWSTR name, DWORD handle, DWORD length, LPVOID data) {
  return (void)name, (void)handle, (void)length, (void)data, FALSE;
}
__declspec(dllexport) BOOL WINAPI VerQueryValueW(LPCVOID block, LPCWSTR name, LPVOID *value, PUINT length) {
  return (void)block, (void)name, (void)value, (void)length, FALSE;
}
