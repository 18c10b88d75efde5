// Whether the file of a shared library is all there. A system that maps what is not makes a signal of it, not an error.
#ifndef LDM_ENGINES_LIBRARY_FILE_H
#define LDM_ENGINES_LIBRARY_FILE_H

#include <cstdint>

#include "src/files/path.h"

namespace ldm::engines {

struct Extent {
    std::uint64_t there = 0;   // bytes of the file
    std::uint64_t needed = 0;  // where the last of what is mapped ends

    bool is_truncated() const { return there < needed; }
};

// How far an ELF file must reach, by its program headers and the segments that are mapped: its section headers, and
// what else stands behind, a loader does not read. Of another format, or where it cannot be read, nothing is needed:
// the loader says what is wrong with it (those of macOS and Windows compare its size with its headers themselves).
Extent extent_of_library(const files::Path& path);

}  // namespace ldm::engines

#endif
