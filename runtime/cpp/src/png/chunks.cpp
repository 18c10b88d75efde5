#include "src/png/chunks.h"

#include "core/codes.h"
#include "core/text/utf8.h"
#include "src/png/memory.h"
#include "third_party/lodepng/lodepng.h"

namespace ldm::png {

namespace {

constexpr unsigned char signature[] = {0x89, 'P', 'N', 'G', '\r', '\n', 0x1A, '\n'};
constexpr std::size_t most_text_bytes = std::size_t{1} << 20;  // of one text, as Pillow allows

std::string_view text_in(Bytes content) {
    if (content.empty()) return {};
    return {reinterpret_cast<const char*>(content.data), content.size};
}

bool push_utf8(Array<char>& out, char32_t point) {
    char encoded[4];
    return out.append(encoded, utf8::encode(point, encoded));
}

bool append_latin1(Array<char>& out, std::string_view text) {
    for (char byte : text) {
        if (!push_utf8(out, static_cast<unsigned char>(byte))) return false;
    }
    return true;
}

// What is not UTF-8 becomes U+FFFD.
bool append_utf8(Array<char>& out, std::string_view text) {
    while (!text.empty()) {
        utf8::Character read = utf8::next(text);
        if (!push_utf8(out, read.valid ? read.point : 0xFFFD)) return false;
        text.remove_prefix(read.bytes);
    }
    return true;
}

// Split off what stands before a NUL. False: there is none.
bool take_part(std::string_view& text, std::string_view& out) {
    std::size_t end = text.find('\0');
    if (end == std::string_view::npos) return false;
    out = text.substr(0, end);
    text.remove_prefix(end + 1);
    return true;
}

}  // namespace

Status Chunks::refuse(std::string_view reason) {
    return scope_.fail(codes::request_image, {what_, " is not a PNG file that can be read: ", reason});
}

Status Chunks::begin(Header& out) {
    if (file_.size > most_file_bytes) {
        return scope_.fail(codes::request_image,
                           {what_, " has ", file_.size, " bytes; expected at most ", most_file_bytes});
    }
    if (file_.size < sizeof signature || std::memcmp(file_.data, signature, sizeof signature) != 0) {
        return refuse("it does not begin as a PNG file does; convert it to PNG");
    }
    at_ = sizeof signature;
    Chunk chunk;
    LDM_TRY(take(chunk));
    const char* fault = read_header(chunk.kind == "IHDR" ? chunk.content : Bytes(), out);
    if (fault != nullptr) return refuse(fault);
    order_.begin(out);
    return Status();
}

Status Chunks::next(Chunk& out, bool& done) {
    LDM_TRY(take(out));
    const char* fault = order_.look(out.kind, out.content.size);
    if (fault != nullptr) return refuse(fault);
    done = out.kind == "IEND";
    return Status();
}

Status Chunks::take(Chunk& out) {
    constexpr std::size_t around = 12;  // length, kind and checksum
    if (file_.size - at_ < around) return refuse("it is truncated");
    const unsigned char* start = file_.data + at_;
    std::size_t length = big_endian(start);
    if (length > file_.size - at_ - around) return refuse("it is truncated");
    out.kind = {reinterpret_cast<const char*>(start + 4), 4};
    out.content = {start + 8, length};
    if (lodepng_crc32(start + 4, length + 4) != big_endian(start + 8 + length)) {
        return refuse("a checksum is wrong, so it is damaged");
    }
    at_ += length + around;
    return Status();
}

bool read_text(const Chunk& chunk, RawText& out) {
    std::string_view rest = text_in(chunk.content);
    if (!take_part(rest, out.key) || out.key.empty()) return false;
    out.is_utf8 = chunk.kind == "iTXt";
    out.is_packed = chunk.kind == "zTXt";
    if (chunk.kind == "tEXt") {
        out.value = rest;
        return true;
    }
    std::size_t method = out.is_utf8 ? 1 : 0;  // iTXt says first whether it is packed
    if (rest.size() <= method) return false;
    if (out.is_utf8) out.is_packed = rest[0] != 0;
    if ((out.is_packed && rest[method] != 0) || (!out.is_utf8 && chunk.kind != "zTXt")) return false;
    rest.remove_prefix(method + 1);
    std::string_view language, translated_key;
    if (out.is_utf8 && !(take_part(rest, language) && take_part(rest, translated_key))) return false;
    out.value = rest;
    return true;
}

Status unpack(Scope& scope, Chunks& chunks, const RawText& text, Array<char>& out, bool& is_damaged) {
    is_damaged = false;
    out.shrink(0);
    if (!text.is_packed) {
        LDM_NEED(scope, out.append(text.value.data(), text.value.size()));
        return Status();
    }
    constexpr unsigned no_memory = 83, too_large = 109;  // LodePNG's numbers
    LodePNGDecompressSettings settings;
    lodepng_decompress_settings_init(&settings);
    settings.max_output_size = most_text_bytes;
    Borrowed borrowed(scope.memory, 8 * most_text_bytes);
    unsigned char* bytes = nullptr;
    std::size_t size = 0;
    unsigned error = lodepng_zlib_decompress(&bytes, &size, reinterpret_cast<const unsigned char*>(text.value.data()),
                                             text.value.size(), &settings);
    std::string_view value = text_in({bytes, size});
    bool fits = error != 0 || out.append(value.data(), value.size());
    lodepng_free(bytes);
    if (error == too_large || borrowed.limit_was_reached()) return chunks.refuse("a text unpacks to more than 1 MiB");
    LDM_NEED(scope, fits && error != no_memory);
    is_damaged = error != 0;
    return Status();
}

bool append_as_utf8(Array<char>& out, std::string_view value, bool is_utf8) {
    return is_utf8 ? append_utf8(out, value) : append_latin1(out, value);
}

}  // namespace ldm::png
