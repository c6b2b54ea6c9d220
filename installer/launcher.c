/* The agent's program on Windows: a Python that runs the agent and nothing else.
 *
 * It loads python3xx.dll from its own directory and hands it a configuration in which no command line, no variable, no
 * registry key and no working directory has a say: what runs is wayleave-library.dll, with all arguments as data.
 *
 * A signature may be allowed anywhere by an AppLocker rule, so a copy of this signed program beside somebody else's
 * python3xx.dll would be a way around the policy. Therefore it starts only from a directory that administrators alone
 * fill: below Program Files, or where the installer noted in HKLM that it put it; and not by way of a link.
 *
 * Built twice, with and without WINDOWED: console and windowed. It imports KERNEL32, ADVAPI32 and msvcrt alone, which
 * Windows never looks for outside of System32.
 */
#define WIN32_LEAN_AND_MEAN
#define _WIN32_WINNT 0x0A00
#include <windows.h>

#include <stdio.h>
#include <wchar.h>

#define Py_NO_ENABLE_SHARED
#include <Python.h>

#define LONGEST 1024
#define NOT_STARTED 70 /* of itself; the agent's own exit codes are below 10 and 130 */
#define LIBRARY L"wayleave-library.dll"
#define WIDE_(text) L## #text
#define WIDE(value) WIDE_(value)
#define PYTHON_DLL L"python" WIDE(PY_MAJOR_VERSION) WIDE(PY_MINOR_VERSION) L".dll"
#define INSTALLED_KEY L"SOFTWARE\\Wayleave\\Agent"
#define PROGRAM_FILES_KEY L"SOFTWARE\\Microsoft\\Windows\\CurrentVersion"

int _dowildcard = 0; /* arguments reach the agent as they were written */

static const char CODE[] = "import sys\nsys.frozen = True\nfrom agent.cli import main\nsys.exit(main())\n";

/* Python would ignore the first; OpenSSL loads libraries that the second names; the third writes down TLS keys. */
static const wchar_t *const UNWANTED[] = {L"PYTHON", L"OPENSSL", L"SSLKEYLOGFILE"};

static int fail(const wchar_t *what) {
  fwprintf(stderr, L"wayleave-agent: %ls (error %lu)\n", what, GetLastError());
  fflush(stderr);
  return NOT_STARTED;
}

/* The long path of an opened file or directory, links followed, without the prefix. 0 if it cannot be told. */
static int final_path(const wchar_t *path, wchar_t *found) {
  wchar_t told[LONGEST + 8];
  HANDLE file = CreateFileW(path, 0, FILE_SHARE_READ | FILE_SHARE_WRITE | FILE_SHARE_DELETE, NULL, OPEN_EXISTING,
                            FILE_FLAG_BACKUP_SEMANTICS, NULL);
  if (file == INVALID_HANDLE_VALUE) return 0;
  DWORD length = GetFinalPathNameByHandleW(file, told, LONGEST + 8, FILE_NAME_NORMALIZED | VOLUME_NAME_DOS);
  CloseHandle(file);
  /* A path that stays without a drive letter (a share, an unmounted volume) is none that we start from. */
  if (length < 7 || length >= LONGEST + 8 || wcsncmp(told, L"\\\\?\\", 4) != 0 || told[5] != L':') return 0;
  wcscpy(found, told + 4);
  return 1;
}

static int same(const wchar_t *one, const wchar_t *other, int length) {
  return CompareStringOrdinal(one, length, other, length, TRUE) == CSTR_EQUAL;
}

static int is_below(const wchar_t *directory, const wchar_t *root) {
  int length = (int)wcslen(root);
  while (length && root[length - 1] == L'\\') length--;
  return length > 2 && (int)wcslen(directory) > length && directory[length] == L'\\' && same(directory, root, length);
}

static int machine_value(const wchar_t *key, const wchar_t *name, wchar_t *value) {
  DWORD size = LONGEST * sizeof(wchar_t);
  return RegGetValueW(HKEY_LOCAL_MACHINE, key, name, RRF_RT_REG_SZ | RRF_SUBKEY_WOW6464KEY, NULL, value, &size) == 0;
}

/* Whether administrators alone fill this directory. */
static int is_trusted(const wchar_t *directory) {
  wchar_t value[LONGEST], noted[LONGEST];
  if (machine_value(PROGRAM_FILES_KEY, L"ProgramFilesDir", value) && is_below(directory, value)) return 1;
  return machine_value(INSTALLED_KEY, L"InstallDir", value) && final_path(value, noted) && same(directory, noted, -1);
}

/* The C runtime of Python and OpenSSL keeps its own copy of the variables, and may be loaded already. */
static void forget_unwanted_variables(void) {
  HMODULE runtime = LoadLibraryExW(L"ucrtbase.dll", NULL, LOAD_LIBRARY_SEARCH_SYSTEM32);
  int (*put)(const wchar_t *, const wchar_t *) = NULL;
  if (runtime) put = (__typeof__(put))(void (*)(void))GetProcAddress(runtime, "_wputenv_s");
  wchar_t *block = GetEnvironmentStringsW();
  if (block == NULL) return;
  for (wchar_t *entry = block; *entry; entry += wcslen(entry) + 1) {
    for (size_t index = 0; index < sizeof UNWANTED / sizeof *UNWANTED; index++) {
      int length = (int)wcslen(UNWANTED[index]);
      wchar_t *end = wcschr(entry + 1, L'=');
      if ((int)wcslen(entry) <= length || !same(entry, UNWANTED[index], length) || end == NULL) continue;
      *end = 0;
      SetEnvironmentVariableW(entry, NULL);
      if (put) put(entry, L"");
      *end = L'=';
    }
  }
  FreeEnvironmentStringsW(block);
}

/* The functions of python3xx.dll that are needed; found by name so that the DLL is loaded by us, from where we say. */
static struct {
  void (*PyPreConfig_InitIsolatedConfig)(PyPreConfig *);
  PyStatus (*Py_PreInitialize)(const PyPreConfig *);
  void (*PyConfig_InitIsolatedConfig)(PyConfig *);
  PyStatus (*PyConfig_SetString)(PyConfig *, wchar_t **, const wchar_t *);
  PyStatus (*PyConfig_SetArgv)(PyConfig *, Py_ssize_t, wchar_t *const *);
  PyStatus (*PyWideStringList_Append)(PyWideStringList *, const wchar_t *);
  PyStatus (*Py_InitializeFromConfig)(const PyConfig *);
  int (*PyStatus_Exception)(PyStatus);
  int (*PyRun_SimpleStringFlags)(const char *, PyCompilerFlags *);
  int (*Py_FinalizeEx)(void);
} py;

static int load_python(const wchar_t *directory) {
  wchar_t path[LONGEST];
  swprintf(path, LONGEST, L"%ls\\%ls", directory, PYTHON_DLL);
  HMODULE module = LoadLibraryExW(path, NULL, LOAD_LIBRARY_SEARCH_DLL_LOAD_DIR | LOAD_LIBRARY_SEARCH_SYSTEM32);
  if (module == NULL) return 0;
#define FIND(name) ((py.name = (__typeof__(py.name))(void (*)(void))GetProcAddress(module, #name)) != NULL)
  return FIND(PyPreConfig_InitIsolatedConfig) && FIND(Py_PreInitialize) && FIND(PyConfig_InitIsolatedConfig) &&
         FIND(PyConfig_SetString) && FIND(PyConfig_SetArgv) && FIND(PyWideStringList_Append) &&
         FIND(Py_InitializeFromConfig) && FIND(PyStatus_Exception) && FIND(PyRun_SimpleStringFlags) &&
         FIND(Py_FinalizeEx);
#undef FIND
}

static PyStatus start_python(const wchar_t *directory, const wchar_t *program, int argc, wchar_t **argv) {
  PyPreConfig before;
  PyConfig config;
  PyStatus status;
  wchar_t library[LONGEST];
  swprintf(library, LONGEST, L"%ls\\%ls", directory, LIBRARY);

  py.PyPreConfig_InitIsolatedConfig(&before);
  before.utf8_mode = 1; /* no codec of the machine's code page is looked for while starting */
  status = py.Py_PreInitialize(&before);
  if (py.PyStatus_Exception(status)) return status;

  py.PyConfig_InitIsolatedConfig(&config); /* no variables, no user site, arguments not parsed, no script's directory */
  config.site_import = 0;
  config.write_bytecode = 0;
  config.pathconfig_warnings = 0;
  config.install_signal_handlers = 1;
  config.use_frozen_modules = 1;
  config.module_search_paths_set = 1;
#define TRY(call) \
  status = call;  \
  if (py.PyStatus_Exception(status)) return status
  TRY(py.PyConfig_SetString(&config, &config.program_name, program));
  TRY(py.PyConfig_SetString(&config, &config.executable, program));
  TRY(py.PyConfig_SetString(&config, &config.base_executable, program));
  TRY(py.PyConfig_SetString(&config, &config.home, directory));
  TRY(py.PyConfig_SetString(&config, &config.prefix, directory));
  TRY(py.PyConfig_SetString(&config, &config.base_prefix, directory));
  TRY(py.PyConfig_SetString(&config, &config.exec_prefix, directory));
  TRY(py.PyConfig_SetString(&config, &config.base_exec_prefix, directory));
  TRY(py.PyConfig_SetString(&config, &config.stdlib_dir, library));
  TRY(py.PyConfig_SetString(&config, &config.stdio_encoding, L"utf-8"));
  TRY(py.PyConfig_SetString(&config, &config.stdio_errors, L"replace"));
  TRY(py.PyWideStringList_Append(&config.module_search_paths, library));
  TRY(py.PyWideStringList_Append(&config.module_search_paths, directory));
  TRY(py.PyConfig_SetArgv(&config, argc, argv));
#undef TRY
  return py.Py_InitializeFromConfig(&config);
}

static int run(int argc, wchar_t **argv) {
  wchar_t started[LONGEST], program[LONGEST], directory[LONGEST];

  SetDllDirectoryW(L"");
  SetDefaultDllDirectories(LOAD_LIBRARY_SEARCH_SYSTEM32);
  DWORD length = GetModuleFileNameW(NULL, started, LONGEST);
  if (length == 0 || length >= LONGEST || !final_path(started, program)) return fail(L"cannot tell where it is");
  /* 8.3 names are as good as long ones; a link or a substituted drive can be turned elsewhere while we run. */
  length = GetLongPathNameW(started, started, LONGEST);
  if (length == 0 || length >= LONGEST || !same(started, program, -1)) return fail(L"was started by way of a link");
  wcscpy(directory, program);
  wchar_t *name = wcsrchr(directory, L'\\');
  if (name == NULL) return fail(L"cannot tell where it is");
  *name = 0;
  SetLastError(0);
  if (!is_trusted(directory)) return fail(L"starts only from where it was installed, below Program Files");

  forget_unwanted_variables();
  if (!load_python(directory)) return fail(L"cannot load its Python");
  PyStatus status = start_python(directory, program, argc, argv);
  if (py.PyStatus_Exception(status)) {
    fwprintf(stderr, L"wayleave-agent: Python does not start: %hs\n", status.err_msg ? status.err_msg : "?");
    return NOT_STARTED;
  }
  int code = py.PyRun_SimpleStringFlags(CODE, NULL) == 0 ? 0 : NOT_STARTED;
  return py.Py_FinalizeEx() < 0 ? NOT_STARTED : code;
}

#ifdef WINDOWED
int WINAPI wWinMain(HINSTANCE instance, HINSTANCE previous, wchar_t *line, int show) {
  (void)instance, (void)previous, (void)line, (void)show;
  return run(__argc, __wargv);
}
#else
int wmain(int argc, wchar_t **argv) { return run(argc, argv); }
#endif
