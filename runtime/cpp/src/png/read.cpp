#include "core/codes.h"
#include "src/png/chunks.h"
#include "src/png/memory.h"
#include "src/png/orientation.h"
#include "src/png/png.h"
#include "third_party/lodepng/lodepng.h"

namespace ldm::png {

namespace {

constexpr unsigned no_memory = 83, wrong_size = 91, too_large = 109;  // LodePNG's numbers
constexpr std::size_t most_texts_bytes = std::size_t{64} << 20;  // of a file, as Pillow allows
constexpr std::size_t most_texts = std::size_t{1} << 16;  // of a file: each takes time to unpack, however small it is
constexpr std::size_t small_change = std::size_t{1} << 20;  // tables of the unpacker

// What LodePNG makes of a file: pixels of the kind of `state.info_raw`.
struct Decoded {
    Borrowed borrowed;
    LodePNGState state;
    unsigned char* bytes = nullptr;
    unsigned width = 0, height = 0;

    Decoded(Allocator& memory, std::size_t limit) : borrowed(memory, limit) { lodepng_state_init(&state); }
    ~Decoded() {
        lodepng_state_cleanup(&state);
        lodepng_free(bytes);
    }
    Decoded(const Decoded&) = delete;
    Decoded& operator=(const Decoded&) = delete;
};

// Unpacks the texts of a file, which may be many and small once packed, one after the other.
class Texts {
public:
    explicit Texts(Scope& scope) : scope_(scope), value_(scope.memory) {}

    // Unpack the next one, whose bytes last until the one after.
    Status unpack(Chunks& chunks, const RawText& text, std::string_view& out, bool& is_damaged) {
        if (++count_ > most_texts) return chunks.refuse("it has more than 65536 texts");
        LDM_TRY(png::unpack(scope_, chunks, text, value_, is_damaged));
        bytes_ += value_.size();
        if (bytes_ > most_texts_bytes) return chunks.refuse("its texts unpack to more than 64 MiB");
        out = {value_.data(), value_.size()};
        return Status();
    }

private:
    Scope& scope_;
    Array<char> value_;
    std::size_t count_ = 0, bytes_ = 0;
};

struct Facts {
    Header header;
    int orientation = 0;
};

// What the chunks of a file say of how it lies. As in Pillow, eXIf goes before ImageMagick's text, and EXIF before XMP.
class Orientation {
public:
    explicit Orientation(Scope& scope) : scope_(scope), profile_(scope.memory) {}

    // Look at a chunk that is no text. False: it is damaged.
    bool look(const Chunk& chunk) {
        if (chunk.kind != "eXIf") return true;
        has_exif_ = true;
        return exif_orientation(chunk.content, of_exif_);
    }

    Status look(std::string_view kind, std::string_view key, std::string_view value) {
        if (key == "XML:com.adobe.xmp") {
            bool is_packet = kind == "iTXt";  // another text of that name counts where it says anything
            of_xmp_ = is_packet || !value.empty() ? xmp_orientation(value) : of_packet_;
            if (is_packet) of_packet_ = of_xmp_;
        }
        if (key != "Raw profile type exif") return Status();
        bool fits = true;
        profile_is_damaged_ = !exif_of_profile(value, profile_, fits);
        LDM_NEED(scope_, fits);
        if (!profile_is_damaged_) {
            profile_is_damaged_ = !exif_orientation({profile_.data(), profile_.size()}, of_profile_);
        }
        return Status();
    }

    // False: what counts of it is damaged.
    bool end(int& out) const {
        out = has_exif_ ? of_exif_ : of_profile_;
        if (out == 0) out = of_xmp_;
        return has_exif_ || !profile_is_damaged_;
    }

private:
    Scope& scope_;
    Array<unsigned char> profile_;
    bool has_exif_ = false, profile_is_damaged_ = false;
    int of_exif_ = 0, of_profile_ = 0, of_xmp_ = 0, of_packet_ = 0;
};

// Walk through the whole file: each checksum is right.
Status look_through(Scope& scope, Bytes file, std::string_view what, Facts& out) {
    Chunks chunks(scope, file, what);
    LDM_TRY(chunks.begin(out.header));
    LDM_TRY(images::check_size(scope, out.header.width, out.header.height, what));
    Chunk chunk;
    Texts texts(scope);
    Orientation orientation(scope);
    for (bool done = false; !done;) {
        LDM_TRY(chunks.next(chunk, done));
        if (!orientation.look(chunk)) return chunks.refuse("its EXIF data are damaged");
        RawText text;
        if (!read_text(chunk, text)) continue;
        std::string_view value;
        bool is_damaged = false;
        LDM_TRY(texts.unpack(chunks, text, value, is_damaged));
        if (is_damaged && text.is_utf8) continue;  // as in Pillow, to which a zTXt is an empty text
        LDM_TRY(orientation.look(chunk.kind, text.key, value));
    }
    return orientation.end(out.orientation) ? Status() : chunks.refuse("its EXIF data are damaged");
}

// The kind of pixels to ask for: alpha where a channel or a palette may have it, 16 bits of grey alone.
void ask(LodePNGState& state, const Header& header) {
    state.decoder.ignore_crc = 1;  // looked at before
    bool is_grey = header.colour_type == LCT_GREY, is_rgb = header.colour_type == LCT_RGB;
    state.info_raw.colortype = is_grey ? LCT_GREY : is_rgb ? LCT_RGB : LCT_RGBA;
    state.info_raw.bitdepth = 8;
    state.decoder.color_convert = !(is_grey && header.depth == 16);
}

// Bytes of the pixels as the file packs them, with the number of a filter for each row, at most: interlaced, it has
// more rows, which end with unused bits.
std::size_t packed_bytes(const Header& header) {
    std::size_t channels = header.colour_type == LCT_GREY || header.colour_type == LCT_PALETTE ? 1 : 4;
    std::size_t row = (std::size_t{header.width} * channels * static_cast<std::size_t>(header.depth) + 7) / 8;
    return (row + 4) * header.height + 64;
}

// What unpacking needs: the packed pixels while they grow, the unpacked ones, and those of the kind that was asked for.
std::size_t most_memory(const Header& header, std::size_t file_bytes) {
    return file_bytes + 4 * packed_bytes(header) + std::size_t{4} * header.width * header.height + small_change;
}

Status decode(Scope& scope, Bytes file, std::string_view what, const Header& header, Decoded& out) {
    ask(out.state, header);
    out.state.decoder.zlibsettings.max_output_size = packed_bytes(header);
    unsigned error = lodepng_decode(&out.bytes, &out.width, &out.height, &out.state, file.data, file.size);
    if (error == 0) return Status();
    if (error == no_memory && !out.borrowed.limit_was_reached()) return scope.out_of_memory();
    bool is_of_another_size = error == wrong_size || error == too_large || error == no_memory;
    return Chunks(scope, file, what)
        .refuse(is_of_another_size ? "its pixels are not as many as its header says" : "its pixels are damaged");
}

// A transparent grey value, compared as Pillow does: in 8 bits where samples have no more.
unsigned grey_key(unsigned key, int depth) {
    if (depth == 16) return key;
    if (depth == 1) return key == 0 ? 0 : 255;
    return key * (depth == 2 ? 85 : depth == 4 ? 17 : 1) & 255;
}

// Grey, which becomes RGB and alpha where a value is transparent.
Status from_grey(Scope& scope, const Decoded& decoded, int depth, images::Image& out) {
    const LodePNGColorMode& mode = decoded.state.info_png.color;
    std::size_t pixels = out.width * out.height;
    auto sample = [&](std::size_t pixel) -> unsigned {
        return depth == 16 ? decoded.bytes[2 * pixel] * 256u + decoded.bytes[2 * pixel + 1] : decoded.bytes[pixel];
    };
    unsigned key = grey_key(mode.key_r, depth);
    bool has_key = mode.key_defined && depth < 16;  // of 16 bits only where a pixel has it
    for (std::size_t pixel = 0; mode.key_defined && !has_key && pixel < pixels; ++pixel) has_key = sample(pixel) == key;
    out.channels = has_key ? 4 : 1;
    LDM_NEED(scope, out.levels.resize(pixels * out.channels));
    std::uint8_t* to = out.levels.data();
    for (std::size_t pixel = 0; pixel < pixels; ++pixel, to += out.channels) {
        unsigned value = sample(pixel);
        bool is_deep = depth == 16;
        to[0] = is_deep ? images::nearest_level(static_cast<std::uint16_t>(value)) : static_cast<std::uint8_t>(value);
        if (!has_key) continue;
        to[1] = to[2] = to[0];
        to[3] = value == key ? 0 : 255;
    }
    return Status();
}

// RGB, with alpha where a colour is transparent. A colour of 16 bits counts by its high bytes, as in Pillow.
Status from_rgb(Scope& scope, const Decoded& decoded, int depth, images::Image& out) {
    const LodePNGColorMode& mode = decoded.state.info_png.color;
    bool is_deep = depth == 16 || mode.key_r > 255 || mode.key_g > 255 || mode.key_b > 255;
    unsigned shift = is_deep ? 8 : 0, key[] = {mode.key_r >> shift, mode.key_g >> shift, mode.key_b >> shift};
    std::size_t pixels = out.width * out.height;
    out.channels = mode.key_defined ? 4 : 3;
    LDM_NEED(scope, out.levels.resize(pixels * out.channels));
    std::uint8_t* to = out.levels.data();
    for (std::size_t pixel = 0; pixel < pixels; ++pixel, to += out.channels) {
        const unsigned char* from = decoded.bytes + 3 * pixel;
        std::memcpy(to, from, 3);
        if (!mode.key_defined) continue;
        to[3] = from[0] == key[0] && from[1] == key[1] && from[2] == key[2] ? 0 : 255;
    }
    return Status();
}

Status to_image(Scope& scope, const Decoded& decoded, const Header& header, images::Image& out) {
    out.width = decoded.width;
    out.height = decoded.height;
    out.levels.clear();
    if (header.colour_type == LCT_GREY) {
        LDM_TRY(from_grey(scope, decoded, header.depth, out));
    } else if (header.colour_type == LCT_RGB) {
        LDM_TRY(from_rgb(scope, decoded, header.depth, out));
    } else {
        out.channels = 4;
        LDM_NEED(scope, out.levels.append(decoded.bytes, out.width * out.height * 4));
    }
    images::drop_opaque_alpha(out);
    return Status();
}

}  // namespace

Status read(Scope& scope, Bytes file, std::string_view what, images::Image& out) {
    Facts facts;
    LDM_TRY(look_through(scope, file, what, facts));
    {
        Decoded decoded(scope.memory, most_memory(facts.header, file.size));
        LDM_TRY(decode(scope, file, what, facts.header, decoded));
        LDM_TRY(to_image(scope, decoded, facts.header, out));
    }
    return images::turn(scope, facts.orientation, out);
}

Status read_texts(Scope& scope, Arena& arena, Bytes file, std::string_view what, Array<Text>& out) {
    Chunks chunks(scope, file, what);
    Header header;
    LDM_TRY(chunks.begin(header));
    Texts texts(scope);
    Array<char> characters(scope.memory);  // of one text: its key, then its value
    for (bool done = false; !done;) {
        Chunk chunk;
        RawText text;
        LDM_TRY(chunks.next(chunk, done));
        if (!read_text(chunk, text)) continue;
        std::string_view value;
        bool is_damaged = false;
        LDM_TRY(texts.unpack(chunks, text, value, is_damaged));
        if (is_damaged && text.is_utf8) continue;  // as in Pillow, to which a zTXt is an empty text
        characters.shrink(0);
        LDM_NEED(scope, append_as_utf8(characters, text.key, false));
        std::size_t key_size = characters.size();
        LDM_NEED(scope, append_as_utf8(characters, value, text.is_utf8));
        View<char> kept;
        LDM_NEED(scope, arena.copy(characters.data(), characters.size(), kept));
        LDM_NEED(scope, out.push({{kept.data, key_size}, {kept.data + key_size, kept.size - key_size}}));
    }
    return Status();
}

}  // namespace ldm::png
