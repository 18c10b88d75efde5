// The instructions of this machine's CPU that fewer bits need, by the names that packages have for them.
#ifndef LDM_ENGINES_UNITS_H
#define LDM_ENGINES_UNITS_H

#include <string_view>

namespace ldm::engines {

// Whether the CPU has a unit and the system lets programs use it: "avx2", "avx512f", "avx512_bf16", "avx512_fp16",
// "avx512_vnni", "avx_vnni", "amx_bf16", "amx_fp16", "amx_int8"; on ARM "neon_dotprod", "neon_fp16", "neon_bf16",
// "neon_i8mm". No other is known.
bool has_unit(std::string_view name);

}  // namespace ldm::engines

#endif
