// A wevtapi.dll for Wine, whose own one knows no event: it serves C:\events\CHANNEL.xml, with '/' in the channel's name
// written as %4 (as Windows names its .evtx files). The file holds <Event>...</Event> elements one after another, oldest
// first, each with its <EventRecordID>. A file CHANNEL.denied beside it makes the channel answer "access denied".
//
// What it knows: EvtQuery by channel or by a structured query's first Path, with the conditions Provider[@Name='P'],
// EventRecordID > or >= N and EventID=N (joined by "or") of its XPath, forward or in reverse; EvtNext; EvtRender as XML or as a bookmark;
// bookmarks and EvtSeek; the number of records and the oldest one (EvtOpenLog, EvtGetLogInfo); EvtClose.
#include <windows.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <wchar.h>

#define EXPORT __declspec(dllexport)
#define CHANNEL_NOT_FOUND 15007
#define MOST_EVENTS 200000

enum kind { QUERY = 0x51, EVENT, BOOKMARK, LOG };
struct handle {
    enum kind kind;
    WCHAR *channel;
    WCHAR **events;  // of a query or a log
    size_t count, next;
    WCHAR *xml;  // of an event
    unsigned long long record;
};

static unsigned long long number_after(const WCHAR *text, const WCHAR *name) {
    const WCHAR *found = wcsstr(text, name);
    return found ? _wcstoui64(found + wcslen(name), NULL, 10) : 0;
}

static unsigned long long record_of(const WCHAR *event) { return number_after(event, L"<EventRecordID>"); }

static unsigned long long id_of(const WCHAR *event) {
    const WCHAR *element = wcsstr(event, L"<EventID");
    element = element ? wcschr(element, L'>') : NULL;
    return element ? _wcstoui64(element + 1, NULL, 10) : 0;
}

static int exists(const WCHAR *path) { return GetFileAttributesW(path) != INVALID_FILE_ATTRIBUTES; }

static void path_of(const WCHAR *channel, const WCHAR *ending, WCHAR *path) {
    size_t used = swprintf(path, 600, L"C:\\events\\");
    for (; *channel && used < 560; channel++) used += swprintf(path + used, 600 - used, *channel == L'/' ? L"%%4" : L"%lc", *channel);
    wcscpy(path + used, ending);
}

// Whether an event meets the XPath's conditions; one without any is met by all.
static int meets(const WCHAR *event, const WCHAR *query) {
    unsigned long long record = record_of(event);
    const WCHAR *provider = query ? wcsstr(query, L"Provider[@Name='") : NULL;
    if (provider) {
        WCHAR wanted[300] = L"<Provider Name='";
        size_t used = wcslen(wanted), length;
        provider += wcslen(L"Provider[@Name='");
        length = wcscspn(provider, L"'");
        if (length > 250) return 0;
        wcsncat(wanted + used, provider, length);
        wcscat(wanted, L"'");
        if (!wcsstr(event, wanted)) return 0;
    }
    const WCHAR *bound = query ? wcsstr(query, L"EventRecordID") : NULL;
    if (bound) {
        bound += wcslen(L"EventRecordID");
        while (*bound == L' ') bound++;
        int escaped = !wcsncmp(bound, L"&gt;", 4);
        if (escaped || *bound == L'>') {
            bound += escaped ? 4 : 1;
            int inclusive = *bound == L'=';
            unsigned long long least = _wcstoui64(bound + inclusive, NULL, 10);
            if (record < least || (record == least && !inclusive)) return 0;
        }
    }
    const WCHAR *wanted = query ? wcsstr(query, L"EventID") : NULL;
    if (!wanted) return 1;
    for (; wanted; wanted = wcsstr(wanted + 1, L"EventID"))
        if (number_after(wanted, L"=") == id_of(event)) return 1;
    return 0;
}

// Reads a channel's events into a handle. On failure the last error is set.
static int load(const WCHAR *channel, const WCHAR *query, struct handle *handle) {
    WCHAR path[620];
    path_of(channel, L".denied", path);
    if (exists(path)) return SetLastError(ERROR_ACCESS_DENIED), 0;
    path_of(channel, L".xml", path);
    FILE *file = _wfopen(path, L"rb");
    if (!file) return SetLastError(CHANNEL_NOT_FOUND), 0;
    fseek(file, 0, SEEK_END);
    long size = ftell(file);
    rewind(file);
    char *bytes = calloc(1, size + 1);
    size_t done = fread(bytes, 1, size, file);
    fclose(file);
    WCHAR *text = calloc(done + 1, sizeof *text);
    MultiByteToWideChar(CP_UTF8, 0, bytes, (int)done, text, (int)done);
    free(bytes);
    handle->events = calloc(MOST_EVENTS, sizeof *handle->events);
    for (WCHAR *event = wcsstr(text, L"<Event "); event && handle->count < MOST_EVENTS;) {
        WCHAR *end = wcsstr(event, L"</Event>");
        if (!end) break;
        WCHAR *next = wcsstr(end, L"<Event ");
        end[8] = 0;
        if (meets(event, query)) handle->events[handle->count++] = _wcsdup(event);
        event = next;
    }
    free(text);
    handle->channel = _wcsdup(channel);
    return 1;
}

static struct handle *make(enum kind kind) {
    struct handle *handle = calloc(1, sizeof *handle);
    handle->kind = kind;
    return handle;
}

EXPORT BOOL WINAPI EvtClose(HANDLE object) {
    struct handle *handle = object;
    if (!handle) return SetLastError(ERROR_INVALID_HANDLE), FALSE;
    if (handle->events)
        for (size_t i = 0; i < handle->count; i++) free(handle->events[i]);
    free(handle->events);
    free(handle->channel);
    free(handle->xml);
    free(handle);
    return TRUE;
}

EXPORT HANDLE WINAPI EvtQuery(HANDLE session, LPCWSTR path, LPCWSTR query, DWORD flags) {
    WCHAR channel[300] = L"";
    const WCHAR *named = !path && query ? wcsstr(query, L"Path=") : NULL;
    if (session) return SetLastError(ERROR_NOT_SUPPORTED), NULL;
    if (path) wcsncpy(channel, path, 299);
    else if (named) wcsncpy(channel, named + 6, wcscspn(named + 6, L"\"'") < 299 ? wcscspn(named + 6, L"\"'") : 299);
    struct handle *handle = make(QUERY);
    if (!load(channel, query, handle)) {
        DWORD error = GetLastError();
        EvtClose(handle);
        return SetLastError(error), NULL;
    }
    for (size_t i = 0; (flags & 0x200) && i < handle->count / 2; i++) {
        WCHAR *other = handle->events[i];
        handle->events[i] = handle->events[handle->count - 1 - i];
        handle->events[handle->count - 1 - i] = other;
    }
    return handle;
}

EXPORT BOOL WINAPI EvtNext(HANDLE result, DWORD size, HANDLE *events, DWORD timeout, DWORD flags, DWORD *returned) {
    struct handle *query = result;
    (void)timeout, (void)flags;
    for (*returned = 0; *returned < size && query->next < query->count; ++*returned) {
        struct handle *event = make(EVENT);
        event->xml = _wcsdup(query->events[query->next++]);
        event->channel = _wcsdup(query->channel);
        event->record = record_of(event->xml);
        events[*returned] = event;
    }
    if (!*returned) SetLastError(ERROR_NO_MORE_ITEMS);
    return *returned > 0;
}

EXPORT BOOL WINAPI EvtRender(HANDLE context, HANDLE fragment, DWORD flags, DWORD size, void *buffer, DWORD *used, DWORD *properties) {
    struct handle *handle = fragment;
    WCHAR bookmark[700];
    const WCHAR *text = bookmark;
    if (context || (flags == 1) != (handle->kind == EVENT) || (flags == 2) != (handle->kind == BOOKMARK) || flags < 1 || flags > 2)
        return SetLastError(ERROR_INVALID_PARAMETER), FALSE;
    if (flags == 1) text = handle->xml;
    else if (handle->record)
        swprintf(bookmark, 700, L"<BookmarkList><Bookmark Channel='%ls' RecordId='%llu' IsCurrent='true'/></BookmarkList>", handle->channel, handle->record);
    else wcscpy(bookmark, L"<BookmarkList/>");
    *used = (DWORD)((wcslen(text) + 1) * sizeof *text);
    if (properties) *properties = 0;
    if (size < *used) return SetLastError(ERROR_INSUFFICIENT_BUFFER), FALSE;
    memcpy(buffer, text, *used);
    return TRUE;
}

EXPORT HANDLE WINAPI EvtCreateBookmark(LPCWSTR xml) {
    struct handle *bookmark = make(BOOKMARK);
    const WCHAR *channel = xml ? wcsstr(xml, L"Channel=") : NULL, *record = xml ? wcsstr(xml, L"RecordId=") : NULL;
    if (channel && record) {
        bookmark->channel = calloc(300, sizeof(WCHAR));
        wcsncpy(bookmark->channel, channel + 9, wcscspn(channel + 9, L"\"'") < 299 ? wcscspn(channel + 9, L"\"'") : 299);
        bookmark->record = _wcstoui64(record + 10, NULL, 10);
    }
    return bookmark;
}

EXPORT BOOL WINAPI EvtUpdateBookmark(HANDLE object, HANDLE event) {
    struct handle *bookmark = object, *at = event;
    free(bookmark->channel);
    bookmark->channel = _wcsdup(at->channel);
    bookmark->record = at->record;
    return TRUE;
}

// Relative to a bookmark: 0 is its event, 1 the one after. Without the strict flag the nearest later event will do.
EXPORT BOOL WINAPI EvtSeek(HANDLE result, LONGLONG position, HANDLE object, DWORD timeout, DWORD flags) {
    struct handle *query = result, *bookmark = object;
    size_t at = 0;
    (void)timeout;
    switch (flags & 7) {
    case 1: break;
    case 2: at = query->count ? query->count - 1 : 0; break;
    case 3: at = query->next; break;
    case 4:
        while (at < query->count && record_of(query->events[at]) < bookmark->record) at++;
        if (at == query->count || record_of(query->events[at]) != bookmark->record) {
            if (flags & 0x10000) return SetLastError(ERROR_NOT_FOUND), FALSE;
            if (position > 0) position--;
        }
        break;
    default: return SetLastError(ERROR_INVALID_PARAMETER), FALSE;
    }
    long long target = (long long)at + position;
    query->next = target < 0 ? 0 : target > (long long)query->count ? query->count : (size_t)target;
    return TRUE;
}

EXPORT HANDLE WINAPI EvtOpenLog(HANDLE session, LPCWSTR path, DWORD flags) {
    struct handle *log = make(LOG);
    if (session || flags != 1) SetLastError(ERROR_NOT_SUPPORTED);
    else if (load(path, NULL, log)) return log;
    DWORD error = GetLastError();
    EvtClose(log);
    return SetLastError(error), NULL;
}

EXPORT BOOL WINAPI EvtGetLogInfo(HANDLE object, DWORD property, DWORD size, void *buffer, DWORD *used) {
    struct handle *log = object;
    struct { unsigned long long value; DWORD count, type; } *variant = buffer;
    *used = sizeof *variant;
    if (property != 5 && property != 6) return SetLastError(ERROR_INVALID_PARAMETER), FALSE;
    if (size < sizeof *variant) return SetLastError(ERROR_INSUFFICIENT_BUFFER), FALSE;
    variant->value = property == 5 ? log->count : log->count ? record_of(log->events[0]) : 0;
    variant->count = 0;
    variant->type = 10;  // EvtVarTypeUInt64
    return TRUE;
}
