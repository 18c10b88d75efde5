// JSON is written to the byte as Python writes it, and structs become what they are read from.
#include "core/json/write.h"

#include <string>

#include "core/json/plain.h"
#include "core/package/contract_fields.h"
#include "core/package/manifest.h"
#include "tests/check.h"
#include "tests/failing_allocator.h"
#include "tests/files.h"

using namespace ldm;

namespace {

constexpr std::string_view text =
    "{\"b\": [1, 2.5, -0.0, 1e-7, 1e22, true, null], "
    "\"a\": {\"x\": \"\\u00e9\\u007f\\n\\\"\\\\\\ud83c\\udf4e\\u0001\", \"\": [], \"o\": {}}}";

std::string written(Scope& scope, const json::Value& value, const json::Style& style) {
    Array<char> out(scope.memory);
    CHECK(json::write(value, style, scope.memory, out));
    return {out.data(), out.size()};
}

void as_python_writes_it() {
    Allocator memory = system_allocator();
    Failure failure;
    Scope scope{memory, failure};
    Arena arena(memory);
    json::Value value;
    CHECK(json::parse(scope, arena, text, "text", value).ok());
    const std::string ascii = "\"\\u00e9\\u007f\\n\\\"\\\\\\ud83c\\udf4e\\u0001\"";
    CHECK(written(scope, value, {}) ==
          "{\"b\": [1, 2.5, -0.0, 1e-07, 1e+22, true, null], \"a\": {\"x\": " + ascii + ", \"\": [], \"o\": {}}}");
    CHECK(written(scope, value, json::canonical_style) ==
          "{\"a\":{\"\":[],\"o\":{},\"x\":" + ascii + "},\"b\":[1,2.5,-0.0,1e-07,1e+22,true,null]}");
    CHECK(written(scope, value, {false, false, false, 1}) ==
          "{\n \"b\": [\n  1,\n  2.5,\n  -0.0,\n  1e-07,\n  1e+22,\n  true,\n  null\n ],\n \"a\": {\n  \"x\": "
          "\"é\x7f\\n\\\"\\\\🍎\\u0001\",\n  \"\": [],\n  \"o\": {}\n }\n}");
}

void equal_values_are_equal() {
    Allocator memory = system_allocator();
    Failure failure;
    Scope scope{memory, failure};
    Arena arena(memory);
    auto read = [&](std::string_view content) {
        json::Value value;
        CHECK(json::parse(scope, arena, content, "text", value).ok());
        return value;
    };
    CHECK(json::are_equal(read("{\"a\": [1, null], \"b\": \"x\"}"), read("{\"b\": \"x\", \"a\": [1, null]}")));
    for (const char* other : {"{\"a\": [1.0, null], \"b\": \"x\"}", "{\"a\": [1], \"b\": \"x\"}", "{\"a\": [1, null]}",
                              "{\"a\": [1, null], \"b\": \"y\"}", "{\"a\": [1, null], \"c\": \"x\"}", "[]", "null"}) {
        CHECK(!json::are_equal(read("{\"a\": [1, null], \"b\": \"x\"}"), read(other)));
    }
}

// The contract of the kit's package, read and made plain again, is what stands in its manifest.
Status contract_and_back(Scope& scope, const std::string& content) {
    Arena arena(scope.memory);
    Manifest manifest;
    json::Value whole, again;
    LDM_TRY(json::parse(scope, arena, content, "manifest", whole));
    LDM_TRY(read_manifest(scope, arena, content, manifest));
    json::Reader reader{scope, arena};
    LDM_TRY(json::plain(reader, manifest.contract, again));
    Array<char> first(scope.memory), second(scope.memory);
    LDM_NEED(scope, json::write(*whole.find("contract"), json::canonical_style, scope.memory, first));
    LDM_NEED(scope, json::write(again, json::canonical_style, scope.memory, second));
    CHECK(std::string_view(first.data(), first.size()) == std::string_view(second.data(), second.size()));
    return Status();
}

void optional_fields_are_left_out_with_their_default() {
    Allocator memory = system_allocator();
    Failure failure;
    Scope scope{memory, failure};
    Arena arena(memory);
    json::Reader reader{scope, arena};
    json::Value value;
    Defaults defaults;
    CHECK(json::plain(reader, defaults, value).ok() && value.find("zero_negative") == nullptr);
    CHECK(json::plain_whole(reader, defaults, value).ok() && value.find("zero_negative") != nullptr);
    defaults.zero_negative = true;
    CHECK(json::plain(reader, defaults, value).ok() && value.find("zero_negative")->boolean);
}

}  // namespace

int main() {
    as_python_writes_it();
    equal_values_are_equal();
    optional_fields_are_left_out_with_their_default();
    std::string content = read_file(golden_path("package/manifest.json"));
    check_every_allocation("a contract", [&](Scope& scope) { return contract_and_back(scope, content); });
    return done();
}
