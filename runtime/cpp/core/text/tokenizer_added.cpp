// The added tokens of a tokenizer.json: what to look for in a text, and textual inversions of several vectors.
#include <algorithm>
#include <charconv>

#include "core/text/tokenizer_form.h"
#include "core/text/unicode.h"
#include "core/text/utf8.h"

namespace ldm {

using json::Value;
using json::Where;

Status read_added_tokens(TokenizerForm& form, const Value* value) {
    Where where(form.file, "added_tokens");
    if (value == nullptr) return Status();
    json::Reader reader{form.scope, form.arena};
    View<AddedToken> read;
    LDM_TRY(json::read(reader, *value, where, read));
    auto* tokens = const_cast<AddedToken*>(read.data);  // made just now
    std::size_t characters = 0;
    for (std::size_t index = 0; index < read.size; ++index) {
        std::size_t length = utf8::characters(tokens[index].content);
        if (length == 0 || length > max_token_length) {
            return json::fail(form.scope, where, codes::tokenizer_added_tokens,
                              {"has a token of ", length, " characters; expected 1 to ", max_token_length});
        }
        characters += length;
        LDM_TRY(keep(form.scope, form.arena, tokens[index].content));
    }
    std::sort(tokens, tokens + read.size,
              [](const AddedToken& a, const AddedToken& b) { return a.content < b.content; });
    auto twice = [](const AddedToken& a, const AddedToken& b) { return a.content == b.content; };
    if (std::adjacent_find(tokens, tokens + read.size, twice) != tokens + read.size) {
        return json::fail(form.scope, where, codes::tokenizer_added_tokens, {"has a token twice"});
    }
    if (characters > max_added_length) {
        return json::fail(form.scope, where, codes::tokenizer_added_tokens,
                          {"has more than ", max_added_length, " characters"});
    }
    std::sort(tokens, tokens + read.size, [](const AddedToken& a, const AddedToken& b) { return a.id < b.id; });
    auto next = static_cast<std::int64_t>(form.vocabulary.size());
    for (const AddedToken& token : read) {
        std::int32_t known = form.vocabulary.find(token.content);
        std::int64_t wanted = known == no_token ? next++ : known;
        if (token.id != wanted) {
            return json::fail(form.scope, where, codes::tokenizer_added_tokens,
                              {"has ", quoted(token.content), " as ", json::shown(token.id), "; expected ", wanted,
                               ", ", known == no_token ? "the next free id" : "its id in vocab"});
        }
    }
    form.out.added = read;
    return Status();
}

// What to look for: special tokens first, which is also their order where the texts are equal.
Status read_literals(TokenizerForm& form) {
    std::size_t counts[2] = {0, 0};
    Literal* found[2];
    for (Literal*& each : found) {
        each = form.arena.make<Literal>(form.out.added.size);
        LDM_NEED(form.scope, each != nullptr);
    }
    unicode::Normal normal(form.scope.memory);
    for (std::size_t index = 0; index < form.out.added.size; ++index) {
        const AddedToken& token = form.out.added[index];
        std::string_view text = token.content;
        if (token.normalized) {
            LDM_TRY(unicode::normalise(form.scope, text, normal));
            text = normal.view();
            LDM_TRY(keep(form.scope, form.arena, text));
        }
        auto order = static_cast<std::uint32_t>(index + (token.special ? 0 : form.out.added.size));
        found[token.normalized][counts[token.normalized]++] = {text, &token, order};
    }
    form.out.literal.set(found[0], counts[0]);
    form.out.normalised.set(found[1], counts[1]);
    return Status();
}

// Diffusers names the further vectors of <x> <x>_1, <x>_2.
Status read_inversions(TokenizerForm& form) {
    std::size_t count = form.out.added.size;
    auto* found = form.arena.make<Inversion>(count);
    Array<const AddedToken*> named(form.scope.memory);
    Array<std::int32_t> others(form.scope.memory);
    Array<char> name(form.scope.memory);
    LDM_NEED(form.scope, found != nullptr && named.reserve(count));
    for (const AddedToken& token : form.out.added) LDM_NEED(form.scope, named.push(&token));
    std::sort(named.begin(), named.end(),
              [](const AddedToken* a, const AddedToken* b) { return a->content < b->content; });
    std::size_t several = 0;
    for (const AddedToken& token : form.out.added) {
        others.shrink(0);
        while (true) {
            name.shrink(0);
            char digits[24];
            char* end = std::to_chars(digits, digits + sizeof digits, others.size() + 1).ptr;
            LDM_NEED(form.scope, name.append(token.content.data(), token.content.size()) && name.push('_') &&
                                 name.append(digits, static_cast<std::size_t>(end - digits)));
            std::string_view wanted(name.data(), name.size());
            auto** at =
                std::lower_bound(named.begin(), named.end(), wanted,
                                 [](const AddedToken* each, std::string_view text) { return each->content < text; });
            if (at == named.end() || (*at)->content != wanted) break;
            LDM_NEED(form.scope, others.push(static_cast<std::int32_t>((*at)->id)));
        }
        if (others.empty()) continue;
        found[several].id = static_cast<std::int32_t>(token.id);
        LDM_NEED(form.scope, form.arena.copy(others.data(), others.size(), found[several++].others));
    }
    form.out.inversions = {found, several};
    return Status();
}

}  // namespace ldm
