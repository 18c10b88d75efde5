// The begin, end and padding tokens of a manifest against those of a tokenizer.json.
#include "core/codes.h"
#include "core/text/tokenizer.h"

namespace ldm {

namespace {

// A file that does not say what begins and ends a text has CLIP's names for it, or else other special tokens.
Status check_end(Scope& scope, const Tokenizer& tokenizer, std::string_view where, std::string_view what,
                 std::string_view text, std::int32_t known, std::int64_t index) {
    if (known != no_token) {
        if (known == index) return Status();
        return scope.fail(codes::manifest_text, {where, " has the ", what, " token ", quoted(text), ", which is ", known,
                          ", not ", index, " as in the manifest"});
    }
    std::size_t special = 0;
    for (const AddedToken& each : tokenizer.added) {
        special += each.special;
        if (each.special && each.id == index) return Status();
    }
    if (special == 0) return Status();
    return scope.fail(codes::manifest_text, {where, " has ", special, " special tokens, and none is the ", what, " token ",
                      index, " as in the manifest"});
}

}  // namespace

Status check_ends(Scope& scope, const Tokenizer& tokenizer, std::string_view where, std::int64_t begin, std::int64_t end,
                  std::int64_t pad, std::int64_t vocab_size) {
    if (tokenizer.size > vocab_size) {
        return scope.fail(codes::tokenizer_vocabulary, {where, " has tokens up to ", tokenizer.size - 1,
                          ", but the text encoder knows ", vocab_size});
    }
    LDM_TRY(check_end(scope, tokenizer, where, "begin", tokenizer.begin_text, tokenizer.begin, begin));
    LDM_TRY(check_end(scope, tokenizer, where, "end", tokenizer.end_text, tokenizer.end, end));
    struct Named {
        std::string_view what;
        std::int64_t index;
    };
    for (const Named& each : {Named{"begin", begin}, Named{"end", end}, Named{"padding", pad}}) {
        if (each.index < tokenizer.size) continue;
        return scope.fail(codes::manifest_text, {where, " has the tokens 0 to ", tokenizer.size - 1, ", and none is the ",
                          each.what, " token ", each.index, " as in the manifest"});
    }
    return Status();
}

}  // namespace ldm
