// Counts: signed in a contract and in shapes, where none is negative, and sizes in memory.
#ifndef LDM_CORE_RUN_COUNTS_H
#define LDM_CORE_RUN_COUNTS_H

#include <cstddef>
#include <cstdint>

namespace ldm {

inline std::size_t positive(std::int64_t number) { return static_cast<std::size_t>(number); }
inline std::int64_t signed_of(std::size_t number) { return static_cast<std::int64_t>(number); }

}  // namespace ldm

#endif
