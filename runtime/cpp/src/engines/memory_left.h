// The memory that this machine, or the container that this process is in, has left.
#ifndef LDM_ENGINES_MEMORY_LEFT_H
#define LDM_ENGINES_MEMORY_LEFT_H

#include <cstdint>
#include <optional>

namespace ldm::engines {

// The bytes that can be taken without swapping; none where the system does not tell. What the system keeps of files
// counts as available.
std::optional<std::uint64_t> available_memory();

}  // namespace ldm::engines

#endif
