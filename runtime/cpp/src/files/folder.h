// The one rule for every reader of a package's folder: which files are read, and when a link is followed. The same as
// ModelFolder of the Python runtime.
//
// A package comes from somebody else, and a link in it could lead to any file of the reader's. So a name counts only if
// the place that all its links lead to is
//   - in the folder itself, or
//   - where the folder is a snapshot in the cache of Hugging Face's hub (…/models--OWNER--NAME/snapshots/REVISION),
//     directly in …/models--OWNER--NAME/blobs, which holds the contents of all revisions of that one repository.
// What is there must be a regular file: no folder, pipe, socket or device.
#ifndef LDM_FILES_FOLDER_H
#define LDM_FILES_FOLDER_H

#include "core/memory.h"
#include "core/status.h"
#include "src/files/system.h"

namespace ldm::files {

// Once a folder's files have all been used, threads may call what is const.
class Folder {
public:
    explicit Folder(Allocator& memory) : names_(memory), seen_(memory) {}

    // path: as the user named it; it may be reached by links. Codes: file.missing, file.unreadable.
    Status open(Scope& scope, std::string_view path);

    const Path& path() const { return path_; }
    const Path& real() const { return real_; }
    Path place_of(std::string_view name) const {
        return Path(path_, name);
    }  // with its own name, also where it is a link

    // Bytes of a file. Codes: file.missing, unreadable, link, kind.
    Status size(Scope& scope, std::string_view name, std::uint64_t& out);
    // Whether it is kept outside of the folder, in the cache's `blobs`. Codes as `size`.
    Status is_in_blobs(Scope& scope, std::string_view name, bool& out);
    // Read the whole content, `limit` bytes at most. Codes as `size`; file.too-large, file.changed.
    Status read(Scope& scope, std::string_view name, std::size_t limit, Array<char>& out);
    // Read from the start, as much as there is up to `bytes`. Codes as `size`.
    Status read_start(Scope& scope, std::string_view name, std::size_t bytes, Array<char>& out);

    // Fail if a file (any, without a name) is not the one that it was when it was first used. Code: file.changed.
    Status require_unchanged(Scope& scope, std::string_view name) const;
    Status require_unchanged(Scope& scope) const;

private:
    struct Seen {
        std::string_view name;
        Stamp stamp;
    };

    Status resolve(Scope& scope, std::string_view name, Path& real, FileStatus& status);
    Status remember(Scope& scope, std::string_view name, const Stamp& stamp);
    Status require_same(Scope& scope, const Seen& seen) const;
    const Seen* find(std::string_view name) const;

    Path path_, real_, blobs_;  // blobs_ is empty for what is no snapshot
    Arena names_;
    Array<Seen> seen_;
    std::size_t last_ = 0;  // of seen_, found or added last: files are used in the order of the manifest
};

}  // namespace ldm::files

#endif
