// PNG files in memory: read as the Python runtime reads them, and written with texts that say how an image was made.
// Pixels are packed and unpacked by LodePNG, chunks are walked here. Specification: PNG, third edition.
#ifndef LDM_SRC_PNG_PNG_H
#define LDM_SRC_PNG_PNG_H

#include <string_view>

#include "core/images/image.h"

namespace ldm::png {

inline constexpr std::size_t most_file_bytes = std::size_t{1} << 30;  // twice the largest image of four 16-bit channels

using Bytes = View<unsigned char>;

// A text of a file, UTF-8. It lives in an arena.
struct Text {
    std::string_view key, value;
};

// Read a file of any kind of PNG, of 1 to 16 bits, as an image of 8 bits that is settled, and turned as its EXIF data
// say. `what`: its name in sentences, such as a path. Code: request.image, for what is no PNG, damaged in any chunk or
// too large.
Status read(Scope& scope, Bytes file, std::string_view what, images::Image& out);

// Append the texts of a file, in their order: tEXt, zTXt and iTXt. Code: request.image.
Status read_texts(Scope& scope, Arena& arena, Bytes file, std::string_view what, Array<Text>& out);

// Append a file with the levels of an RGB image, (height, width, 3). Keys of texts are ASCII, 1 to 79 characters. A
// value is written as tEXt where Latin-1 has all of it, else as iTXt; NUL, which neither can hold, becomes U+FFFD.
Status write(Scope& scope, const std::uint8_t* levels, std::size_t width, std::size_t height, View<Text> texts,
             Array<unsigned char>& out);

}  // namespace ldm::png

#endif
