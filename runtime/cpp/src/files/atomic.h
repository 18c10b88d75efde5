// Output files that appear whole or not at all: written under a name of their own beside the place, synced, renamed.
#ifndef LDM_FILES_ATOMIC_H
#define LDM_FILES_ATOMIC_H

#include <string_view>

#include "core/status.h"
#include "src/files/path.h"

namespace ldm::files {

enum class Existing { keep, replace };

// A name in a folder that no other writer takes.
Path partial_in(const Path& folder);

// Fail unless the file can be written: what an existing one is, whether the folder takes files. For before the work.
// Code: output.refused.
Status refuse_existing(Scope& scope, std::string_view path, Existing existing);

// Write a file. What is replaced hands on its permissions. On failure what was there is still there, and nothing else
// is left. Code: output.refused.
Status write_file(Scope& scope, std::string_view path, std::string_view content, Existing existing);

}  // namespace ldm::files

#endif
