// Files that the user names, read whole.
#ifndef LDM_FILES_READING_H
#define LDM_FILES_READING_H

#include <string_view>

#include "core/memory.h"
#include "core/status.h"

namespace ldm::files {

// Refuse the empty path, which a system takes for the current folder or for nothing. name: of the argument. Code:
// request.path.
Status require_path(Scope& scope, std::string_view name, std::string_view path);

// Read an image's file of at most `limit` bytes. Codes: request.path for an empty path,
// request.image for one that is missing, no regular file, or larger.
Status read_input(Scope& scope, std::string_view path, std::size_t limit, Array<char>& out);

}  // namespace ldm::files

#endif
