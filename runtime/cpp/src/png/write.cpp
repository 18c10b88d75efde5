#include "core/text/utf8.h"
#include "src/png/memory.h"
#include "src/png/png.h"
#include "third_party/lodepng/lodepng.h"

namespace ldm::png {

namespace {

constexpr std::size_t before_texts = 8 + 12 + 13;  // the signature and IHDR

void put_number(std::uint32_t number, unsigned char* out) {
    for (int shift = 24; shift >= 0; shift -= 8) *out++ = static_cast<unsigned char>(number >> shift);
}

bool push_number(Array<unsigned char>& out, std::uint32_t number) {
    unsigned char bytes[4];
    put_number(number, bytes);
    return out.append(bytes, sizeof bytes);
}

bool append(Array<unsigned char>& out, std::string_view text) {
    return out.append(reinterpret_cast<const unsigned char*>(text.data()), text.size());
}

// What a file can hold: NUL and what is not UTF-8 become U+FFFD.
utf8::Character storable(std::string_view text) {
    utf8::Character read = utf8::next(text);
    return {!read.valid || read.point == 0 ? U'\xFFFD' : read.point, read.bytes, true};
}

bool is_latin1(std::string_view text) {
    for (; !text.empty(); text.remove_prefix(storable(text).bytes)) {
        if (storable(text).point > 0xFF) return false;
    }
    return true;
}

bool append_value(Array<unsigned char>& out, std::string_view text, bool as_latin1) {
    for (; !text.empty(); text.remove_prefix(storable(text).bytes)) {
        char encoded[4] = {static_cast<char>(storable(text).point)};
        std::size_t bytes = as_latin1 ? 1 : utf8::encode(storable(text).point, encoded);
        if (!append(out, {encoded, bytes})) return false;
    }
    return true;
}

bool append_text(Array<unsigned char>& out, const Text& text) {
    bool as_latin1 = is_latin1(text.value);
    std::size_t start = out.size();
    bool fits = push_number(out, 0) && append(out, as_latin1 ? "tEXt" : "iTXt") && append(out, text.key) &&
                append(out, as_latin1 ? std::string_view("\0", 1) : std::string_view("\0\0\0\0\0", 5)) &&
                append_value(out, text.value, as_latin1);
    if (!fits) return false;
    std::size_t length = out.size() - start - 8;
    put_number(static_cast<std::uint32_t>(length), out.data() + start);
    return push_number(out, lodepng_crc32(out.data() + start + 4, length + 4));
}

// A file is RGB of 8 bits, whatever its colours are.
void ask(LodePNGState& state) {
    state.encoder.auto_convert = 0;
    for (LodePNGColorMode* mode : {&state.info_raw, &state.info_png.color}) {
        mode->colortype = LCT_RGB;
        mode->bitdepth = 8;
    }
}

}  // namespace

Status write(Scope& scope, const std::uint8_t* levels, std::size_t width, std::size_t height, View<Text> texts,
             Array<unsigned char>& out) {
    Borrowed borrowed(scope.memory, static_cast<std::size_t>(-1));
    LodePNGState state;
    lodepng_state_init(&state);
    ask(state);
    unsigned char* file = nullptr;
    std::size_t size = 0;
    auto columns = static_cast<unsigned>(width), rows = static_cast<unsigned>(height);
    unsigned error = lodepng_encode(&file, &size, levels, columns, rows, &state);
    bool fits = error == 0 && out.reserve(out.size() + size) && out.append(file, before_texts);
    for (const Text& text : texts) fits = fits && append_text(out, text);
    fits = fits && out.append(file + before_texts, size - before_texts);
    lodepng_free(file);
    lodepng_state_cleanup(&state);
    LDM_NEED(scope, fits);  // memory is all that can be missing
    return Status();
}

}  // namespace ldm::png
