// What the library asks of the operating system about files: system_posix.cpp and system_windows.cpp answer.
#ifndef LDM_FILES_SYSTEM_H
#define LDM_FILES_SYSTEM_H

#include <cstdint>
#include <string_view>

#include "src/files/path.h"

namespace ldm::files {

// A path as the system's own functions take it.
class NativePath {
public:
#if defined(_WIN32)
    explicit NativePath(const Path& path);
    const wchar_t* get() const { return text_; }

private:
    wchar_t text_[Path::room];
#else
    explicit NativePath(const Path& path) : text_(path.c_str()) {}
    const char* get() const { return text_; }

private:
    const char* text_;
#endif
};

// What the system answered: all is well, or its number of an error.
struct [[nodiscard]] Answer {
    std::uint32_t error = 0;

    bool ok() const { return error == 0; }
    bool is_missing() const;
    bool is_nowhere() const;  // missing, or below what is no folder
    bool is_taken() const;  // the name is another file's
};

// An answer as half a sentence.
struct Reason {
    explicit Reason(Answer answer);
    operator std::string_view() const { return {text, size}; }

    char text[256];
    std::size_t size;
};

enum class Kind : unsigned char { file, folder, link, other };

// What tells a file from another in its place.
struct Stamp {
    std::uint64_t device = 0;
    std::uint64_t inode = 0;
    std::uint64_t size = 0;  // bytes
    std::int64_t modified = 0;  // ns

    bool operator==(const Stamp& other) const {
        return device == other.device && inode == other.inode && size == other.size && modified == other.modified;
    }
    bool operator!=(const Stamp& other) const { return !(*this == other); }
};

struct FileStatus {
    Kind kind = Kind::other;
    Stamp stamp;
    std::int64_t changed = 0;  // ns; of content, permissions and names (in Windows when it was made, as Python has it)
    std::uint32_t mode = 0;  // permissions
    bool may_be_written = false;  // by somebody
};

enum class Links { follow, keep };

Answer look(const Path& path, Links links, FileStatus& out);

// The place that a path leads to, all links followed. It must exist.
Answer resolve(const Path& path, Path& out);

// A file that is read. Opening waits for nothing: no pipe's other end either.
class ReadFile {
public:
    ReadFile() = default;
    ~ReadFile() { close(); }
    ReadFile(const ReadFile&) = delete;
    ReadFile& operator=(const ReadFile&) = delete;

    // links: whether the last name may be a link.
    Answer open(const Path& path, Links links);
    Answer status(FileStatus& out);
    // Fill `data` from a place on; `got` is less than `size` at the end of the file only.
    Answer read(std::uint64_t offset, void* data, std::size_t size, std::size_t& got);
    void close();

private:
    std::intptr_t handle_ = -1;
};

// A new file that is written from its start.
class NewFile {
public:
    NewFile() = default;
    ~NewFile();
    NewFile(const NewFile&) = delete;
    NewFile& operator=(const NewFile&) = delete;

    // Make it; what has the name already stays, and the answer is_taken().
    Answer create(const Path& path);
    Answer write(std::string_view bytes);
    Answer set_mode(std::uint32_t mode);
    Answer sync_and_close();

private:
    std::intptr_t handle_ = -1;
};

// The names directly in a folder, without "." and "..", in no order.
class Listing {
public:
    Listing() = default;
    ~Listing();
    Listing(const Listing&) = delete;
    Listing& operator=(const Listing&) = delete;

    Answer open(const Path& folder);
    // False after the last one. `name` lasts until the next call; `kind` is that of the name, links not followed.
    bool next(std::string_view& name, Kind& kind);

private:
    void* handle_ = nullptr;
    Path folder_;
    Path name_;
};

Answer replace(const Path& from, const Path& to);     // rename, over a file that has the name
Answer rename_new(const Path& from, const Path& to);  // rename, never over another file
Answer link_file(const Path& from, const Path& to);   // another name of the same file, on the same disk
Answer remove_file(const Path& path);
Answer remove_folder(const Path& path);  // that is empty
Answer make_folders(const Path& path);  // with its parents
void sync_folder(const Path& path);     // its names outlive a power failure, where the system can
Answer try_writing(const Path& path);   // whether this user may

// A variable of the environment; false where it is not set. One that is too long for a path does not fit.
bool environment(const char* name, Path& out);
// The folder of the user's caches by the custom of the system; false where there is none.
bool user_cache(Path& out);
bool is_absolute(std::string_view path);
std::uint64_t process_number();  // another one in a forked process
// Digits that no other writer takes.
std::uint64_t fresh_number();

// A thread that is started once and joined.
class Thread {
public:
    Thread() = default;
    ~Thread() { join(); }
    Thread(const Thread&) = delete;
    Thread& operator=(const Thread&) = delete;

    bool start(void (*work)(void* user), void* user);  // false: the system has none left
    void join();

private:
    void (*work_)(void*) = nullptr;
    void* user_ = nullptr;
    std::uintptr_t handle_ = 0;
    bool runs_ = false;
    [[maybe_unused]] std::uint64_t process_ = 0;  // a forked one has no such thread; Windows forks none
};

}  // namespace ldm::files

#endif
