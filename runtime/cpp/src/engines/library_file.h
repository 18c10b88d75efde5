// What the file of a shared library says of itself before it is opened. A system that maps what is not there makes a
// signal of it, not an error, and glibc says of a library for another machine that there is no such file.
#ifndef LDM_ENGINES_LIBRARY_FILE_H
#define LDM_ENGINES_LIBRARY_FILE_H

#include <cstdint>

#include "src/files/path.h"

namespace ldm::engines {

struct LibraryFile {
    unsigned machine = 0;      // as ELF numbers them
    std::uint64_t there = 0;   // bytes of the file
    std::uint64_t needed = 0;  // where the last of what is mapped ends

    bool is_truncated() const { return there < needed; }
    bool is_for_another_machine() const;
};

// Read which machine an ELF file is for, and how far it must reach, by its program headers and the segments that are
// mapped: its section headers, and what else stands behind, a loader does not read. Of another format, or where it
// cannot be read, nothing is known or needed: the loader says what is wrong with it (those of macOS and Windows compare
// its size with its headers themselves).
LibraryFile look_at_library(const files::Path& path);

// Write why a library for another machine is none here: which machine it is for, and which one this is.
void say_machines(const LibraryFile& file, char* out, std::size_t room);

}  // namespace ldm::engines

#endif
