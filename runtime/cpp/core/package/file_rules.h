// What a package's files are held to beside their content: sizes, and none that is not listed.
#ifndef LDM_CORE_PACKAGE_FILE_RULES_H
#define LDM_CORE_PACKAGE_FILE_RULES_H

#include <cstdint>
#include <string_view>

#include "core/memory.h"
#include "core/package/manifest.h"
#include "core/status.h"

namespace ldm {

// Require the size that the manifest says. beginning: lfs_stub_bytes of the file, or as many as it has; looked at only
// where the size is another one. Codes: file.size, file.lfs-stub.
Status check_file_size(Scope& scope, const FileEntry& entry, std::uint64_t size, View<unsigned char> beginning,
                       std::string_view where);

// Refuse a file of the folder, by its relative posix path, that is a model's by its ending and that the manifest does
// not list: nobody here loads it, but others could. file.unlisted.
Status check_is_listed(Scope& scope, const Manifest& manifest, std::string_view path, std::string_view where);

// The last part of a path, and what comes before its last slash.
std::string_view name_of_file(std::string_view path);
std::string_view folder_of_file(std::string_view path);

}  // namespace ldm

#endif
