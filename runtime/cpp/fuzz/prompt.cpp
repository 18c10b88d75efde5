// Prompts, plain and weighted: windows of the encoder's size, of tokens that it knows, with weights that are numbers.
#include "core/text/prompt.h"

#include <cmath>
#include <vector>

#include "core/text/foreign_syntax.h"
#include "core/text/utf8.h"
#include "fuzz/target.h"
#include "tests/files.h"

using namespace ldm;

namespace {

constexpr std::size_t length = 12, width = 3;  // of a window, of an embedding
const TokenizerFacts facts = {"tokenizer/tokenizer.json", length, 514, 515, 515, 517};

struct Kit {
    std::string file = read_file(golden_path("package/tokenizer/tokenizer.json"));
    Allocator memory = system_allocator();
    Arena arena{memory};
    Tokenizer tokenizer;

    Kit() {
        Failure failure;
        Scope scope{memory, failure};
        REQUIRE(read_tokenizer(scope, arena, file, "tokenizer.json", tokenizer).ok());
    }
};

void require_window(const Window& window, Syntax syntax) {
    REQUIRE(window.ids.size == length && window.ids[0] == facts.bos_token_id);
    REQUIRE(window.weights.size == (syntax == Syntax::weighted ? length : 0));
    for (std::int32_t id : window.ids) REQUIRE(0 <= id && id < facts.vocab_size);
    for (double weight : window.weights) REQUIRE(weight == 0.0 || (weight >= 1e-6 && weight <= 100.0));
    float embedding[length * width];
    for (std::size_t at = 0; at < length * width; ++at) embedding[at] = static_cast<float>(at % 7) - 2.5f;
    weigh(embedding, width, window.weights);
    for (float number : embedding) REQUIRE(std::isfinite(number));
}

void read_windows(const Tokenizer& tokenizer, std::string_view prompt, Syntax syntax) {
    Bounded its;
    Arena arena(its.memory);
    PromptWindows made;
    Status status = prompt_windows(its.scope, arena, tokenizer, facts, prompt, "the prompt", syntax, made);
    its.require_told(status, "request");
    if (!status.ok()) return;
    REQUIRE(utf8::first_invalid(prompt) == prompt.size());
    REQUIRE(!made.windows.empty() && (syntax == Syntax::weighted || made.windows.size == 1));
    for (const Window& window : made.windows) require_window(window, syntax);
    REQUIRE(prompt.find(made.left_out.text) != std::string_view::npos);
    REQUIRE(made.left_out.words <= made.left_out.characters && made.left_out.characters <= prompt.size());
    Notices notices(its.memory);
    const char* name = syntax == Syntax::weighted ? "weighted" : "plain";
    its.require_told(note_foreign_syntax(its.scope, "the prompt", prompt, name, notices), "");
}

}  // namespace

int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    static const Kit kit;
    read_windows(kit.tokenizer, text_of(data, size), Syntax::plain);
    read_windows(kit.tokenizer, text_of(data, size), Syntax::weighted);
    return 0;
}
