// Files by POSIX: Linux and macOS.
#if !defined(_WIN32)

#include <dirent.h>
#include <fcntl.h>
#include <pthread.h>
#include <pwd.h>
#include <sys/stat.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <climits>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <ctime>

#include "src/files/system.h"

namespace ldm::files {

namespace {

Answer last() { return {static_cast<std::uint32_t>(errno)}; }
Answer answer(bool done) { return done ? Answer{} : last(); }

int descriptor(std::intptr_t handle) { return static_cast<int>(handle); }

// strerror_r gives text or a number, by the C library.
[[maybe_unused]] const char* text_of(const char* text, const char*) { return text; }
[[maybe_unused]] const char* text_of(int failed, const char* text) { return failed == 0 ? text : "unknown error"; }

std::int64_t nanoseconds(const timespec& time) {
    return static_cast<std::int64_t>(time.tv_sec) * 1000000000 + static_cast<std::int64_t>(time.tv_nsec);
}

FileStatus converted(const struct stat& status) {
    FileStatus out;
    out.kind = S_ISREG(status.st_mode)   ? Kind::file
               : S_ISDIR(status.st_mode) ? Kind::folder
               : S_ISLNK(status.st_mode) ? Kind::link
                                         : Kind::other;
#if defined(__APPLE__)
    const timespec &modified = status.st_mtimespec, &changed = status.st_ctimespec;
#else
    const timespec &modified = status.st_mtim, &changed = status.st_ctim;
#endif
    out.stamp = {static_cast<std::uint64_t>(status.st_dev), static_cast<std::uint64_t>(status.st_ino),
                 static_cast<std::uint64_t>(status.st_size), nanoseconds(modified)};
    out.changed = nanoseconds(changed);
    out.mode = static_cast<std::uint32_t>(status.st_mode & 07777);
    out.may_be_written = (status.st_mode & 0222) != 0;
    return out;
}

}  // namespace

bool Answer::is_missing() const { return error == ENOENT; }
bool Answer::is_nowhere() const { return error == ENOENT || error == ENOTDIR; }
bool Answer::is_taken() const { return error == EEXIST; }

Reason::Reason(Answer answer) {
    text[0] = 0;
    const char* said = text_of(::strerror_r(static_cast<int>(answer.error), text, sizeof text), text);
    size = std::strlen(said);
    if (size > sizeof text - 1) size = sizeof text - 1;
    std::memmove(text, said, size);
    text[size] = 0;
}

Answer look(const Path& path, Links links, FileStatus& out) {
    if (!path.fits()) return {ENAMETOOLONG};
    struct stat status;
    if ((links == Links::follow ? ::stat(path.c_str(), &status) : ::lstat(path.c_str(), &status)) != 0) return last();
    out = converted(status);
    return {};
}

Answer resolve(const Path& path, Path& out) {
    if (!path.fits()) return {ENAMETOOLONG};
    char real[PATH_MAX];
    if (::realpath(path.c_str(), real) == nullptr) return last();
    out = Path(real);
    return {};
}

Answer ReadFile::open(const Path& path, Links links) {
    close();
    if (!path.fits()) return {ENAMETOOLONG};
    handle_ = ::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK | (links == Links::keep ? O_NOFOLLOW : 0));
    return answer(handle_ >= 0);
}

Answer ReadFile::status(FileStatus& out) {
    struct stat status;
    if (::fstat(descriptor(handle_), &status) != 0) return last();
    out = converted(status);
    return {};
}

Answer ReadFile::read(std::uint64_t offset, void* data, std::size_t size, std::size_t& got) {
    got = 0;
    while (got < size) {
        auto place = static_cast<off_t>(offset + got);
        ssize_t count = ::pread(descriptor(handle_), static_cast<char*>(data) + got, size - got, place);
        if (count < 0 && errno == EINTR) continue;
        if (count < 0) return last();
        if (count == 0) break;
        got += static_cast<std::size_t>(count);
    }
    return {};
}

void ReadFile::close() {
    if (handle_ >= 0) ::close(descriptor(handle_));
    handle_ = -1;
}

NewFile::~NewFile() {
    if (handle_ >= 0) ::close(descriptor(handle_));
}

Answer NewFile::create(const Path& path) {
    if (!path.fits()) return {ENAMETOOLONG};
    handle_ = ::open(path.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
    return answer(handle_ >= 0);
}

Answer NewFile::write(std::string_view bytes) {
    while (!bytes.empty()) {
        ssize_t count = ::write(descriptor(handle_), bytes.data(), bytes.size());
        if (count < 0 && errno == EINTR) continue;
        if (count < 0) return last();
        bytes.remove_prefix(static_cast<std::size_t>(count));
    }
    return {};
}

Answer NewFile::set_mode(std::uint32_t mode) {
    return answer(::fchmod(descriptor(handle_), static_cast<mode_t>(mode)) == 0);
}

Answer NewFile::sync_and_close() {
    Answer synced = answer(::fsync(descriptor(handle_)) == 0);
    if (synced.error == EINVAL || synced.error == ENOTSUP) synced = {};  // some file systems cannot
    Answer closed = answer(::close(descriptor(handle_)) == 0);
    handle_ = -1;
    return synced.ok() ? closed : synced;
}

Listing::~Listing() {
    if (handle_ != nullptr) ::closedir(static_cast<DIR*>(handle_));
}

Answer Listing::open(const Path& folder) {
    if (!folder.fits()) return {ENAMETOOLONG};
    folder_ = folder;
    handle_ = ::opendir(folder.c_str());
    return answer(handle_ != nullptr);
}

bool Listing::next(std::string_view& name, Kind& kind) {
    const dirent* entry;
    do {
        entry = ::readdir(static_cast<DIR*>(handle_));
        if (entry == nullptr) return false;
        name_ = Path();
        name_.add(entry->d_name);
    } while (name_.view() == "." || name_.view() == "..");
    name = name_.view();
    kind = entry->d_type == DT_REG   ? Kind::file
           : entry->d_type == DT_DIR ? Kind::folder
           : entry->d_type == DT_LNK ? Kind::link
                                     : Kind::other;
    FileStatus status;
    if (entry->d_type == DT_UNKNOWN && look(Path(folder_, name), Links::keep, status).ok()) kind = status.kind;
    return true;
}

Answer replace(const Path& from, const Path& to) {
    if (!from.fits() || !to.fits()) return {ENAMETOOLONG};
    return answer(::rename(from.c_str(), to.c_str()) == 0);
}

Answer rename_new(const Path& from, const Path& to) {
    if (!from.fits() || !to.fits()) return {ENAMETOOLONG};
    if (::link(from.c_str(), to.c_str()) == 0) return remove_file(from);
    Answer refused = last();
    FileStatus there;
    if (refused.is_taken() || look(to, Links::keep, there).ok()) return {EEXIST};
    return replace(from, to);  // a file system without hard links
}

Answer link_file(const Path& from, const Path& to) {
    if (!from.fits() || !to.fits()) return {ENAMETOOLONG};
    return answer(::link(from.c_str(), to.c_str()) == 0);
}

Answer remove_file(const Path& path) {
    if (!path.fits()) return {ENAMETOOLONG};
    return answer(::unlink(path.c_str()) == 0);
}

Answer remove_folder(const Path& path) {
    if (!path.fits()) return {ENAMETOOLONG};
    return answer(::rmdir(path.c_str()) == 0);
}

Answer make_folders(const Path& path) {
    if (!path.fits()) return {ENAMETOOLONG};
    for (std::size_t end = 1; end <= path.view().size(); ++end) {
        if (end < path.view().size() && path.view()[end] != '/') continue;
        Path above(path.view().substr(0, end));
        if (::mkdir(above.c_str(), 0777) != 0 && errno != EEXIST) return last();
    }
    return {};
}

void sync_folder(const Path& path) {
    int folder = ::open(path.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (folder < 0) return;
    if (::fsync(folder) != 0) errno = 0;  // some network file systems cannot
    ::close(folder);
}

Answer try_writing(const Path& path) {
    if (!path.fits()) return {ENAMETOOLONG};
    int file = ::open(path.c_str(), O_WRONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
    if (file < 0) return last();
    ::close(file);
    return {};
}

bool environment(const char* name, Path& out) {
    const char* value = std::getenv(name);
    if (value == nullptr) return false;
    out = Path();
    out.add(value);
    return true;
}

bool user_cache(Path& out) {
#if defined(__APPLE__)
    constexpr std::string_view below = "Library/Caches";
#else
    constexpr std::string_view below = ".cache";
    if (environment("XDG_CACHE_HOME", out) && is_absolute(out)) return true;
#endif
    if (!environment("HOME", out)) {
        passwd entry;
        passwd* found = nullptr;
        char texts[4096];
        if (::getpwuid_r(::getuid(), &entry, texts, sizeof texts, &found) != 0 || found == nullptr) return false;
        out = Path(entry.pw_dir);
    }
    out = Path(Path(out.view()), below);
    return is_absolute(out);
}

bool is_absolute(std::string_view path) { return !path.empty() && path[0] == '/'; }

std::uint64_t process_number() { return static_cast<std::uint64_t>(::getpid()); }

std::uint64_t fresh_number() {
    static std::atomic<std::uint64_t> count{0};
    timespec now{};
    ::clock_gettime(CLOCK_REALTIME, &now);
    std::uint64_t number = static_cast<std::uint64_t>(now.tv_sec) << 30 ^ static_cast<std::uint64_t>(now.tv_nsec);
    return number ^ process_number() << 44 ^ count.fetch_add(1) * 0x9e3779b97f4a7c15u;
}

bool Thread::start(void (*work)(void*), void* user) {
    work_ = work;
    user_ = user;
    auto run = [](void* self) -> void* {
        static_cast<Thread*>(self)->work_(static_cast<Thread*>(self)->user_);
        return nullptr;
    };
    pthread_t thread;
    runs_ = ::pthread_create(&thread, nullptr, run, this) == 0;
    if (runs_) std::memcpy(&handle_, &thread, sizeof thread);
    process_ = process_number();
    return runs_;
}

void Thread::join() {
    if (!runs_ || process_ != process_number()) return;
    pthread_t thread;
    static_assert(sizeof thread <= sizeof handle_);
    std::memcpy(&thread, &handle_, sizeof thread);
    ::pthread_join(thread, nullptr);
    runs_ = false;
}

}  // namespace ldm::files

#endif
