// The begin and end tokens of a tokenizer.json, by its post-processor.
#include "core/text/tokenizer_form.h"

namespace ldm {

namespace {

using json::Kind;
using json::Value;
using json::Where;

constexpr Accepted roberta_keys[] = {{"type", R"(["RobertaProcessing"])"},
                                     {"trim_offsets", "[true, false, null]"},
                                     {"add_prefix_space", "[true, false, null]"}};

Status roberta(TokenizerForm& form, const Value& value, const Where& where) {
    LDM_TRY(form.keys(value, where, {"type", "trim_offsets", "add_prefix_space", "sep", "cls"}, {"sep", "cls"}));
    LDM_TRY(form.table(value, roberta_keys, where, {"sep", "cls"}));
    for (std::string_view name : {"cls", "sep"}) {
        const Value& token = value_of(value, name);
        Where at(where, name);
        if (token.kind != Kind::list || token.items.size != 2 || token.items[0].kind != Kind::text) {
            return form.refuse(at, token, "a token and its id");
        }
        std::int32_t known = form.id_of(token.items[0].text);
        if (known == no_token || token.items[1].kind != Kind::integer || token.items[1].integer != known) {
            return form.refuse(at, token, "a token of the vocabulary with its id");
        }
        (name == "cls" ? form.out.begin_text : form.out.end_text) = token.items[0].text;
    }
    return Status();
}

bool is_special(const Value& value, const char* kind, std::string_view id) {
    const Value& its = value_of(value, kind);
    return value.members.size == 1 && its.members.size == 2 && value_of(its, "id").kind == Kind::text &&
           value_of(its, "id").text == id && is_number(value_of(its, "type_id")) &&
           value_of(its, "type_id").real == 0.0;
}

bool is_template(const TokenizerForm& form, const Value& value, const json::Member& begin, const json::Member& end) {
    const Value &single = value_of(value, "single"), &tokens = value_of(value, "special_tokens");
    if (tokens.members.size != (begin.key == end.key ? 1u : 2u) || single.kind != Kind::list ||
        single.items.size != 3) {
        return false;
    }
    for (const json::Member* token : {&begin, &end}) {
        const Value &its = token->value, &ids = value_of(its, "ids"), &texts = value_of(its, "tokens");
        std::int32_t known = form.id_of(token->key);
        bool fits = known != no_token && its.members.size == 3 && value_of(its, "id").text == token->key &&
                    ids.items.size == 1 && is_number(ids.items[0]) && ids.items[0].real == known &&
                    texts.items.size == 1 && texts.items[0].kind == Kind::text && texts.items[0].text == token->key;
        if (!fits) return false;
    }
    return is_special(single.items[0], "SpecialToken", begin.key) && is_special(single.items[1], "Sequence", "A") &&
           is_special(single.items[2], "SpecialToken", end.key);
}

// A template "begin, text, end".
Status template_ends(TokenizerForm& form, const Value& value, const Where& where) {
    const Value& tokens = value_of(value, "special_tokens");
    for (const json::Member& begin : tokens.members) {
        for (const json::Member& end : tokens.members) {
            if (is_template(form, value, begin, end)) {
                form.out.begin_text = begin.key;
                form.out.end_text = end.key;
                return Status();
            }
        }
        if (tokens.members.size > 2) break;
    }
    return form.refuse(where, value, "a template of one begin token, the text and one end token");
}

// The id of a token that the file may not name; no_token then.
Status check_end(Scope& scope, const Tokenizer& tokenizer, std::string_view where, std::string_view what,
                 std::string_view text, std::int32_t known, std::int64_t given) {
    if (known != no_token) {
        if (known == given) return Status();
        return scope.fail(codes::manifest_text, {where, " has the ", what, " token ", quoted(text), ", which is ",
                                                 known, ", not ", given, " as in the manifest"});
    }
    std::size_t special = 0;
    for (const AddedToken& token : tokenizer.added) {
        if (token.special && token.id == given) return Status();
        special += token.special;
    }
    if (special == 0) return Status();
    return scope.fail(codes::manifest_text, {where, " has ", special, " special tokens, and none is the ", what,
                                             " token ", given, " as in the manifest"});
}

}  // namespace

Status read_ends(TokenizerForm& form, const Value* value) {
    Where where(form.file, "post_processor");
    if (value == nullptr || value->kind == Kind::null) {
        form.out.begin_text = "<|startoftext|>";
        form.out.end_text = "<|endoftext|>";
        form.out.begin = form.id_of(form.out.begin_text);
        form.out.end = form.id_of(form.out.end_text);
        return Status();
    }
    if (value->kind != Kind::object) return form.refuse(where, *value, "an object or null");
    const Value& type = value_of(*value, "type");
    bool is_a_template = type.kind == Kind::text && type.text == "TemplateProcessing";
    LDM_TRY(is_a_template ? template_ends(form, *value, where) : roberta(form, *value, where));
    form.out.begin = form.id_of(form.out.begin_text);
    form.out.end = form.id_of(form.out.end_text);
    LDM_TRY(keep(form.scope, form.arena, form.out.begin_text));
    return keep(form.scope, form.arena, form.out.end_text);
}

Status check_ends(Scope& scope, const Tokenizer& tokenizer, std::string_view where, std::int64_t begin,
                  std::int64_t end, std::int64_t pad, std::int64_t vocab_size) {
    if (tokenizer.size > vocab_size) {
        return scope.fail(codes::tokenizer_vocabulary, {where, " has tokens up to ", tokenizer.size - 1,
                                                        ", but the text encoder knows ", vocab_size});
    }
    LDM_TRY(check_end(scope, tokenizer, where, "begin", tokenizer.begin_text, tokenizer.begin, begin));
    LDM_TRY(check_end(scope, tokenizer, where, "end", tokenizer.end_text, tokenizer.end, end));
    struct Given {
        const char* what;
        std::int64_t id;
    };
    for (Given given : {Given{"begin", begin}, Given{"end", end}, Given{"padding", pad}}) {
        if (given.id < tokenizer.size) continue;
        return scope.fail(codes::manifest_text,
                          {where, " has the tokens 0 to ", tokenizer.size - 1, ", and none is the ", given.what,
                           " token ", given.id, " as in the manifest"});
    }
    return Status();
}

}  // namespace ldm
