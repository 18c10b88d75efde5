// SHA-256 of the files of a folder, remembered in the user's cache folder until a file changes: the file of the Python
// runtime, in its format, so that either finds what the other has measured.
//
// A file counts as unchanged while its device, inode, size, modification time and time of change (of its content,
// permissions and names, which no program sets) are the same, in ns. Whoever can forge those, with the clock or the
// disk, can change files unseen; a full check does not use this.
#ifndef LDM_FILES_HASH_CACHE_H
#define LDM_FILES_HASH_CACHE_H

#include <initializer_list>
#include <string_view>

#include "core/memory.h"
#include "core/sha256.h"
#include "core/status.h"
#include "core/text/words.h"
#include "src/files/system.h"

namespace ldm::files {

// The state in which a file is measured.
struct FileState {
    Stamp stamp;
    std::int64_t changed = 0;  // ns

    FileState() = default;
    explicit FileState(const FileStatus& status) : stamp(status.stamp), changed(status.changed) {}
    bool operator==(const FileState& other) const { return stamp == other.stamp && changed == other.changed; }
};

// The folder that is made and tried by these names in the user's cache; false where nothing can be kept in it.
bool make_cache_folder(std::initializer_list<std::string_view> names, Path& out);

class HashCache {
public:
    explicit HashCache(Allocator& memory) : texts_(memory), known_(memory) {}

    // Read what is remembered of a folder, whose path has no links; what cannot be read counts as nothing.
    Status load(Scope& scope, const Path& folder);
    // The digest of `name`, in hexadecimal, if it was measured while the file was in this state; else "".
    std::string_view find(std::string_view name, const FileState& state) const;
    Status remember(Scope& scope, std::string_view name, const FileState& state, const Digest::Hex& digest);
    // Write what was measured; where that is not possible the next load hashes again.
    Status save(Scope& scope);

private:
    struct Known {
        std::string_view name;
        FileState state;
        std::string_view digest;
    };

    Status read(Scope& scope, std::string_view text);
    void put(Words& words) const;

    Path place_;  // "": nothing is remembered
    Arena texts_;
    Array<Known> known_;
    bool has_changed_ = false;
};

}  // namespace ldm::files

#endif
