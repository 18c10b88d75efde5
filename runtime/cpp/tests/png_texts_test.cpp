// How many texts a PNG file may have, how much they unpack to, and those that are damaged.
#include <utility>

#include "src/png/memory.h"
#include "src/png/png.h"
#include "tests/check.h"
#include "tests/made_png.h"

using namespace ldm;

static std::string packed(const std::string& text) {
    png::Borrowed borrowed(heap, std::size_t{1} << 26);
    LodePNGCompressSettings settings;
    lodepng_compress_settings_init(&settings);
    unsigned char* bytes = nullptr;
    std::size_t size = 0;
    auto* given = reinterpret_cast<const unsigned char*>(text.data());
    CHECK(lodepng_zlib_compress(&bytes, &size, given, text.size(), &settings) == 0);
    std::string out(reinterpret_cast<const char*>(bytes), size);
    lodepng_free(bytes);
    return out;
}

// The same chunk so many times.
static std::string chunks(std::string_view kind, const std::string& content, int times) {
    std::string one, all;
    add_chunk(one, kind, content);
    for (int time = 0; time < times; ++time) all += one;
    return all;
}

// How a file with these chunks is refused, or "" where it is read.
static std::string refusal(const std::string& chunks) {
    Failure failure;
    Scope scope{heap, failure};
    Status status;
    std::string whole = written(scope, {}, 2, 2, status);
    whole.insert(8 + 25, chunks);
    images::Image image(heap);
    status = png::read(scope, bytes_of(whole), "a.png", image);
    Arena arena(heap);
    Array<png::Text> kept(heap);
    Failure other;
    Scope beside{heap, other};
    CHECK(status.ok() == png::read_texts(beside, arena, bytes_of(whole), "a.png", kept).ok());
    CHECK(std::string_view(failure.text) == other.text);
    return failure.text;
}

// Whatever chunk they are in, by what they unpack to; and by their number, which is another reason. A kind that did not
// count would let one text too many in.
static void texts_are_bounded_together() {
    const std::string refused = "a.png is not a PNG file that can be read: ";
    const std::string one_mib(std::size_t{1} << 20, 'a'), large = packed(one_mib), small = packed("a");
    const std::string xmp("XML:com.adobe.xmp\0\1\0\0\0", 22), key("a\0", 2), packed_key("a\0\0", 3);
    const std::string whole = chunks("iTXt", xmp + large, 22) + chunks("zTXt", packed_key + large, 21);
    CHECK(refusal(whole + chunks("tEXt", key + one_mib, 21)).empty());
    CHECK(refusal(whole + chunks("tEXt", key + one_mib, 22)) == refused + "its texts unpack to more than 64 MiB");
    const std::string tiny = chunks("iTXt", xmp + small, 500) + chunks("zTXt", packed_key + small, 500);
    CHECK(refusal(tiny + chunks("tEXt", key + "a", 65536 - 1000)).empty());
    CHECK(refusal(tiny + chunks("tEXt", key + "a", 65537 - 1000)) == refused + "it has more than 65536 texts");
    const std::string more = packed(one_mib + "a");
    CHECK(refusal(chunks("zTXt", packed_key + more, 1)) == refused + "a text unpacks to more than 1 MiB");
    CHECK(refusal(chunks("iTXt", xmp + more, 1)) == refused + "a text unpacks to more than 1 MiB");
}

// The image is not: as in Pillow, a damaged zTXt is an empty text, and a damaged iTXt none.
static void damaged_texts_are_left_out() {
    CHECK(refusal(chunks("zTXt", std::string("a\0\0no zlib", 10), 1)).empty());
    CHECK(refusal(chunks("iTXt", std::string("XML:com.adobe.xmp\0\1\0\0\0no zlib", 29), 1)).empty());
}

int main() {
    texts_are_bounded_together();
    damaged_texts_are_left_out();
    return done();
}
