#include "src/png/orientation.h"

#include <cstring>

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

constexpr std::string_view jpeg_mark("Exif\0\0", 6);

bool has_mark(const unsigned char* data, std::size_t size) {
    return size >= jpeg_mark.size() && std::memcmp(data, jpeg_mark.data(), jpeg_mark.size()) == 0;
}

// A hexadecimal digit's value; -1: it is none.
int digit_of(char byte) {
    if (byte >= '0' && byte <= '9') return byte - '0';
    char lower = static_cast<char>(byte | 0x20);
    return lower >= 'a' && lower <= 'f' ? lower - 'a' + 10 : -1;
}

}  // namespace

bool exif_of_profile(std::string_view text, Array<unsigned char>& out, bool& fits) {
    constexpr int lines_before = 3;
    int lines = 0, high = -1;
    out.shrink(0);
    fits = true;
    for (char byte : text) {
        bool ends_line = byte == '\n';
        lines += ends_line && lines < lines_before;
        if (ends_line || lines < lines_before) continue;
        bool is_space = byte == ' ' || (byte >= '\t' && byte <= '\r');
        if (is_space && high < 0) continue;
        int digit = digit_of(byte);
        if (digit < 0) return false;
        if (high >= 0 && !out.push(static_cast<unsigned char>(high * 16 + digit))) return fits = false;
        high = high < 0 ? digit : -1;
    }
    if (has_mark(out.data(), out.size())) {
        std::memmove(out.data(), out.data() + jpeg_mark.size(), out.size() - jpeg_mark.size());
        out.shrink(out.size() - jpeg_mark.size());
    }
    return high < 0;
}

bool exif_orientation(Bytes exif, int& out) {
    out = 0;
    if (has_mark(exif.data, exif.size)) exif = {exif.data + jpeg_mark.size(), exif.size - jpeg_mark.size()};
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
