// The prompt language and windows of the conformance kit, what is left out, and what an allocation that fails does.
#include "core/text/prompt.h"

#include <cmath>
#include <string>

#include "core/codes.h"
#include "tests/check.h"
#include "tests/failing_allocator.h"
#include "tests/files.h"

using namespace ldm;

static Allocator machine = system_allocator();
static const TokenizerFacts facts = {"tokenizer/tokenizer.json", 12, 514, 515, 515, 517};

struct Given {
    Failure failure;
    Scope scope{machine, failure};
    Arena arena{machine};
    Tokenizer tokenizer;
    Given() {
        std::string content = read_file(golden_path("package/tokenizer/tokenizer.json"));
        CHECK(read_tokenizer(scope, arena, content, "tokenizer.json", tokenizer).ok());
        CHECK(check_ends(scope, tokenizer, "tokenizer.json", 514, 515, 515, 517).ok());
    }
};

static bool is_refused(const Status& status) {
    return !status.ok() && std::string_view(status.code()) == codes::request_prompt;
}

static bool close(double a, double b, double tolerance) {
    return std::fabs(a - b) <= tolerance * std::fmax(1.0, std::fabs(b));
}

static bool same_parts(const View<View<WeightedText>>& parts, const json::Value& expected) {
    if (parts.size != expected.items.size) return false;
    for (std::size_t part = 0; part < parts.size; ++part) {
        const json::Value& pieces = expected.items[part];
        if (parts[part].size != pieces.items.size) return false;
        for (std::size_t piece = 0; piece < parts[part].size; ++piece) {
            const json::Value& wanted = pieces.items[piece];
            if (parts[part][piece].text != wanted.items[0].text) return false;
            if (!close(parts[part][piece].weight, wanted.items[1].real, 1e-12)) return false;
        }
    }
    return true;
}

static void prompts_are_parsed_as_in_the_kit(const GoldenJson& golden) {
    for (const json::Value& one : golden.value.find("parse")->items) {
        Failure failure;
        Scope scope{machine, failure};
        Arena arena(machine);
        View<View<WeightedText>> parts;
        Status status = parse_prompt(scope, arena, one.find("prompt")->text, "the prompt", parts);
        const json::Value& expected = *one.find("parts");
        bool fits = expected.kind == json::Kind::null ? is_refused(status)
                                                      : status.ok() && same_parts(parts, expected);
        if (!CHECK(fits)) std::fprintf(stderr, "  %.60s: %s\n", one.find("prompt")->text.data(), failure.text);
    }
}

static bool same_window(const Window& window, const json::Value& expected) {
    const json::Value &ids = *expected.find("ids"), &weights = *expected.find("weights");
    bool same = window.ids.size == ids.items.size && window.weights.size == weights.items.size;
    for (std::size_t at = 0; same && at < window.ids.size; ++at) {
        same = window.ids[at] == ids.items[at].integer && close(window.weights[at], weights.items[at].real, 1e-12);
    }
    return same;
}

static void windows_are_those_of_the_kit(const GoldenJson& golden) {
    Given given;
    for (const json::Value& one : golden.value.find("windows")->items) {
        PromptWindows made;
        std::string_view prompt = one.find("prompt")->text;
        Status status = prompt_windows(given.scope, given.arena, given.tokenizer, facts, prompt, "the prompt",
                                       Syntax::weighted, made);
        const json::Value& expected = *one.find("windows");
        bool fits = expected.kind == json::Kind::null ? is_refused(status)
                                                      : status.ok() && made.windows.size == expected.items.size;
        for (std::size_t at = 0; fits && at < made.windows.size; ++at)
            fits = same_window(made.windows[at], expected.items[at]);
        if (!CHECK(fits)) std::fprintf(stderr, "  %s: %s\n", prompt.data(), given.failure.text);
    }
}

static void numbers(const json::Value& value, Array<float>& out) {
    if (value.kind != json::Kind::list) CHECK(out.push(static_cast<float>(value.real)));
    for (const json::Value& item : value.items) numbers(item, out);
}

static void embeddings_are_weighed_as_in_the_kit(const GoldenJson& golden) {
    for (const json::Value& one : golden.value.find("weigh")->items) {
        Array<float> embedding(machine), result(machine);
        Array<double> weights(machine);
        numbers(*one.find("embedding"), embedding);
        numbers(*one.find("result"), result);
        for (const json::Value& weight : one.find("weights")->items) CHECK(weights.push(weight.real));
        weigh(embedding.data(), embedding.size() / weights.size(), weights.view());
        for (std::size_t at = 0; at < result.size(); ++at) {
            CHECK(close(static_cast<double>(embedding[at]), static_cast<double>(result[at]), 1e-6));
        }
    }
}

static void what_is_left_out_is_told_from_its_word() {
    Given given;
    auto left_out = [&](std::string_view prompt) {
        PromptWindows made;
        CHECK(
            prompt_windows(given.scope, given.arena, given.tokenizer, facts, prompt, "the prompt", Syntax::plain, made)
                .ok());
        CHECK(made.windows.size == 1 && made.windows[0].ids.size == 12 && made.windows[0].weights.empty());
        return made.left_out;
    };
    LeftOut apple = left_out("red red red red red red red red red red APPLE, 3d \u4e2d ");
    CHECK(apple.text == "APPLE, 3d \u4e2d" && apple.words == 3 && apple.characters == 11);
    CHECK(left_out("red red red red red red red red apple blue").text == "apple blue");
    CHECK(left_out("red red red red red red red red red red").text.empty());
}

static void refused(std::string_view prompt, std::string_view sentence) {
    Given given;
    PromptWindows made;
    Status status =
        prompt_windows(given.scope, given.arena, given.tokenizer, facts, prompt, "the prompt", Syntax::plain, made);
    CHECK(is_refused(status) && given.failure.text == sentence);
}

int main() {
    GoldenJson golden("prompts.json");
    prompts_are_parsed_as_in_the_kit(golden);
    windows_are_those_of_the_kit(golden);
    embeddings_are_weighed_as_in_the_kit(golden);
    what_is_left_out_is_told_from_its_word();
    refused("red\xff", "the prompt is not valid Unicode text at character 3; give it as UTF-8");
    refused(std::string(100001, 'x'), "the prompt has 100001 characters; expected at most 100000");
    Given given;
    for (Syntax syntax : {Syntax::plain, Syntax::weighted}) {
        check_every_allocation("windows", [&](Scope& its) {
            Arena arena(its.memory);
            PromptWindows made;
            return prompt_windows(its, arena, given.tokenizer, facts,
                                  "(red:1.2) apple [blue] BREAK \\(e\u0301 <|endoftext|> red", "the prompt", syntax,
                                  made);
        });
    }
    return done();
}
