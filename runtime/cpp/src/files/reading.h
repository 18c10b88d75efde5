// Files that the user names, read whole.
#ifndef LDM_FILES_READING_H
#define LDM_FILES_READING_H

#include <string_view>

#include "core/memory.h"
#include "core/status.h"

namespace ldm::files {

// Read an image's file of at most `limit` bytes. Code: request.image, for one that is missing, no regular file, or larger.
Status read_input(Scope& scope, std::string_view path, std::size_t limit, Array<char>& out);

}  // namespace ldm::files

#endif
