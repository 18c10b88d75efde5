// What the system says against a file of a package, as one sentence.
#ifndef LDM_FILES_TROUBLE_H
#define LDM_FILES_TROUBLE_H

#include "core/codes.h"
#include "core/package/file_rules.h"
#include "core/status.h"
#include "src/files/system.h"

namespace ldm::files {

using ldm::fetch_or_build_again;
inline constexpr std::string_view fetch_again = "; fetch the package again";

// Codes: file.missing, file.unreadable.
inline Status unreadable(Scope& scope, const Path& file, Answer answer) {
    if (answer.is_missing()) return scope.fail(codes::file_missing, {file.view(), " is missing", fetch_again});
    Reason reason(answer);
    return scope.fail(codes::file_unreadable, {"cannot read ", file.view(), ": ", std::string_view(reason),
                                               "; check its permissions, its links and the disk"});
}

}  // namespace ldm::files

#endif
