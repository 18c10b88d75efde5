// Headers of weights and graphs of packages: those of the conformance kit, and each way to be wrong with its code.
#include <string>
#include <vector>

#include "core/codes.h"
#include "core/package/file_rules.h"
#include "core/package/onnx_file.h"
#include "core/package/protobuf.h"
#include "core/package/safetensors.h"
#include "tests/check.h"
#include "tests/failing_allocator.h"
#include "tests/files.h"
#include "tests/splices.h"

using namespace ldm;

static View<unsigned char> bytes_of(std::string_view content) {
    return {reinterpret_cast<const unsigned char*>(content.data()), content.size()};
}

static std::string header_code(std::string_view content) {
    Allocator memory = system_allocator();
    Failure failure;
    Scope scope{memory, failure};
    Arena arena(memory);
    SafetensorsHeader header;
    // As a host reads it: the first bytes, then as many as the header needs.
    View<unsigned char> whole = bytes_of(content);
    View<unsigned char> first{whole.data, std::min(whole.size, lfs_stub_bytes)};
    View<unsigned char> beginning{whole.data, static_cast<std::size_t>(header_bytes(first, content.size()))};
    CHECK(beginning.size <= content.size());
    Status status = read_header(scope, arena, beginning, content.size(), "model.safetensors", header);
    return status.ok() ? "ok" : status.code();
}

// The code of a refusal, or how many tokens the graph knows.
static std::string graph_result(std::string_view content) {
    Allocator memory = system_allocator();
    Failure failure;
    Scope scope{memory, failure};
    const std::string_view weights[] = {"model.safetensors"};
    Status status = check_external_data(scope, bytes_of(content), {weights, 1}, "model.onnx");
    std::optional<std::uint64_t> known;
    if (status.ok()) status = known_tokens(scope, bytes_of(content), "input_ids", "model.onnx", known);
    if (!status.ok()) return status.code();
    return known.has_value() ? std::to_string(*known) : "None";
}

template <typename Result>
static void changed_bytes_have_their_results(const char* file, std::size_t count, Result result_of) {
    GoldenJson cases("mutations.json");
    const std::string good = read_file(golden_path(file));
    const json::Value& all = *cases.value.find(file);
    for (const json::Value& each : all.items) {
        Splice splice(each.text);
        std::string got = result_of(splice.applied(good));
        if (!CHECK(got == splice.result)) {
            std::fprintf(stderr, "  %s: %.*s, got %s\n", file, static_cast<int>(each.text.size()), each.text.data(),
                         got.c_str());
        }
    }
    CHECK(all.items.size == count);
}

static std::string with_header(std::string_view header, std::size_t data = 0) {
    std::string file(8, '\0');
    for (int byte = 0; byte < 8; ++byte)
        file[static_cast<std::size_t>(byte)] = static_cast<char>(header.size() >> 8 * byte);
    return file.append(header).append(data, 'x');
}

static void expect_header(std::string_view content, std::string_view code) {
    std::string got = header_code(content);
    if (!CHECK(got == code))
        std::fprintf(stderr, "  %.*s: %s\n", static_cast<int>(content.size()), content.data(), got.c_str());
}

static void headers_are_read() {
    Allocator memory = system_allocator();
    Failure failure;
    Scope scope{memory, failure};
    Arena arena(memory);
    SafetensorsHeader header;
    const std::string content = read_file(golden_path("package/unet/model.safetensors"));
    CHECK(read_header(scope, arena, bytes_of(content), content.size(), "m", header).ok());
    CHECK(header.tensors.size == 3 && header.find("conv.weight")->shape.size == 4 && header.find("x") == nullptr);
    CHECK(header.find("conv.weight")->bytes == 4 * 4 * 3 * 3 * 4 && header.tensors[0].offset == header.data_offset);
    expect_header(
        with_header(R"({"__metadata__": {"a": "b"}, "x": {"dtype": "BF16", "shape": [2, 0], "data_offsets": [0, 0]}})"),
        "ok");
    expect_header(with_header("{}"), "ok");
    expect_header(with_header("{}   "), "ok");
    expect_header(with_header(R"({"b": {"dtype": "U8", "shape": [3], "data_offsets": [2, 5]},)"
                              R"( "a": {"dtype": "F16", "shape": [], "data_offsets": [0, 2]}})", 5), "ok");
}

static void wrong_headers_are_refused() {
    expect_header("", codes::weights_header);
    expect_header("1234567", codes::weights_header);
    expect_header("version https://git-lfs.github.com/spec/v1\noid", codes::file_lfs_stub);
    expect_header(with_header(""), codes::weights_header);
    expect_header(with_header("[]"), codes::weights_header);
    expect_header(with_header(" {}"), codes::weights_header);
    expect_header(with_header("{} {}"), codes::json_syntax);
    expect_header(with_header("{\"\xff\"}"), codes::json_encoding);
    expect_header(with_header(R"({"__metadata__": {"a": 1}})"), codes::weights_header);
    expect_header(with_header(R"({"__metadata__": []})"), codes::weights_header);
    for (const char* entry : {
             "[]",
             "{}",
             R"({"dtype": "F32", "shape": [1]})",
             R"({"dtype": "F32", "shape": [1], "offsets": [0, 4]})",
             R"({"dtype": "F32", "shape": [1], "data_offsets": [0, 4], "x": 1})",
             R"({"dtype": "F31", "shape": [1], "data_offsets": [0, 4]})",
             R"({"dtype": 4, "shape": [1], "data_offsets": [0, 4]})",
             R"({"dtype": "F32", "shape": 1, "data_offsets": [0, 4]})",
             R"({"dtype": "F32", "shape": [-1], "data_offsets": [0, 4]})",
             R"({"dtype": "F32", "shape": [1.0], "data_offsets": [0, 4]})",
             R"({"dtype": "F32", "shape": [true], "data_offsets": [0, 4]})",
             R"({"dtype": "F32", "shape": [1], "data_offsets": [4, 0]})",
             R"({"dtype": "F32", "shape": [1], "data_offsets": [0]})",
             R"({"dtype": "F32", "shape": [1], "data_offsets": [0, 8]})",
             R"({"dtype": "U8", "shape": [4294967296, 4294967296], "data_offsets": [0, 0]})",
             R"({"dtype": "U8", "shape": [9223372036854775807, 2, 0], "data_offsets": [0, 0]})",
             R"({"dtype": "U8", "shape": [0], "data_offsets": [99999999999999999999, 199999999999999999999]})",
         }) {
        expect_header(with_header("{\"x\": " + std::string(entry) + "}", 4), codes::weights_tensor);
    }
    const std::string first = R"({"a": {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}, "b": )";
    expect_header(with_header(first + R"({"dtype": "U8", "shape": [2], "data_offsets": [3, 5]}})", 5),
                  codes::weights_layout);
    expect_header(with_header(first + R"({"dtype": "U8", "shape": [2], "data_offsets": [5, 7]}})", 7),
                  codes::weights_layout);
    expect_header(with_header(first + R"({"dtype": "U8", "shape": [2], "data_offsets": [4, 6]}})", 5),
                  codes::weights_layout);
    expect_header(with_header(first + R"({"dtype": "U8", "shape": [2], "data_offsets": [4, 6]}})", 7),
                  codes::weights_layout);
    expect_header(
        with_header(
            first + R"({"dtype": "U8", "shape": [0], "data_offsets": [9223372036854775807, 9223372036854775807]}})", 4),
        codes::weights_tensor);
    expect_header(
        with_header(
            first + R"({"dtype": "U8", "shape": [0], "data_offsets": [999999999999999999, 999999999999999999]}})", 4),
        codes::weights_layout);
}

// A field of a message: its number, kind 2, its length and content.
static std::string field(unsigned number, std::string_view content) {
    std::string made;
    auto put = [&](std::size_t value) {
        for (; value > 127; value >>= 7) made.push_back(static_cast<char>((value & 127) | 128));
        made.push_back(static_cast<char>(value));
    };
    put(std::size_t{number} << 3 | 2);
    put(content.size());
    return made.append(content);
}

// A graph whose ids index that many tables, of nine rows each.
static std::string graph_of_tables(std::size_t count, std::size_t each) {
    std::string graph;
    for (std::size_t node = 0; node < count * each; ++node) {
        std::string table = "table" + std::to_string(node % count);
        graph += field(1, field(1, table) + field(1, "input_ids") + field(2, "row") + field(4, "Gather"));
    }
    for (std::size_t table = 0; table < count; ++table) {
        graph += field(5, std::string("\x08\x09", 2) + field(8, "table" + std::to_string(table)));
    }
    return field(7, graph);
}

static std::string tokens_of(const std::string& content) {
    Allocator memory = system_allocator();
    Failure failure;
    Scope scope{memory, failure};
    std::optional<std::uint64_t> known;
    Status status = known_tokens(scope, bytes_of(content), "input_ids", "model.onnx", known);
    if (!status.ok()) return status.code();
    return known.has_value() ? std::to_string(*known) : "None";
}

static void countless_tables_say_nothing() {
    CHECK(tokens_of(graph_of_tables(1, 9)) == "9");
    CHECK(tokens_of(graph_of_tables(8, 1)) == "9");
    CHECK(tokens_of(graph_of_tables(9, 1)) == "None");
    CHECK(tokens_of(graph_of_tables(20'000, 1)) == "None");  // minutes, were each looked for in all nodes
}

static std::string tensor_at(std::string_view location) {
    return field(13, field(1, "location") + field(2, location));
}

static void places_of_data_are_found() {
    const std::string here = tensor_at("model.safetensors"), there = tensor_at("../x");
    const std::string attribute = field(5, field(5, there)), constant = field(7, field(1, attribute));
    CHECK(graph_result(field(7, field(5, here))) == "None");
    CHECK(graph_result("") == "None");
    CHECK(graph_result(field(7, field(5, there))) == codes::graph_external_data);
    CHECK(graph_result(constant) == codes::graph_external_data);  // a node's attribute
    CHECK(graph_result(field(7, field(1, field(5, field(6, field(5, there)))))) ==
          codes::graph_external_data);                                                                // a branch
    CHECK(graph_result(field(25, field(7, attribute))) == codes::graph_external_data);                // a function
    CHECK(graph_result(field(20, field(1, field(15, field(1, there))))) == codes::graph_external_data);
    CHECK(graph_result(field(7, field(5, here)) + field(7, field(5, there))) == codes::graph_external_data);
    CHECK(graph_result(field(7, field(5, there)) + "\x0f") == codes::graph_format);
    // The last of two counts; an entry without a value names a file of no name.
    std::string twice = field(13, field(1, "location") + field(2, "../x") + field(2, "model.safetensors"));
    CHECK(graph_result(field(7, field(5, twice))) == "None");
    CHECK(graph_result(field(7, field(5, field(13, field(1, "location"))))) == codes::graph_external_data);
    std::string deep = there;
    for (int level = 0; level < 200; ++level) deep = field(1, field(5, field(6, deep)));
    CHECK(graph_result(field(7, deep)) == codes::graph_format);
}

static void sizes_and_vocabularies_are_checked() {
    Allocator memory = system_allocator();
    Failure failure;
    Scope scope{memory, failure};
    const std::string content = read_file(golden_path("package/text_encoder/model.onnx"));
    CHECK(check_vocabulary(scope, bytes_of(content), "input_ids", 517, "text_encoder/model.onnx", "m").ok());
    Status status = check_vocabulary(scope, bytes_of(content), "input_ids", 518, "text_encoder/model.onnx", "m");
    CHECK(!status.ok() && std::string_view(status.code()) == codes::tokenizer_vocabulary);
    CHECK(std::string_view(failure.text) ==
          "m has a tokenizer of 518 tokens for text_encoder/model.onnx, which knows 517");
    CHECK(check_vocabulary(scope, bytes_of(content), "other", 518, "text_encoder/model.onnx", "m").ok());
    CHECK(check_graph_size(scope, max_graph_bytes, "w", "m").ok());
    status = check_graph_size(scope, max_graph_bytes + 1, "w", "m");
    CHECK(!status.ok() && std::string_view(status.code()) == codes::file_too_large);
}

static void files_are_held_to_the_manifest() {
    Allocator memory = system_allocator();
    Failure failure;
    Scope scope{memory, failure};
    Arena arena(memory);
    Manifest manifest;
    const std::string text = read_file(golden_path("package/manifest.json"));
    CHECK(read_manifest(scope, arena, text, manifest).ok());
    for (std::string_view path :
         {"unet/model.onnx", "NOTES.txt", "unet/onnx", ".onnx", "a.onnx.txt", "b.onnx/x", "plan", "x."}) {
        CHECK(!is_unlisted_model(manifest, path));
    }
    for (std::string_view path : {"unet/x.onnx", "x.Onnx", "a/b/c.PTH", "..bin", "unet/model.onnx.data", "a.b.ckpt"}) {
        CHECK(is_unlisted_model(manifest, path));
    }
    const FileEntry entry{"", 40};
    std::string_view stub = "version https://git-lfs.github.com/spec/v1\n";
    CHECK(check_file_size(scope, entry, 40, bytes_of(stub), "m").ok());
    CHECK(std::string_view(check_file_size(scope, entry, 41, bytes_of(stub), "m").code()) == codes::file_lfs_stub);
    CHECK(std::string_view(check_file_size(scope, entry, 39, bytes_of("x"), "m").code()) == codes::file_size);
    CHECK(std::string_view(failure.text) ==
          "m is truncated: it has 39 bytes, but the manifest says 40; fetch or build the package again");
    CHECK(refuse_lfs_stub(scope, bytes_of(stub.substr(0, 39)), "m").ok());
    CHECK(std::string_view(refuse_lfs_stub(scope, bytes_of(stub), "m").code()) == codes::file_lfs_stub);
    CHECK(name_of_file("a/b/c") == "c" && folder_of_file("a/b/c") == "a/b" && name_of_file("c") == "c" &&
          folder_of_file("c").empty());
}

// A number of ten bytes may have bits beyond 64.
static void numbers_are_read() {
    using protobuf::take_number;
    protobuf::Number number;
    std::string_view text("\x96\x01\x05", 3);
    CHECK(take_number(text, number) && number.value == 150 && text.size() == 1);
    text = "\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01";
    CHECK(take_number(text, number) && number.value == UINT64_MAX && !number.is_beyond);
    text = "\xff\xff\xff\xff\xff\xff\xff\xff\xff\x02";
    CHECK(take_number(text, number) && number.is_beyond);
    text = "\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01";
    CHECK(!take_number(text, number));
    text = "\x80";
    CHECK(!take_number(text, number));
}

int main() {
    headers_are_read();
    wrong_headers_are_refused();
    places_of_data_are_found();
    sizes_and_vocabularies_are_checked();
    numbers_are_read();
    countless_tables_say_nothing();
    files_are_held_to_the_manifest();
    changed_bytes_have_their_results("package/unet/model.safetensors", 400, header_code);
    changed_bytes_have_their_results("package/text_encoder/model.onnx", 1000, graph_result);
    const std::string weights = read_file(golden_path("package/unet/model.safetensors"));
    const std::string graph = read_file(golden_path("package/text_encoder/model.onnx"));
    check_every_allocation("a header", [&](Scope& scope) {
        Arena arena(scope.memory);
        SafetensorsHeader header;
        return read_header(scope, arena, bytes_of(weights), weights.size(), "m", header);
    });
    check_every_allocation("a table of tokens", [&](Scope& scope) {
        std::optional<std::uint64_t> known;
        return known_tokens(scope, bytes_of(graph), "input_ids", "m", known);
    });
    return done();
}
