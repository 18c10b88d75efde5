// PNG files: every golden one, hostile ones, and what is written.
#include "src/png/png.h"

#include "core/codes.h"
#include "tests/check.h"
#include "tests/failing_allocator.h"
#include "tests/golden_images.h"
#include "tests/made_png.h"

using namespace ldm;

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
