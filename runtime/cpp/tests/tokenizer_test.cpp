// Token ids of the conformance kit, refusals, and what an allocation that fails does.
#include "core/text/tokenizer.h"

#include <string>

#include "core/codes.h"
#include "tests/check.h"
#include "tests/failing_allocator.h"
#include "tests/files.h"
#include "tests/splices.h"

using namespace ldm;

static Allocator machine = system_allocator();

static bool has_ids(Scope& scope, const Tokenizer& tokenizer, std::string_view text, View<json::Value> expected) {
    Array<Token> tokens(machine);
    bool same = encode(scope, tokenizer, text, tokens).ok() && tokens.size() == expected.size;
    for (std::size_t index = 0; same && index < tokens.size(); ++index)
        same = tokens[index].id == expected[index].integer;
    return same;
}

static void ids_are_those_of_the_kit() {
    GoldenJson golden("tokenizer.json");
    Failure failure;
    Scope scope{machine, failure};
    Arena arena(machine);
    Tokenizer tokenizer;
    std::string content = read_file(golden_path("tokenizer/tokenizer.json"));
    if (!CHECK(read_tokenizer(scope, arena, content, "tokenizer.json", tokenizer).ok()))
        std::fprintf(stderr, "%s\n", failure.text);
    int wrong = 0;
    for (const json::Value& one : golden.value.find("cases")->items) {
        wrong += !has_ids(scope, tokenizer, one.items[0].text, one.items[1].items);
    }
    CHECK(wrong == 0);
}

static const std::string& good_file() {
    static const std::string content = read_file(golden_path("package/tokenizer/tokenizer.json"));
    return content;
}

static std::string_view result_of(const std::string& content, Failure& failure) {
    Scope scope{machine, failure};
    Arena arena(machine);
    Tokenizer tokenizer;
    Status status = read_tokenizer(scope, arena, content, "tokenizer.json", tokenizer);
    return status.ok() ? std::string_view("ok") : status.code();
}

static void changed_files_have_their_codes(const GoldenJson& golden) {
    for (const json::Value& change : golden.value.find("changes")->items) {
        Splice splice(change.text);
        Failure failure;
        std::string_view got = result_of(splice.applied(good_file()), failure);
        if (!CHECK(got == splice.result)) {
            std::fprintf(stderr, "  %.100s: %s: %s\n", change.text.data(), got.data(), failure.text);
        }
        CHECK(got == "ok" || std::string_view(failure.text).substr(0, 14) == "tokenizer.json");
    }
    Failure failure;
    CHECK(result_of(std::string(max_tokenizer_bytes + 1, ' '), failure) == codes::file_too_large);
    CHECK(result_of(std::string(100000, '['), failure) == codes::json_depth);
}

static void changed_files_have_their_ids(const GoldenJson& golden) {
    for (const json::Value& one : golden.value.find("ids")->items) {
        Failure failure;
        Scope scope{machine, failure};
        Arena arena(machine);
        Tokenizer tokenizer;
        std::string content = Splice(std::string(one.find("change")->text) + " ok").applied(good_file());
        if (!CHECK(read_tokenizer(scope, arena, content, "tokenizer.json", tokenizer).ok())) continue;
        for (const json::Value& text : one.find("texts")->items) {
            if (!CHECK(has_ids(scope, tokenizer, text.items[0].text, text.items[1].items))) {
                std::fprintf(stderr, "  %s\n", text.items[0].text.data());
            }
        }
    }
}

int main() {
    ids_are_those_of_the_kit();
    GoldenJson golden("tokenizers.json");
    changed_files_have_their_codes(golden);
    changed_files_have_their_ids(golden);
    check_every_allocation("a tokenizer", [](Scope& its) {
        Arena arena(its.memory);
        Tokenizer tokenizer;
        LDM_TRY(read_tokenizer(its, arena, good_file(), "tokenizer.json", tokenizer));
        Array<Token> tokens(its.memory);
        return encode(its, tokenizer, "A r\u00e9d  apple e\u0301 <|endoftext|> don't", tokens);
    });
    return done();
}
