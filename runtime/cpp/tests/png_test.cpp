// PNG files: every golden one, hostile ones, and what is written.
#include "src/png/png.h"

#include "core/codes.h"
#include "src/png/memory.h"
#include "tests/check.h"
#include "tests/failing_allocator.h"
#include "tests/golden_images.h"
#include "third_party/lodepng/lodepng.h"

using namespace ldm;

static Allocator heap = system_allocator();

static png::Bytes bytes_of(std::string_view text) {
    return {reinterpret_cast<const unsigned char*>(text.data()), text.size()};
}

static std::string expected_texts(const json::Value& texts) {
    std::string all;
    for (const json::Member& each : texts.members) all.append(each.key).append("=").append(each.value.text).append(";");
    return all;
}

static std::string texts_of(png::Bytes file) {
    Failure failure;
    Scope scope{heap, failure};
    Arena arena(heap);
    Array<png::Text> texts(heap);
    if (!CHECK(png::read_texts(scope, arena, file, "a.png", texts).ok())) return failure.text;
    std::string all;
    for (const png::Text& each : texts) all.append(each.key).append("=").append(each.value).append(";");
    return all;
}

static void golden_files_are_read() {
    GoldenJson cases("images.json");
    for (const json::Value& each : cases.value.find("png")->items) {
        png::Bytes file = images_golden().tensor<unsigned char>(text_of(each, "file"));
        Failure failure;
        Scope scope{heap, failure};
        images::Image image(heap);
        Status status = png::read(scope, file, "a.png", image);
        if (each.find("expected")->kind == json::Kind::null) {
            if (!CHECK(!status.ok() && std::string_view(status.code()) == codes::request_image)) {
                std::fprintf(stderr, "  %s\n", text_of(each, "why").c_str());
            }
            CHECK(std::string_view(failure.text).substr(0, 5) == "a.png");
            continue;
        }
        if (!CHECK(status.ok())) {
            std::fprintf(stderr, "  %s: %s\n", text_of(each, "why").c_str(), failure.text);
            continue;
        }
        if (check_image(image, text_of(each, "expected")) != 0) {
            std::fprintf(stderr, "  %s\n", text_of(each, "why").c_str());
        }
        CHECK(texts_of(file) == expected_texts(*each.find("texts")));
    }
}

static std::string written(Scope& scope, View<png::Text> texts, std::size_t width, std::size_t height, Status& status) {
    Array<std::uint8_t> levels(scope.memory);
    Array<unsigned char> file(scope.memory);
    if (!levels.resize(width * height * 3)) {
        status = scope.out_of_memory();
        return "";
    }
    for (std::size_t index = 0; index < levels.size(); ++index) {
        levels[index] = static_cast<std::uint8_t>(index * index >> 4);
    }
    status = png::write(scope, levels.data(), width, height, texts, file);
    return {reinterpret_cast<const char*>(file.data()), file.size()};
}

static void what_is_written_is_read() {
    const png::Text texts[] = {{"plain", "a red apple"}, {"latin", "caf\u00e9"}, {"other", "\u65e5\u672c \U0001f600"},
                               {"nul", std::string_view("a\0b", 3)}, {"empty", ""}, {"broken", "\xff"}};
    Failure failure;
    Scope scope{heap, failure};
    Status status;
    std::string file = written(scope, {texts, 6}, 37, 21, status);
    CHECK(status.ok());
    CHECK(texts_of(bytes_of(file)) ==
          "plain=a red apple;latin=caf\u00e9;other=\u65e5\u672c \U0001f600;nul=a\ufffdb;empty=;broken=\ufffd;");
    CHECK(file.find("tEXtlatin") != std::string::npos && file.find("iTXtnul") != std::string::npos);
    CHECK(file.find("iTXtother") < file.find("IDAT"));  // so that readers know texts before they unpack pixels
    images::Image image(heap);
    CHECK(png::read(scope, bytes_of(file), "a.png", image).ok());
    CHECK(image.width == 37 && image.height == 21 && image.channels == 3);
    bool same = true;
    for (std::size_t index = 0; index < image.levels.size(); ++index) {
        same = same && image.levels[index] == static_cast<std::uint8_t>(index * index >> 4);
    }
    CHECK(same);
}

static void a_grey_image_is_written_as_rgb() {
    Failure failure;
    Scope scope{heap, failure};
    Array<unsigned char> file(heap);
    const std::uint8_t grey[3] = {7, 7, 7};
    CHECK(png::write(scope, grey, 1, 1, {}, file).ok());
    CHECK(file[25] == 2 && file[24] == 8);
}

// Every beginning of a file, and every byte changed: refused, or read without harm.
static void damaged_files_do_no_harm() {
    Failure failure;
    Scope scope{heap, failure};
    Status status;
    const png::Text text = {"other", "\u65e5"};
    std::string whole = written(scope, {&text, 1}, 9, 5, status);
    for (std::size_t size = 0; size < whole.size(); ++size) {
        images::Image image(heap);
        status = png::read(scope, bytes_of({whole.data(), size}), "a.png", image);
        CHECK(!status.ok() && std::string_view(status.code()) == codes::request_image);
    }
    for (std::size_t at = 0; at < whole.size(); ++at) {
        std::string changed = whole;
        changed[at] = static_cast<char>(changed[at] ^ 0x55);
        images::Image image(heap);
        status = png::read(scope, bytes_of(changed), "a.png", image);
        CHECK(!status.ok() && std::string_view(status.code()) == codes::request_image);
    }
}

static void add_chunk(std::string& file, std::string_view kind, const std::string& content) {
    auto put = [&](std::size_t number) {
        for (int shift = 24; shift >= 0; shift -= 8) file += static_cast<char>(number >> shift);
    };
    put(content.size());
    std::string body = std::string(kind) + content;
    file += body;
    put(lodepng_crc32(reinterpret_cast<const unsigned char*>(body.data()), body.size()));
}

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

// How a file with a text chunk many times is refused, or "" where it is read.
static std::string many_texts(std::string_view kind, const std::string& content, int times) {
    Failure failure;
    Scope scope{heap, failure};
    Status status;
    std::string whole = written(scope, {}, 2, 2, status), texts;
    for (int time = 0; time < times; ++time) add_chunk(texts, kind, content);
    whole.insert(8 + 25, texts);
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

// Whatever chunk they are in, by what they unpack to; and by their number, which is another reason.
static void texts_are_bounded_together() {
    const std::string refused = "a.png is not a PNG file that can be read: ";
    const std::string one_mib(std::size_t{1} << 20, 'a'), large = packed(one_mib), small = packed("a");
    const std::string xmp("XML:com.adobe.xmp\0\1\0\0\0", 22), key("a\0", 2), packed_key("a\0\0", 3);
    const std::pair<const char*, std::string> whole[] = {
        {"iTXt", xmp + large}, {"zTXt", packed_key + large}, {"tEXt", key + one_mib}};
    for (const auto& [kind, content] : whole) {
        CHECK(many_texts(kind, content, 65) == refused + "its texts unpack to more than 64 MiB");
    }
    CHECK(many_texts("zTXt", packed_key + large, 64).empty() && many_texts("tEXt", key + "a", 65536).empty());
    const std::pair<const char*, std::string> tiny[] = {{"zTXt", packed_key + small}, {"tEXt", key + "a"}};
    for (const auto& [kind, content] : tiny) {
        CHECK(many_texts(kind, content, 65537) == refused + "it has more than 65536 texts");
    }
    const std::string more = packed(one_mib + "a");
    CHECK(many_texts("zTXt", packed_key + more, 1) == refused + "a text unpacks to more than 1 MiB");
    CHECK(many_texts("iTXt", xmp + more, 1) == refused + "a text unpacks to more than 1 MiB");
}

// The image is not: as in Pillow, a damaged zTXt is an empty text, and a damaged iTXt none.
static void damaged_texts_are_left_out() {
    CHECK(many_texts("zTXt", std::string("a\0\0no zlib", 10), 1).empty());
    CHECK(many_texts("iTXt", std::string("XML:com.adobe.xmp\0\1\0\0\0no zlib", 29), 1).empty());
}

// One chunk too many, before the pixels or behind them. tests/runtime/cpp/test_png_verdicts.py has many more, and holds
// Python to the same words.
static void what_is_out_of_place_is_refused() {
    struct Case {
        const char *kind, *content;
        std::size_t bytes;
        bool is_behind;
        std::string_view sentence;
    };
    const Case cases[] = {
        {"WHAT", "", 0, false, "it needs a chunk that PNG does not have"},
        {"prvt", "", 0, true, "the name of a chunk is not four letters, of which the third is a capital"},
        {"PLTE", "abcd", 4, false, "its palette is not 1 to 256 colours of 3 bytes"},
        {"PLTE", "abc", 3, true, "it has two palettes, or one behind its pixels"},
        {"tRNS", "abcdefg", 7, false, "its list of what is transparent has a size that does not fit its colours"},
        {"tRNS", "abcdef", 6, true, "it has two lists of what is transparent, or one behind its pixels"},
        {"IDAT", "", 0, true, ""},
        {"gAMA", "", 0, false, ""},
    };
    for (const Case& each : cases) {
        Failure failure;
        Scope scope{heap, failure};
        Status status;
        std::string whole = written(scope, {}, 2, 2, status), added;
        add_chunk(added, each.kind, {each.content, each.bytes});
        whole.insert(each.is_behind ? whole.size() - 12 : 8 + 25, added);
        images::Image image(heap);
        CHECK(png::read(scope, bytes_of(whole), "a.png", image).ok() == each.sentence.empty());
        if (each.sentence.empty()) continue;
        const std::string expected = "a.png is not a PNG file that can be read: " + std::string(each.sentence);
        if (!CHECK(failure.text == expected)) std::fprintf(stderr, "  %s: %s\n", each.kind, failure.text);
    }
}

int main() {
    what_is_out_of_place_is_refused();
    texts_are_bounded_together();
    damaged_texts_are_left_out();
    golden_files_are_read();
    what_is_written_is_read();
    a_grey_image_is_written_as_rgb();
    damaged_files_do_no_harm();
    static const png::Text text = {"other", "\u65e5\u672c"};
    static std::string file;
    check_every_allocation("writing", [](Scope& scope) {
        Status status;
        file = written(scope, {&text, 1}, 9, 5, status);
        return status;
    });
    check_every_allocation("reading", [](Scope& scope) {
        images::Image image(scope.memory);
        LDM_TRY(png::read(scope, bytes_of(file), "a.png", image));
        Arena arena(scope.memory);
        Array<png::Text> texts(scope.memory);
        return png::read_texts(scope, arena, bytes_of(file), "a.png", texts);
    });
    GoldenJson cases("images.json");
    for (const json::Value& each : cases.value.find("png")->items) {
        if (each.find("expected")->kind == json::Kind::null) continue;
        static png::Bytes golden;
        golden = images_golden().tensor<unsigned char>(text_of(each, "file"));
        check_every_allocation("a golden file", [](Scope& scope) {
            images::Image image(scope.memory);
            LDM_TRY(png::read(scope, golden, "a.png", image));
            Arena arena(scope.memory);
            Array<png::Text> texts(scope.memory);
            return png::read_texts(scope, arena, golden, "a.png", texts);
        });
    }
    return done();
}
