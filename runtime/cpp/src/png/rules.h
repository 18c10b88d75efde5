// What the specification wants of a PNG file's header, and which chunks follow it, where and of what size.
#ifndef LDM_SRC_PNG_RULES_H
#define LDM_SRC_PNG_RULES_H

#include <cstdint>
#include <string_view>

#include "src/png/png.h"

namespace ldm::png {

inline std::uint32_t big_endian(const unsigned char* bytes) {
    return std::uint32_t{bytes[0]} << 24 | std::uint32_t{bytes[1]} << 16 | std::uint32_t{bytes[2]} << 8 | bytes[3];
}

struct Header {
    std::uint32_t width, height;
    int depth, colour_type;  // bits of a sample; 0 is grey, 2 RGB, 3 a palette, 4 grey and alpha, 6 RGB and alpha
};

// Read IHDR. What is wrong with it; nullptr: nothing.
const char* read_header(Bytes content, Header& out);

// The chunks behind a header, one after the other.
class Order {
public:
    void begin(const Header& header) { colour_type_ = header.colour_type; }

    // Look at the next chunk. What is wrong with it; nullptr: nothing.
    const char* look(std::string_view kind, std::size_t size);

private:
    const char* look_at_palette(std::size_t size);
    const char* look_at_transparency(std::size_t size);
    const char* look_at_pixels();

    int colour_type_ = 0;
    std::size_t colours_ = 0;
    bool has_transparency_ = false, has_pixels_ = false, is_behind_pixels_ = false;
};

}  // namespace ldm::png

#endif
