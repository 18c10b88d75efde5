// PNG files: what is read is written, and read again the same. Checksums are mended first, which no mutation would hit.
#include "src/png/png.h"

#include <algorithm>

#include "core/text/utf8.h"
#include "fuzz/target.h"
#include "src/png/chunks.h"
#include "src/png/memory.h"
#include "third_party/lodepng/lodepng.h"

using namespace ldm;

namespace {

void put_number(std::string& file, std::size_t at, std::uint32_t number) {
    for (std::size_t byte = 0; byte < 4; ++byte) file[at + byte] = static_cast<char>(number >> (24 - 8 * byte));
}

std::uint32_t adler32(const unsigned char* bytes, std::size_t size) {
    std::uint32_t low = 1, high = 0;
    for (std::size_t at = 0; at < size; ++at) {
        low = (low + bytes[at]) % 65521;
        high = (high + low) % 65521;
    }
    return high << 16 | low;
}

// Put the checksum that fits at the end of packed bytes, if they unpack.
void mend_packed(Bounded& its, std::string& packed) {
    if (packed.size() < 6) return;
    png::Borrowed borrowed(its.memory, std::size_t{1} << 24);
    LodePNGDecompressSettings settings;
    lodepng_decompress_settings_init(&settings);
    settings.ignore_adler32 = 1;
    settings.max_output_size = std::size_t{1} << 22;
    unsigned char* bytes = nullptr;
    std::size_t size = 0;
    const auto* from = reinterpret_cast<const unsigned char*>(packed.data());
    unsigned error = lodepng_zlib_decompress(&bytes, &size, from, packed.size(), &settings);
    if (error == 0) put_number(packed, packed.size() - 4, adler32(bytes, size));
    lodepng_free(bytes);
}

// The file with right checksums, of its chunks and of its packed pixels.
std::string mended(Bounded& its, std::string file) {
    constexpr std::size_t signature = 8, around = 12;
    std::string packed;
    for (bool is_second : {false, true}) {
        std::size_t taken = 0;  // of what is packed
        for (std::size_t at = signature, next; at + around <= file.size(); at = next) {
            const auto* chunk = reinterpret_cast<const unsigned char*>(file.data()) + at;
            std::size_t length = png::big_endian(chunk);
            if (length > file.size() - at - around) break;
            next = at + around + length;
            bool is_pixels = file.compare(at + 4, 4, "IDAT") == 0;
            if (is_pixels && !is_second) packed.append(file, at + 8, length);
            if (is_pixels && is_second) {
                file.replace(at + 8, length, packed, taken, length);
                taken += length;
            }
            put_number(file, at + 8 + length, lodepng_crc32(chunk + 4, length + 4));
        }
        if (!is_second) mend_packed(its, packed);
    }
    return file;
}

std::string rgb(const images::Image& image) {
    std::string levels;
    for (std::size_t pixel = 0; pixel < image.width * image.height; ++pixel) {
        for (std::size_t channel = 0; channel < 3; ++channel) {
            std::size_t place = image.channels == 1 ? 0 : channel;
            levels.push_back(static_cast<char>(image.levels[pixel * image.channels + place]));
        }
    }
    return levels;
}

// Whether a text is one that `write` keeps as it is, and that does not turn the image.
bool is_kept(const png::Text& text) {
    if (text.key == "XML:com.adobe.xmp") return false;
    bool is_ascii = std::all_of(text.key.begin(), text.key.end(), [](char byte) { return byte >= ' ' && byte <= '~'; });
    return is_ascii && !text.key.empty() && text.key.size() < 80 && text.value.find('\0') == std::string_view::npos;
}

void write_and_read(Bounded& its, const images::Image& image, View<png::Text> texts) {
    std::string levels = rgb(image);
    Array<unsigned char> file(its.memory);
    const auto* pixels = reinterpret_cast<const std::uint8_t*>(levels.data());
    Status status = png::write(its.scope, pixels, image.width, image.height, texts, file);
    its.require_told(status, "");
    if (!status.ok()) return;
    images::Image again(its.memory);
    status = png::read(its.scope, file.view(), "written.png", again);
    its.require_told(status, "");
    if (!status.ok()) return;
    REQUIRE(again.width == image.width && again.height == image.height && rgb(again) == levels);
    Arena arena(its.memory);
    Array<png::Text> read(its.memory);
    REQUIRE(png::read_texts(its.scope, arena, file.view(), "written.png", read).ok() && read.size() == texts.size);
    for (std::size_t at = 0; at < texts.size; ++at) {
        REQUIRE(read[at].key == texts[at].key && read[at].value == texts[at].value);
    }
}

void read_file_of(Bounded& its, std::string_view file) {
    Arena arena(its.memory);
    Array<png::Text> texts(its.memory), kept(its.memory);
    its.require_told(png::read_texts(its.scope, arena, bytes_of(file), "a.png", texts), "request");
    for (const png::Text& text : texts) {
        REQUIRE(utf8::first_invalid(text.key) == text.key.size() &&
                utf8::first_invalid(text.value) == text.value.size());
        if (is_kept(text) && !kept.push(text)) return;
    }
    images::Image image(its.memory);
    Status status = png::read(its.scope, bytes_of(file), "a.png", image);
    its.require_told(status, "request");
    if (!status.ok()) return;
    REQUIRE(image.channels == 1 || image.channels == 3 || image.channels == 4);
    REQUIRE(image.levels.size() == image.width * image.height * image.channels);
    if (image.levels.size() < 100000) write_and_read(its, image, kept.view());
}

}  // namespace

int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    Bounded its;
    std::string file(text_of(data, size));
    read_file_of(its, file);
    std::string repaired = mended(its, file);
    if (repaired != file) read_file_of(its, repaired);
    return 0;
}
