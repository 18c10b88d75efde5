// Files by Windows' own functions. It is compiled and linked; no test runs it.
#if defined(_WIN32)

#define WIN32_LEAN_AND_MEAN
#define NOMINMAX
#include <windows.h>

#include <atomic>
#include <cstdio>
#include <cstring>
#include <cwchar>

#include "src/files/system.h"

namespace ldm::files {

namespace {

constexpr std::uint32_t too_long = ERROR_FILENAME_EXCED_RANGE;
constexpr DWORD share_all = FILE_SHARE_READ | FILE_SHARE_WRITE | FILE_SHARE_DELETE;

Answer last() { return {static_cast<std::uint32_t>(::GetLastError())}; }
Answer answer(BOOL done) { return done ? Answer{} : last(); }

HANDLE handle_of(std::intptr_t handle) { return reinterpret_cast<HANDLE>(handle); }

// Text of Windows as UTF-8; false where it does not fit.
bool narrow(const wchar_t* wide, Path& out) {
    char text[Path::room];
    if (::WideCharToMultiByte(CP_UTF8, 0, wide, -1, text, sizeof text, nullptr, nullptr) == 0) return false;
    out = Path();
    out.add(text);
    return out.fits();
}

HANDLE open_handle(const Path& path, DWORD access, Links links) {
    NativePath native(path);
    DWORD flags = FILE_FLAG_BACKUP_SEMANTICS | (links == Links::keep ? FILE_FLAG_OPEN_REPARSE_POINT : 0);
    return ::CreateFileW(native.get(), access, share_all, nullptr, OPEN_EXISTING, flags, nullptr);
}

// Since 1970.
std::int64_t nanoseconds(const FILETIME& time) {
    constexpr std::int64_t from_1601_to_1970 = 116444736000000000;  // in 100 ns
    std::uint64_t since_1601 = std::uint64_t{time.dwHighDateTime} << 32 | time.dwLowDateTime;
    return (static_cast<std::int64_t>(since_1601) - from_1601_to_1970) * 100;
}

Answer status_of(HANDLE handle, FileStatus& out) {
    BY_HANDLE_FILE_INFORMATION info;
    if (!::GetFileInformationByHandle(handle, &info)) return last();
    bool is_link = (info.dwFileAttributes & FILE_ATTRIBUTE_REPARSE_POINT) != 0;
    bool is_folder = (info.dwFileAttributes & FILE_ATTRIBUTE_DIRECTORY) != 0;
    bool is_disk = ::GetFileType(handle) == FILE_TYPE_DISK;
    out.kind = is_link ? Kind::link : is_folder ? Kind::folder : is_disk ? Kind::file : Kind::other;
    out.stamp = {info.dwVolumeSerialNumber, std::uint64_t{info.nFileIndexHigh} << 32 | info.nFileIndexLow,
                 std::uint64_t{info.nFileSizeHigh} << 32 | info.nFileSizeLow, nanoseconds(info.ftLastWriteTime)};
    out.changed = nanoseconds(info.ftCreationTime);
    out.may_be_written = (info.dwFileAttributes & FILE_ATTRIBUTE_READONLY) == 0;
    return {};
}

}  // namespace

NativePath::NativePath(const Path& path) {
    int count = path.fits() ? ::MultiByteToWideChar(CP_UTF8, 0, path.c_str(), -1, text_, Path::room) : 0;
    if (count == 0) std::memcpy(text_, L"?", sizeof L"?");  // no file has that name
}

bool Answer::is_missing() const { return error == ERROR_FILE_NOT_FOUND || error == ERROR_PATH_NOT_FOUND; }
bool Answer::is_nowhere() const { return is_missing() || error == ERROR_DIRECTORY; }
bool Answer::is_taken() const { return error == ERROR_FILE_EXISTS || error == ERROR_ALREADY_EXISTS; }

Reason::Reason(Answer answer) {
    wchar_t wide[128];
    constexpr DWORD flags = FORMAT_MESSAGE_FROM_SYSTEM | FORMAT_MESSAGE_IGNORE_INSERTS | FORMAT_MESSAGE_MAX_WIDTH_MASK;
    DWORD count = ::FormatMessageW(flags, nullptr, answer.error, 0, wide, 128, nullptr);
    int bytes =
        ::WideCharToMultiByte(CP_UTF8, 0, wide, static_cast<int>(count), text, sizeof text - 1, nullptr, nullptr);
    while (bytes > 0 && (text[bytes - 1] == ' ' || text[bytes - 1] == '.')) --bytes;
    if (bytes <= 0)
        bytes = std::snprintf(text, sizeof text, "error %u of the system", static_cast<unsigned>(answer.error));
    size = static_cast<std::size_t>(bytes);
    text[size] = 0;
}

Answer look(const Path& path, Links links, FileStatus& out) {
    if (!path.fits()) return {too_long};
    HANDLE handle = open_handle(path, FILE_READ_ATTRIBUTES, links);
    if (handle == INVALID_HANDLE_VALUE) return last();
    Answer said = status_of(handle, out);
    ::CloseHandle(handle);
    return said;
}

Answer resolve(const Path& path, Path& out) {
    if (!path.fits()) return {too_long};
    HANDLE handle = open_handle(path, FILE_READ_ATTRIBUTES, Links::follow);
    if (handle == INVALID_HANDLE_VALUE) return last();
    wchar_t wide[Path::room];
    DWORD count = ::GetFinalPathNameByHandleW(handle, wide, Path::room, FILE_NAME_NORMALIZED);
    Answer said = count == 0 ? last() : count >= Path::room ? Answer{too_long} : Answer{};
    ::CloseHandle(handle);
    if (!said.ok()) return said;
    const wchar_t* start =
        std::wcsncmp(wide, L"\\\\?\\", 4) == 0 && std::wcsncmp(wide, L"\\\\?\\UNC", 7) != 0 ? wide + 4 : wide;
    Path real;
    if (!narrow(start, real)) return {too_long};
    out = Path(real.view());
    return {};
}

Answer ReadFile::open(const Path& path, Links links) {
    close();
    if (!path.fits()) return {too_long};
    HANDLE handle = open_handle(path, GENERIC_READ, links);
    if (handle == INVALID_HANDLE_VALUE) return last();
    handle_ = reinterpret_cast<std::intptr_t>(handle);
    return {};
}

Answer ReadFile::status(FileStatus& out) { return status_of(handle_of(handle_), out); }

Answer ReadFile::read(std::uint64_t offset, void* data, std::size_t size, std::size_t& got) {
    got = 0;
    while (got < size) {
        OVERLAPPED place{};
        place.Offset = static_cast<DWORD>(offset + got);
        place.OffsetHigh = static_cast<DWORD>((offset + got) >> 32);
        auto wanted = static_cast<DWORD>(size - got < (1u << 30) ? size - got : (1u << 30));
        DWORD count = 0;
        if (!::ReadFile(handle_of(handle_), static_cast<char*>(data) + got, wanted, &count, &place)) {
            if (::GetLastError() == ERROR_HANDLE_EOF) break;
            return last();
        }
        if (count == 0) break;
        got += count;
    }
    return {};
}

void ReadFile::close() {
    if (handle_ != -1) ::CloseHandle(handle_of(handle_));
    handle_ = -1;
}

NewFile::~NewFile() {
    if (handle_ != -1) ::CloseHandle(handle_of(handle_));
}

Answer NewFile::create(const Path& path) {
    if (!path.fits()) return {too_long};
    NativePath native(path);
    HANDLE handle = ::CreateFileW(native.get(), GENERIC_WRITE, FILE_SHARE_READ, nullptr, CREATE_NEW,
                                  FILE_ATTRIBUTE_NORMAL, nullptr);
    if (handle == INVALID_HANDLE_VALUE) return last();
    handle_ = reinterpret_cast<std::intptr_t>(handle);
    return {};
}

Answer NewFile::write(std::string_view bytes) {
    while (!bytes.empty()) {
        auto wanted = static_cast<DWORD>(bytes.size() < (1u << 30) ? bytes.size() : (1u << 30));
        DWORD count = 0;
        if (!::WriteFile(handle_of(handle_), bytes.data(), wanted, &count, nullptr)) return last();
        bytes.remove_prefix(count);
    }
    return {};
}

Answer NewFile::set_mode(std::uint32_t) { return {}; }

Answer NewFile::sync_and_close() {
    Answer synced = answer(::FlushFileBuffers(handle_of(handle_)));
    Answer closed = answer(::CloseHandle(handle_of(handle_)));
    handle_ = -1;
    return synced.ok() ? closed : synced;
}

// handle_: of the search, whose first entry `next` gives before it asks for another.
struct Search {
    HANDLE handle;
    WIN32_FIND_DATAW entry;
    bool is_first;
};

Listing::~Listing() {
    if (handle_ == nullptr) return;
    auto* search = static_cast<Search*>(handle_);
    ::FindClose(search->handle);
    ::HeapFree(::GetProcessHeap(), 0, search);
}

Answer Listing::open(const Path& folder) {
    Path all(folder, "*");
    if (!all.fits()) return {too_long};
    NativePath native(all);
    auto* search = static_cast<Search*>(::HeapAlloc(::GetProcessHeap(), 0, sizeof(Search)));
    if (search == nullptr) return {ERROR_NOT_ENOUGH_MEMORY};
    search->handle = ::FindFirstFileW(native.get(), &search->entry);
    search->is_first = true;
    if (search->handle == INVALID_HANDLE_VALUE) {
        Answer said = last();
        ::HeapFree(::GetProcessHeap(), 0, search);
        return said;
    }
    folder_ = folder;
    handle_ = search;
    return {};
}

bool Listing::next(std::string_view& name, Kind& kind) {
    auto* search = static_cast<Search*>(handle_);
    do {
        if (!search->is_first && !::FindNextFileW(search->handle, &search->entry)) return false;
        search->is_first = false;
        if (!narrow(search->entry.cFileName, name_)) name_ = Path("?");
    } while (name_.view() == "." || name_.view() == "..");
    name = name_.view();
    DWORD attributes = search->entry.dwFileAttributes;
    kind = (attributes & FILE_ATTRIBUTE_REPARSE_POINT) != 0 ? Kind::link
           : (attributes & FILE_ATTRIBUTE_DIRECTORY) != 0   ? Kind::folder
                                                            : Kind::file;
    return true;
}

Answer replace(const Path& from, const Path& to) {
    if (!from.fits() || !to.fits()) return {too_long};
    NativePath old_name(from), new_name(to);
    return answer(::MoveFileExW(old_name.get(), new_name.get(), MOVEFILE_REPLACE_EXISTING | MOVEFILE_WRITE_THROUGH));
}

Answer rename_new(const Path& from, const Path& to) {
    if (!from.fits() || !to.fits()) return {too_long};
    NativePath old_name(from), new_name(to);
    return answer(::MoveFileExW(old_name.get(), new_name.get(), MOVEFILE_WRITE_THROUGH));
}

Answer link_file(const Path& from, const Path& to) {
    if (!from.fits() || !to.fits()) return {too_long};
    NativePath old_name(from), new_name(to);
    return answer(::CreateHardLinkW(new_name.get(), old_name.get(), nullptr));
}

Answer remove_file(const Path& path) {
    if (!path.fits()) return {too_long};
    NativePath native(path);
    return answer(::DeleteFileW(native.get()));
}

Answer remove_folder(const Path& path) {
    if (!path.fits()) return {too_long};
    NativePath native(path);
    return answer(::RemoveDirectoryW(native.get()));
}

Answer make_folders(const Path& path) {
    if (!path.fits()) return {too_long};
    std::string_view text = path.view();
    for (std::size_t end = 1; end <= text.size(); ++end) {
        bool is_name = end == text.size() || separators.find(text[end]) != std::string_view::npos;
        if (!is_name || text[end - 1] == ':') continue;
        Path above(text.substr(0, end));
        NativePath native(above);
        if (::CreateDirectoryW(native.get(), nullptr)) continue;
        Answer said = last();
        FileStatus status;
        if (!said.is_taken() && !look(above, Links::follow, status).ok()) return said;
    }
    return {};
}

void sync_folder(const Path&) {}

Answer try_writing(const Path& path) {
    if (!path.fits()) return {too_long};
    HANDLE handle = open_handle(path, GENERIC_WRITE, Links::keep);
    if (handle == INVALID_HANDLE_VALUE) return last();
    ::CloseHandle(handle);
    return {};
}

bool environment(const char* name, Path& out) {
    static constexpr char unfitting[Path::room] = {};
    wchar_t wide[Path::room];
    out = Path();
    Path its_name;
    its_name.add(name);
    NativePath native(its_name);
    DWORD count = ::GetEnvironmentVariableW(native.get(), wide, Path::room);
    if (count == 0) return false;
    if (count >= Path::room || !narrow(wide, out)) out.add(std::string_view(unfitting, sizeof unfitting));
    return true;
}

bool user_cache(Path& out) {
    if (environment("LOCALAPPDATA", out) && is_absolute(out)) return true;
    if (!environment("USERPROFILE", out)) return false;
    out = Path(Path(Path(out.view()), "AppData"), "Local");
    return is_absolute(out);
}

bool is_absolute(std::string_view path) {
    bool has_drive = path.size() > 2 && path[1] == ':' && separators.find(path[2]) != std::string_view::npos;
    return has_drive || path.substr(0, 2) == "\\\\";
}

std::uint64_t process_number() { return ::GetCurrentProcessId(); }

std::uint64_t fresh_number() {
    static std::atomic<std::uint64_t> count{0};
    LARGE_INTEGER ticks;
    FILETIME now;
    ::QueryPerformanceCounter(&ticks);
    ::GetSystemTimeAsFileTime(&now);
    std::uint64_t time = std::uint64_t{now.dwHighDateTime} << 32 | now.dwLowDateTime;
    return (time ^ static_cast<std::uint64_t>(ticks.QuadPart) << 20 ^ process_number() << 44) +
           count.fetch_add(1) * 0x9e3779b97f4a7c15u;
}

bool Thread::start(void (*work)(void*), void* user) {
    work_ = work;
    user_ = user;
    auto run = [](void* self) -> DWORD {
        static_cast<Thread*>(self)->work_(static_cast<Thread*>(self)->user_);
        return 0;
    };
    LPTHREAD_START_ROUTINE routine = run;
    HANDLE handle = ::CreateThread(nullptr, 0, routine, this, 0, nullptr);
    runs_ = handle != nullptr;
    if (runs_) handle_ = reinterpret_cast<std::uintptr_t>(handle);
    return runs_;
}

void Thread::join() {
    if (!runs_) return;
    ::WaitForSingleObject(reinterpret_cast<HANDLE>(handle_), INFINITE);
    ::CloseHandle(reinterpret_cast<HANDLE>(handle_));
    runs_ = false;
}

}  // namespace ldm::files

#endif
