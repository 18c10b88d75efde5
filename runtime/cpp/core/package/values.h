// Checks of single values of a manifest: names, paths, digests, bounds.
#ifndef LDM_CORE_PACKAGE_VALUES_H
#define LDM_CORE_PACKAGE_VALUES_H

#include <cstdint>
#include <string_view>

#include "core/json/where.h"
#include "core/package/manifest.h"
#include "core/status.h"

namespace ldm {

inline constexpr std::int64_t max_axis = std::int64_t{1} << 20;
inline constexpr std::int64_t max_factor = std::int64_t{1} << 10;  // of image pixels to latent pixels
inline constexpr std::int64_t max_side = std::int64_t{1} << 16;    // of one image
inline constexpr std::int64_t max_pixels = std::int64_t{1} << 26;  // one image; 8192 x 8192
inline constexpr std::int64_t max_bytes = std::int64_t{1} << 50;   // of a file or of memory

// A name can be a package's: not empty, and safe to print and to write. manifest.name.
Status check_name(Scope& scope, std::string_view name, const json::Where& where);
// The name of an artefact or a variant, which may be a folder's. Code: as given.
Status check_label(Scope& scope, std::string_view name, const json::Where& where, const char* code);
// A name such as formats have. Code: as given.
Status check_short_name(Scope& scope, std::string_view name, std::string_view example, const json::Where& where,
                        const char* code);
// Such names, each once. Code: as given.
Status check_short_names(Scope& scope, View<std::string_view> names, std::string_view example,
                         const json::Where& where, const char* code);
// Whether a name has the form of an engine's, with its provider behind a colon if it has one.
bool is_engine_name(std::string_view name);
// A plain relative posix path, inside the package on any OS. manifest.path.
Status check_relative_path(Scope& scope, std::string_view path, const json::Where& where);
// A SHA-256 in lower case. manifest.digest.
Status check_digest(Scope& scope, std::string_view text, const json::Where& where);
// A file that the manifest lists. manifest.file.
Status check_listed(Scope& scope, std::string_view path, const Manifest& manifest, const json::Where& where);
// manifest.range.
Status check_between(Scope& scope, std::int64_t value, std::int64_t low, std::int64_t high, const json::Where& where);
// The same of a number with a fraction; and of a figure of a measurement, with which what is computed stays finite.
Status check_span(Scope& scope, double value, std::int64_t low, std::int64_t high, const json::Where& where);
Status check_amount(Scope& scope, double value, const json::Where& where);

// Whether product is value * factor, for numbers of any size and a factor of at least 1.
inline bool is_product(std::int64_t product, std::int64_t value, std::int64_t factor) {
    return product % factor == 0 && product / factor == value;
}

// A dimension, for a sentence; names, parted by commas, behind one.
Piece shown(const Dim& dim);
void add_names(Failure& failure, View<std::string_view> names);

}  // namespace ldm

#endif
