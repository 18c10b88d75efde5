// What reads the parts of a tokenizer.json: tokenizer_form.cpp the whole, tokenizer_added.cpp its added tokens,
// tokenizer_ends.cpp its begin and end.
#ifndef LDM_CORE_TEXT_TOKENIZER_FORM_H
#define LDM_CORE_TEXT_TOKENIZER_FORM_H

#include <algorithm>
#include <string_view>

#include "core/codes.h"
#include "core/json/fields.h"
#include "core/json/json.h"
#include "core/text/tokenizer.h"
#include "core/text/vocabulary.h"

namespace ldm {

// What a key may be, as a JSON list; it may be left out where null is in the list.
struct Accepted {
    std::string_view key, values;
};

// A file that is being read: this one form or a refusal.
struct TokenizerForm {
    TokenizerForm(Scope& its_scope, Arena& its_arena, std::string_view its_file, Tokenizer& its_out)
        : scope(its_scope), arena(its_arena), document(its_scope.memory), vocabulary(its_scope.memory), file(its_file),
          out(its_out) {}

    Scope& scope;
    Arena& arena;    // what stays
    Arena document;  // what is read of the file
    Vocabulary vocabulary;
    std::string_view file;
    Tokenizer& out;

    Status refuse(const json::Where& where, const json::Value& value, std::string_view expected) const;
    // An object that has no other keys than `allowed`, and all of `needed`.
    Status keys(const json::Value& value, const json::Where& where, std::initializer_list<std::string_view> allowed,
                std::initializer_list<std::string_view> needed = {}) const;
    Status one_of(const json::Value* value, std::string_view accepted, const json::Where& where);
    // An object of the keys of a table, and `more`, which are not looked at.
    template <std::size_t N>
    Status table(const json::Value& value, const Accepted (&accepted)[N], const json::Where& where,
                 std::initializer_list<std::string_view> more = {});
    // The id of a token, of the vocabulary or added; no_token: there is none.
    std::int32_t id_of(std::string_view token) const;
};

// The value of a key; null where an object lacks it.
const json::Value& value_of(const json::Value& object, std::string_view key);

inline bool is_number(const json::Value& value) {
    return value.kind == json::Kind::integer || value.kind == json::Kind::real;
}

Status read_added_tokens(TokenizerForm& form, const json::Value* value);
Status read_literals(TokenizerForm& form);
Status read_inversions(TokenizerForm& form);
Status read_ends(TokenizerForm& form, const json::Value* post_processor);

template <std::size_t N>
Status TokenizerForm::table(const json::Value& value, const Accepted (&accepted)[N], const json::Where& where,
                            std::initializer_list<std::string_view> more) {
    if (value.kind != json::Kind::object) return refuse(where, value, "an object");
    for (const json::Member& member : value.members) {
        bool known = std::find(more.begin(), more.end(), member.key) != more.end();
        for (const Accepted& each : accepted) known = known || each.key == member.key;
        if (!known) return keys(value, where, {});
    }
    for (const Accepted& each : accepted)
        LDM_TRY(one_of(value.find(each.key), each.values, json::Where(where, each.key)));
    return Status();
}

}  // namespace ldm

#endif
