// Strict JSON: what is read, and each refusal with its code.
#include "core/json/json.h"

#include <string>

#include "core/codes.h"
#include "core/json/key_table.h"
#include "core/text/numbers.h"
#include "tests/check.h"
#include "tests/failing_allocator.h"
#include "tests/files.h"

using namespace ldm;

static Allocator machine = system_allocator();

static std::string refusal(std::string_view text) {
    Failure failure;
    Scope scope{machine, failure};
    Arena arena(machine);
    json::Value value;
    return json::parse(scope, arena, text, "test.json", value).ok() ? "accepted" : failure.text;
}

static void refused(std::string_view text, const char* code) {
    Failure failure;
    Scope scope{machine, failure};
    Arena arena(machine);
    json::Value value;
    Status status = json::parse(scope, arena, text, "test.json", value);
    if (!CHECK(!status.ok() && std::string_view(status.code()) == code)) {
        std::fprintf(stderr, "  %.*s: %s, expected %s: %s\n", static_cast<int>(text.size()), text.data(),
                     status.ok() ? "accepted" : status.code(), code, failure.text);
    }
    CHECK(std::string_view(failure.text).substr(0, 9) == "test.json");
}

// As in Python: the key that is there most often, of several the first. Few keys are compared in pairs, many in a
// table.
static void a_repeated_key_is_named() {
    for (int more : {0, 40}) {
        std::string text = "{\"c\": 0, \"a\": 0, \"b\": 0, \"b\": 0, \"a\": 0, \"c\": 0, \"b\": 0";
        for (int index = 0; index < more; ++index) text += ", \"k" + std::to_string(index) + "\": 0";
        CHECK(refusal(text + "}").find("'b'") != std::string::npos);
        CHECK(refusal(text + ", \"a\": 0, \"c\": 0}").find("'c'") != std::string::npos);
    }
}

static void a_key_is_found_among_many() {
    std::string text = "{\"\": 0";
    for (int index = 1; index < 5000; ++index) text += ", \"" + std::to_string(index) + "\": " + std::to_string(index);
    Failure failure;
    Scope scope{machine, failure};
    Arena arena(machine);
    json::Value value;
    CHECK(json::parse(scope, arena, text + "}", "test.json", value).ok());
    json::KeyTable table(machine);
    CHECK(table.find("1") == nullptr);
    CHECK(table.build(value.members) && !table.repeats());
    CHECK(table.find("")->value.integer == 0 && table.find("4999")->value.integer == 4999);
    CHECK(table.find("49", "99") == table.find("4999") && table.find("", "7") == table.find("7", ""));
    CHECK(table.find("5000") == nullptr && table.find("49", "999") == nullptr);
    CHECK(table.build({}) && table.find("") == nullptr);
}

static void values_are_read() {
    Failure failure;
    Scope scope{machine, failure};
    Arena arena(machine);
    json::Value value;
    std::string_view text =
        R"( {"a": [1, -2.5e3, true, false, null, 0, -0, 1e-400], "b\u00e9\ud83d\ude00\n": {"c": ""}, )"
        R"("n": 123456789012345678901} )";
    if (!CHECK(json::parse(scope, arena, text, "test.json", value).ok())) std::fprintf(stderr, "%s\n", failure.text);
    const json::Value* list = value.find("a");
    if (!CHECK(list != nullptr && list->items.size == 8)) return;
    CHECK(list->items[0].kind == json::Kind::integer && list->items[0].integer == 1);
    CHECK(list->items[1].kind == json::Kind::real && list->items[1].real == -2500.0);
    CHECK(list->items[2].boolean && !list->items[3].boolean && list->items[4].kind == json::Kind::null);
    CHECK(list->items[7].real == 0.0);
    CHECK(value.members[1].key == "b\u00e9\U0001F600\n");
    CHECK(value.find("n")->integer == INT64_MAX && value.find("n")->real > 1e20);
}

// As the conformance kit tells it: "real 0.5", "integer 7.0", or the code of the refusal.
static void numbers_are_those_of_python() {
    GoldenJson cases("numbers.json");
    CHECK(cases.value.items.size > 300);
    for (const json::Value& each : cases.value.items) {
        std::string_view text = each.items[0].text, expected = each.items[1].text;
        Failure failure;
        Scope scope{machine, failure};
        Arena arena(machine);
        json::Value value;
        Status status = json::parse(scope, arena, text, "test.json", value);
        std::string found = value.kind == json::Kind::integer ? "integer " : "real ";
        found += numbers::shortest(value.real).view();
        if (!status.ok()) found = status.code();
        if (CHECK(found == expected)) continue;
        std::fprintf(stderr, "  %.100s: %s, expected %.*s\n", text.data(), found.c_str(),
                     static_cast<int>(expected.size()), expected.data());
    }
}

int main() {
    values_are_read();
    a_repeated_key_is_named();
    a_key_is_found_among_many();
    numbers_are_those_of_python();
    refused("", codes::json_syntax);
    refused("{", codes::json_syntax);
    refused("[1,]", codes::json_syntax);
    refused("[1] 2", codes::json_syntax);
    refused("[01]", codes::json_syntax);
    refused("[1.]", codes::json_syntax);
    refused("[.5]", codes::json_syntax);
    refused("[1e]", codes::json_syntax);
    refused("[+1]", codes::json_syntax);
    refused("[\"\\x41\"]", codes::json_syntax);
    refused("[\"a\nb\"]", codes::json_syntax);
    refused("{\"a\" 1}", codes::json_syntax);
    refused("{a: 1}", codes::json_syntax);
    refused("[\"\xff\"]", codes::json_encoding);
    refused("\xEF\xBB\xBF[]", codes::json_encoding);
    refused("{\"a\": 1, \"b\": 2, \"a\": 3}", codes::json_duplicate_key);
    refused("[NaN]", codes::json_number);
    refused("[-Infinity]", codes::json_number);
    refused("[1e999]", codes::json_number);
    refused("[\"\\ud800\"]", codes::json_surrogate);
    refused("[\"\\udc00\\ud800\"]", codes::json_surrogate);
    refused("[\"\\ud800\\u0041\"]", codes::json_surrogate);
    refused("[\"\\ud800\\ud800\\udc00\"]", codes::json_surrogate);
    refused("[\"\\ud800\", x]", codes::json_syntax);  // the text is read to its end first
    refused("{\"a\": \"\\ud800\", \"a\": 1}", codes::json_duplicate_key);
    char deep[130];
    std::memset(deep, '[', 65);
    std::memset(deep + 65, ']', 65);
    refused({deep, 130}, codes::json_depth);
    Failure failure;
    Scope scope{machine, failure};
    Arena arena(machine);
    json::Value value;
    CHECK(json::parse(scope, arena, {deep + 1, 128}, "test.json", value).ok());  // 64 levels
    check_every_allocation("a manifest", [](Scope& its) {
        Arena its_arena(its.memory);
        json::Value read;
        static const std::string text = read_file(golden_path("package/manifest.json"));
        return json::parse(its, its_arena, text, "manifest.json", read);
    });
    return done();
}
