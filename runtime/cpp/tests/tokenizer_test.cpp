// Token ids of the conformance kit, refusals, and what an allocation that fails does.
#include "core/text/tokenizer.h"

#include <string>

#include "tests/check.h"
#include "tests/failing_allocator.h"
#include "tests/files.h"

using namespace ldm;

static Allocator machine = system_allocator();

static void ids_are_those_of_the_kit() {
    GoldenJson golden("tokenizer.json");
    Failure failure;
    Scope scope{machine, failure};
    Arena arena(machine);
    Tokenizer tokenizer;
    std::string content = read_file(golden_path("tokenizer/tokenizer.json"));
    if (!CHECK(read_tokenizer(scope, arena, content, "tokenizer.json", tokenizer).ok())) std::fprintf(stderr, "%s\n", failure.text);
    Array<Token> tokens(machine);
    int wrong = 0;
    for (const json::Value& one : golden.value.find("cases")->items) {
        tokens.shrink(0);
        CHECK(encode(scope, tokenizer, one.items[0].text, tokens).ok());
        const View<json::Value>& expected = one.items[1].items;
        bool same = tokens.size() == expected.size;
        for (std::size_t index = 0; same && index < tokens.size(); ++index) same = tokens[index].id == expected[index].integer;
        wrong += !same;
    }
    CHECK(wrong == 0);
}

int main() {
    ids_are_those_of_the_kit();
    check_every_allocation("a tokenizer", [](Scope& its) {
        static const std::string text = read_file(golden_path("package/tokenizer/tokenizer.json"));
        Arena arena(its.memory);
        Tokenizer tokenizer;
        LDM_TRY(read_tokenizer(its, arena, text, "tokenizer.json", tokenizer));
        Array<Token> tokens(its.memory);
        return encode(its, tokenizer, "A r\u00e9d  apple e\u0301 <|endoftext|> don't", tokens);
    });
    return done();
}
