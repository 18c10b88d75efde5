#include "src/engines/library_file.h"

#include <algorithm>
#include <cstdio>
#include <cstring>

#include "src/files/system.h"

namespace ldm::engines {

namespace {

// The fields of an ELF file that are read here: their places, and how many bytes an address has. The kind of a segment
// is in the first four bytes of its entry.
struct Layout {
    std::size_t header_bytes, table, entry_bytes, entry_count, offset, bytes_in_file, address;
};

constexpr Layout of_32_bits{52, 28, 42, 44, 4, 16, 4}, of_64_bits{64, 32, 54, 56, 8, 32, 8};
constexpr std::size_t machine_place = 18;
constexpr std::size_t most_entry_bytes = 64;
constexpr std::uint64_t loaded = 1;  // PT_LOAD: a segment that is mapped
constexpr std::uint64_t most_bytes = std::uint64_t{1} << 62;

struct Architecture {
    unsigned number;
    const char* name;
};

constexpr Architecture architectures[] = {{3, "32-bit x86"}, {40, "32-bit Arm"}, {62, "x86-64"},  {183, "aarch64"},
                                          {21, "PowerPC64"}, {8, "MIPS"},        {243, "RISC-V"}, {258, "LoongArch"}};

// What this library was compiled for; 0: not known here, or files are not ELF.
#if !defined(__ELF__)
constexpr unsigned own_machine = 0;
#elif defined(__x86_64__)
constexpr unsigned own_machine = 62;
#elif defined(__aarch64__)
constexpr unsigned own_machine = 183;
#elif defined(__i386__)
constexpr unsigned own_machine = 3;
#elif defined(__arm__)
constexpr unsigned own_machine = 40;
#elif defined(__riscv)
constexpr unsigned own_machine = 243;
#else
constexpr unsigned own_machine = 0;
#endif

const char* name_of(unsigned machine) {
    const auto* found = std::find_if(std::begin(architectures), std::end(architectures),
                                     [=](const Architecture& each) { return each.number == machine; });
    return found == std::end(architectures) ? "a machine that is not known here" : found->name;
}

// Little-endian.
std::uint64_t number_at(const unsigned char* bytes, std::size_t size) {
    std::uint64_t number = 0;
    for (std::size_t index = size; index-- > 0;) number = number << 8 | bytes[index];
    return number;
}

// Where a part of a file ends; one that no file holds ends beyond all of them.
std::uint64_t end_of(std::uint64_t start, std::uint64_t size) {
    return start > most_bytes || size > most_bytes ? most_bytes : start + size;
}

}  // namespace

bool LibraryFile::is_for_another_machine() const {
    return machine != 0 && own_machine != 0 && machine != own_machine;
}

void say_machines(const LibraryFile& file, char* out, std::size_t room) {
    std::snprintf(out, room, "it is for another machine: for %s (%u in ELF), but this program is for %s",
                  name_of(file.machine), file.machine, name_of(own_machine));
}

LibraryFile look_at_library(const files::Path& path) {
    files::ReadFile file;
    files::FileStatus status;
    unsigned char header[64];
    std::size_t got = 0;
    if (!file.open(path, files::Links::follow).ok() || !file.status(status).ok()) return {};
    if (status.kind != files::Kind::file) return {};
    if (!file.read(0, header, sizeof header, got).ok() || got < sizeof header) return {};
    constexpr unsigned char little_endian = 1;
    if (std::memcmp(header, "\177ELF", 4) != 0 || header[5] != little_endian) return {};
    const Layout& layout = header[4] == 2 ? of_64_bits : of_32_bits;
    std::uint64_t table = number_at(header + layout.table, layout.address);
    std::uint64_t each = number_at(header + layout.entry_bytes, 2), count = number_at(header + layout.entry_count, 2);
    const LibraryFile nothing_needed{static_cast<unsigned>(number_at(header + machine_place, 2)), status.stamp.size, 0};
    if (each < layout.bytes_in_file + layout.address || each > most_entry_bytes) return nothing_needed;
    LibraryFile found = nothing_needed;
    found.needed = end_of(table, each * count);
    for (std::uint64_t index = 0; index < count && !found.is_truncated(); ++index) {
        unsigned char entry[most_entry_bytes];
        bool is_read = file.read(table + index * each, entry, static_cast<std::size_t>(each), got).ok();
        if (!is_read || got < each) return nothing_needed;
        std::uint64_t bytes = number_at(entry + layout.bytes_in_file, layout.address);
        if (number_at(entry, 4) != loaded || bytes == 0) continue;
        found.needed = std::max(found.needed, end_of(number_at(entry + layout.offset, layout.address), bytes));
    }
    return found;
}

}  // namespace ldm::engines
