// tokenizer.json and texts: the input is a file, then texts, each behind a NUL. Without a file, the kit's is taken.
#include "core/text/tokenizer.h"

#include "core/text/utf8.h"
#include "fuzz/target.h"
#include "tests/files.h"

using namespace ldm;

namespace {

void encode_text(Bounded& its, const Tokenizer& tokenizer, std::string_view text) {
    text = text.substr(0, utf8::first_invalid(text));
    Array<Token> tokens(its.memory), again(its.memory);
    Status status = encode(its.scope, tokenizer, text, tokens);
    its.require_told(status, "");
    if (!status.ok() || !encode(its.scope, tokenizer, text, again).ok()) return;
    REQUIRE(tokens.size() == again.size());
    std::uint32_t place = 0;
    for (std::size_t at = 0; at < tokens.size(); ++at) {
        REQUIRE(tokens[at].id == again[at].id && 0 <= tokens[at].id && tokens[at].id < tokenizer.size);
        REQUIRE(place <= tokens[at].place && tokens[at].place < text.size());
        place = tokens[at].place;
    }
}

}  // namespace

int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    static const std::string kit = read_file(golden_path("package/tokenizer/tokenizer.json"));
    std::string_view rest = text_of(data, size), file = rest.substr(0, rest.find('\0'));
    rest.remove_prefix(file.size());
    Bounded its;
    Arena arena(its.memory);
    Tokenizer tokenizer;
    Status status = read_tokenizer(its.scope, arena, file.empty() ? kit : file, "tokenizer.json", tokenizer);
    its.require_told(status, "json tokenizer file");
    if (!status.ok()) return 0;
    REQUIRE(0 < tokenizer.size && tokenizer.begin < tokenizer.size && tokenizer.end < tokenizer.size);
    for (const Inversion& each : tokenizer.inversions) {
        REQUIRE(0 <= each.id && each.id < tokenizer.size);
        for (std::int32_t other : each.others) REQUIRE(0 <= other && other < tokenizer.size);
    }
    encode_text(its, tokenizer, "A r\u00e9d  apple, don't <|endoftext|>");
    while (!rest.empty()) {
        rest.remove_prefix(1);
        std::string_view text = rest.substr(0, rest.find('\0'));
        encode_text(its, tokenizer, text);
        rest.remove_prefix(text.size());
    }
    return 0;
}
