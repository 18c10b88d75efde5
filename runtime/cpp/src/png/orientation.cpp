#include "src/png/orientation.h"

namespace ldm::png {

namespace {

constexpr unsigned orientation_tag = 0x0112;
enum FieldType : unsigned { byte_field = 1, short_field = 3, long_field = 4 };

// Numbers of TIFF, in the byte order that its first two bytes say. What lies beyond the end is 0.
struct Reader {
    Bytes data;
    bool is_little;

    unsigned number(std::size_t at, std::size_t bytes) const {
        if (at > data.size || data.size - at < bytes) return 0;
        unsigned value = 0;
        for (std::size_t index = 0; index < bytes; ++index) {
            value = value << 8 | data[at + (is_little ? bytes - 1 - index : index)];
        }
        return value;
    }
};

}  // namespace

bool exif_orientation(Bytes exif, int& out) {
    out = 0;
    if (exif.empty()) return true;
    if (exif.size < 8 || exif[0] != exif[1] || (exif[0] != 'I' && exif[0] != 'M')) return false;
    Reader reader{exif, exif[0] == 'I'};
    if (reader.number(2, 2) != 42) return false;
    std::size_t start = reader.number(4, 4);
    unsigned count = reader.number(start, 2);
    for (std::size_t entry = start + 2; count > 0 && entry < exif.size; --count, entry += 12) {
        if (reader.number(entry, 2) != orientation_tag || reader.number(entry + 4, 4) != 1) continue;
        unsigned type = reader.number(entry + 2, 2);
        std::size_t bytes = type == byte_field ? 1 : type == short_field ? 2 : type == long_field ? 4 : 0;
        unsigned value = bytes == 0 ? 0 : reader.number(entry + 8, bytes);
        out = value <= 8 ? static_cast<int>(value) : 0;
    }
    return true;
}

int xmp_orientation(std::string_view packet) {
    constexpr std::string_view name = "tiff:Orientation";
    for (std::size_t at = packet.find(name); at != std::string_view::npos; at = packet.find(name, at)) {
        at += name.size();
        std::string_view rest = packet.substr(at);
        std::size_t digit = rest.substr(0, 2) == "=\"" ? 2 : rest.substr(0, 1) == ">" ? 1 : rest.size();
        if (digit < rest.size() && rest[digit] >= '0' && rest[digit] <= '9') return rest[digit] - '0';
    }
    return 0;
}

}  // namespace ldm::png
