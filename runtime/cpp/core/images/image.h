// Images as arrays of 8 bits: what one of any channels and bits means, turned, and over a plain background. The same as
// image_modes.py of the Python runtime.
#ifndef LDM_CORE_IMAGES_IMAGE_H
#define LDM_CORE_IMAGES_IMAGE_H

#include <cstdint>
#include <string_view>

#include "core/memory.h"
#include "core/status.h"

namespace ldm::images {

inline constexpr std::int64_t most_pixels = std::int64_t{1} << 26;  // of one image: 8192 x 8192
inline constexpr std::int64_t most_side = std::int64_t{1} << 16;    // what decoders need for each row counts too

// What a host or a file gives: rows from the top, channels one after the other.
struct Samples {
    std::int64_t width = 0, height = 0;
    int channels = 0;           // grey, grey and alpha, RGB, RGB and alpha
    int bits = 8;               // 8, or 16 in the byte order of the machine
    const void* data = nullptr;
    std::size_t row_bytes = 0;  // from one row to the next; 0: rows follow one another
};

// Levels from 0 to 255, (height, width, channels). Channels: 1 is grey, 3 is RGB, 4 is RGB and alpha, and transparent
// in parts.
struct Image {
    std::size_t width = 0, height = 0, channels = 0;
    Array<std::uint8_t> levels;

    explicit Image(Allocator& memory) : levels(memory) {}
};

// Refuse a size that is no image's. `what`: its name in the sentence, such as "the mask". Code: request.image.
Status check_size(Scope& scope, std::int64_t width, std::int64_t height, std::string_view what);

// Refuse samples of a size or form that is no image's. Code: request.image.
Status check_samples(Scope& scope, const Samples& samples, std::string_view what);

// Reduce samples to 8 bits: grey of 16 bits to the nearest level, other channels to their high byte, as Pillow does.
// Alpha is kept where any of it is transparent. Code: request.image.
Status settle(Scope& scope, const Samples& samples, std::string_view what, Image& out);

// Level of a grey sample of 16 bits.
inline std::uint8_t nearest_level(std::uint16_t sample) { return static_cast<std::uint8_t>((sample + 128u) / 257u); }

// RGB without alpha where all of it is opaque.
void drop_opaque_alpha(Image& image);

// Compose an image that is transparent in parts over a plain background, of which each channel has that level.
void lay_on(std::uint8_t background, Image& image);

// Turn an image as the orientation of EXIF says, 1 to 8: 2 is mirrored, 3 is upside down, 5 to 8 lie on their side.
Status turn(Scope& scope, int orientation, Image& image);

}  // namespace ldm::images

#endif
