#include "src/png/rules.h"

namespace ldm::png {

namespace {

enum ColourType : int { grey = 0, rgb = 2, palette = 3, grey_alpha = 4, rgb_alpha = 6 };

bool has_depth(int colour_type, int depth) {
    switch (colour_type) {
        case grey: return depth == 1 || depth == 2 || depth == 4 || depth == 8 || depth == 16;
        case palette: return depth == 1 || depth == 2 || depth == 4 || depth == 8;
        case rgb:
        case grey_alpha:
        case rgb_alpha: return depth == 8 || depth == 16;
        default: return false;
    }
}

bool is_capital(char letter) { return letter >= 'A' && letter <= 'Z'; }

bool is_name(std::string_view kind) {
    for (char letter : kind) {
        if (!is_capital(letter) && !(letter >= 'a' && letter <= 'z')) return false;
    }
    return is_capital(kind[2]);
}

}  // namespace

const char* read_header(Bytes content, Header& out) {
    if (content.size != 13) return "it has no header";
    const unsigned char* from = content.data;
    out = {big_endian(from), big_endian(from + 4), from[8], from[9]};
    if (!has_depth(out.colour_type, out.depth)) return "its header says a kind of pixels that no PNG has";
    bool is_packed_as_known = from[10] == 0 && from[11] == 0 && from[12] <= 1;  // compression, filters, interlacing
    return is_packed_as_known ? nullptr : "its header says a way of packing that no PNG has";
}

const char* Order::look(std::string_view kind, std::size_t size) {
    if (!is_name(kind)) return "the name of a chunk is not four letters, of which the third is a capital";
    bool is_critical = kind == "IHDR" || kind == "PLTE" || kind == "IDAT" || kind == "IEND";
    if (is_capital(kind[0]) && !is_critical) return "it needs a chunk that PNG does not have";
    is_behind_pixels_ |= has_pixels_ && kind != "IDAT";
    if (kind == "IHDR") return "it has two headers";
    if (kind == "PLTE") return look_at_palette(size);
    if (kind == "tRNS") return look_at_transparency(size);
    if (kind == "IDAT") return look_at_pixels();
    return kind == "IEND" && !has_pixels_ ? "it has no pixels" : nullptr;
}

const char* Order::look_at_palette(std::size_t size) {
    if (colours_ > 0 || has_pixels_) return "it has two palettes, or one behind its pixels";
    if (size % 3 != 0 || size < 3 || size > 3 * 256) return "its palette is not 1 to 256 colours of 3 bytes";
    colours_ = size / 3;
    return nullptr;
}

const char* Order::look_at_transparency(std::size_t size) {
    if (has_transparency_ || has_pixels_) return "it has two lists of what is transparent, or one behind its pixels";
    if (colour_type_ == grey_alpha || colour_type_ == rgb_alpha) {
        return "it has a list of what is transparent beside an alpha channel";
    }
    bool fits = colour_type_ == palette ? size <= colours_ : size == (colour_type_ == grey ? 2u : 6u);
    if (!fits) return "its list of what is transparent has a size that does not fit its colours";
    has_transparency_ = true;
    return nullptr;
}

const char* Order::look_at_pixels() {
    if (is_behind_pixels_) return "another chunk stands between its pixels";
    if (colour_type_ == palette && colours_ == 0) return "it has no palette";
    has_pixels_ = true;
    return nullptr;
}

}  // namespace ldm::png
