// Seeds that nobody chose.
#ifndef LDM_FILES_RANDOM_H
#define LDM_FILES_RANDOM_H

#include <cstdint>

#include "core/status.h"

namespace ldm::files {

// A seed below 2^32 from the system's generator. Code: other.failure.
Status random_seed(Scope& scope, std::uint64_t& out);

}  // namespace ldm::files

#endif
