// The identity of a package's files: their SHA-256, computed on a thread while the caller opens its engine.
#ifndef LDM_FILES_HASHES_H
#define LDM_FILES_HASHES_H

#include <atomic>
#include <mutex>

#include "core/memory.h"
#include "core/status.h"
#include "src/files/folder.h"
#include "src/files/hash_cache.h"

namespace ldm::files {

struct Expected {
    std::string_view name;
    std::string_view sha256;  // 64 lower-case hexadecimal digits
};

// Used once: `prepare`, perhaps `start`, then `confirm`, which threads may call at once. The thread takes no memory
// from the allocator: what it needs is prepared. It does not move.
class Hashes {
public:
    explicit Hashes(Allocator& memory) : cache_(memory), files_(memory), block_(memory) {}
    ~Hashes();
    Hashes(const Hashes&) = delete;
    Hashes& operator=(const Hashes&) = delete;

    // Say which files shall be what. folder and the texts must outlive this. use_cache: trust what is remembered.
    Status prepare(Scope& scope, const Folder& folder, View<Expected> expected, bool use_cache);
    // Hash on a thread from now on; where the system has none left, `confirm` does it.
    void start();
    // Wait for the hashes, or compute them. Codes: file.hash, missing, unreadable.
    Status confirm(Scope& scope);

    // Files whose hashes were remembered, and those whose were not.
    std::size_t known() const;
    std::size_t measured() const { return files_.size() - known(); }

private:
    struct File {
        Expected expected;
        FileState state;
        Digest::Hex digest;
        bool is_known;    // remembered
        bool is_settled;  // did not change while it was hashed
    };
    static constexpr std::size_t none = static_cast<std::size_t>(-1);

    void work();
    Answer measure(File& file);
    Status finish(Scope& scope);
    Status refuse(Scope& scope, const File& file) const;

    const Folder* folder_ = nullptr;
    HashCache cache_;
    Array<File> files_;
    Array<char> block_;
    Thread thread_;
    std::mutex waiting_;
    std::atomic<bool> stops_{false};
    bool has_started_ = false, is_done_ = false;
    std::uint64_t process_ = 0;  // in which the thread was started
    std::size_t failed_ = none;  // the first file that is not what it shall be
    Answer trouble_;             // of the system with that file
};

}  // namespace ldm::files

#endif
