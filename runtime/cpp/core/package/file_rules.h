// What a package's files are held to beside their content: sizes, and none that is not listed.
#ifndef LDM_CORE_PACKAGE_FILE_RULES_H
#define LDM_CORE_PACKAGE_FILE_RULES_H

#include <cstddef>
#include <cstdint>
#include <string_view>

#include "core/memory.h"
#include "core/package/manifest.h"
#include "core/status.h"

namespace ldm {

inline constexpr std::string_view fetch_or_build_again = "; fetch or build the package again";
inline constexpr std::size_t lfs_stub_bytes = 64;  // of a file, enough to know such a stub

// Refuse the pointer that Git LFS leaves in the place of a file. beginning: lfs_stub_bytes of it, or as many as it has.
// Code: file.lfs-stub.
Status refuse_lfs_stub(Scope& scope, View<unsigned char> beginning, std::string_view where);

// Require the size that the manifest says. beginning: as above; looked at only where the size is another one. Codes:
// file.size, file.lfs-stub.
Status check_file_size(Scope& scope, const FileEntry& entry, std::uint64_t size, View<unsigned char> beginning,
                       std::string_view where);

// Whether a file of the folder, by its relative posix path, is a model's by its ending and not listed in the manifest:
// nobody here loads it, but others could.
bool is_unlisted_model(const Manifest& manifest, std::string_view path);

// The last part of a path, and what comes before its last slash.
std::string_view name_of_file(std::string_view path);
std::string_view folder_of_file(std::string_view path);

}  // namespace ldm

#endif
