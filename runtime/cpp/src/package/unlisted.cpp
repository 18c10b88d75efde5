#include "src/package/unlisted.h"

#include "core/codes.h"
#include "core/package/file_rules.h"
#include "src/files/system.h"

namespace ldm::package {

namespace {

using files::Kind;
using files::Path;

// Folders below the package that are still to be looked at, one after the other, each ended by a NUL.
class Pending {
public:
    explicit Pending(Allocator& memory) : names_(memory) {}

    [[nodiscard]] bool push(std::string_view name) {
        return names_.append(name.data(), name.size()) && names_.push('\0');
    }
    bool pop(Path& out) {
        if (names_.empty()) return false;
        std::size_t end = names_.size() - 1, start = end;
        while (start > 0 && names_[start - 1] != '\0') --start;
        out = Path();
        out.add({names_.data() + start, end - start});
        names_.shrink(start);
        return true;
    }

private:
    Array<char> names_;
};

}  // namespace

// As os.walk does it: links to folders are not followed, and a folder that cannot be listed is passed over.
Status refuse_unlisted(Scope& scope, const Path& folder, const Manifest& manifest) {
    Pending pending(scope.memory);
    LDM_NEED(scope, pending.push(""));
    for (Path below; pending.pop(below);) {
        files::Listing listing;
        if (!listing.open(below.view().empty() ? folder : Path(folder, below)).ok()) continue;
        std::string_view name;
        for (Kind kind; listing.next(name, kind);) {
            Path relative(below);
            relative.enter(name);
            if (kind == Kind::folder) LDM_NEED(scope, pending.push(relative));
            if (kind == Kind::folder || !is_unlisted_model(manifest, relative)) continue;
            files::FileStatus status;
            bool is_link = kind == Kind::link && look(Path(folder, relative), files::Links::follow, status).ok();
            if (is_link && status.kind == Kind::folder) continue;
            return scope.fail(codes::file_unlisted, {folder.view(), " holds ", relative.view(),
                                                     ", which its manifest does not "
                                                     "list; remove it or build again"});
        }
    }
    return Status();
}

}  // namespace ldm::package
