// What the system says against a file of a package, as one sentence.
#ifndef LDM_FILES_TROUBLE_H
#define LDM_FILES_TROUBLE_H

#include "core/codes.h"
#include "core/status.h"
#include "src/files/system.h"

namespace ldm::files {

inline constexpr std::string_view fetch_again = "; fetch the package again";
inline constexpr std::string_view fetch_or_build_again = "; fetch or build the package again";

// Codes: file.missing, file.unreadable.
inline Status unreadable(Scope& scope, const Path& file, Answer answer) {
    if (answer.is_missing()) return scope.fail(codes::file_missing, {file.view(), " is missing", fetch_again});
    Reason reason(answer);
    return scope.fail(codes::file_unreadable, {"cannot read ", file.view(), ": ", std::string_view(reason),
                                               "; check its permissions, its links and the disk"});
}

// The pointer that Git LFS leaves in the place of a file. `start`: its first bytes. Code: file.lfs-stub.
inline Status refuse_lfs_stub(Scope& scope, const Path& file, std::string_view start) {
    constexpr std::string_view stub = "version https://git-lfs.github.com/spec/";
    if (start.substr(0, stub.size()) != stub) return Status();
    return scope.fail(codes::file_lfs_stub, {file.view(), " is a Git-LFS stub, not the file itself; run `git lfs pull` "
                                             "where it came from"});
}

}  // namespace ldm::files

#endif
