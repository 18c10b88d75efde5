// CLIP's tokenizer.json, read strictly: this one form or a refusal.
#include <algorithm>

#include "core/codes.h"
#include "core/json/fields.h"
#include "core/json/json.h"
#include "core/text/tokenizer.h"
#include "core/text/unicode.h"
#include "core/text/utf8.h"
#include "core/text/vocabulary.h"

namespace ldm {

namespace {

using json::Kind;
using json::Value;
using json::Where;

// What a key may be, as a JSON list; it may be left out where null is in the list.
struct Accepted {
    std::string_view key, values;
};

constexpr std::string_view normalizer =
    R"([{"type": "Sequence", "normalizers": [{"type": "NFC"},)"
    R"( {"type": "Replace", "pattern": {"Regex": "\\s+"}, "content": " "}, {"type": "Lowercase"}]}])";
constexpr std::string_view split_patterns =
    R"([{"Regex": "'s|'t|'re|'ve|'m|'ll|'d|[\\p{L}]+|[\\p{N}]|[^\\s\\p{L}\\p{N}]+"},)"
    R"( {"Regex": "<\\|startoftext\\|>|<\\|endoftext\\|>|'s|'t|'re|'ve|'m|'ll|'d|[\\p{L}]+|[\\p{N}]|[^\\s\\p{L}\\p{N}]+"}])";

constexpr Accepted model_keys[] = {
    {"type", R"(["BPE", null])"},       {"dropout", "[null, 0.0]"},
    {"continuing_subword_prefix", R"([null, ""])"}, {"end_of_word_suffix", R"(["</w>"])"},
    {"fuse_unk", "[false, null]"},      {"byte_fallback", "[false, null]"},
    {"ignore_merges", "[false, null]"},
};
constexpr Accepted split_keys[] = {
    {"type", R"(["Split"])"}, {"pattern", split_patterns}, {"behavior", R"(["Removed"])"}, {"invert", "[true]"}};
constexpr Accepted byte_level_keys[] = {{"type", R"(["ByteLevel"])"},
                                        {"add_prefix_space", "[false]"},
                                        {"trim_offsets", "[true, false, null]"},
                                        {"use_regex", "[true, null]"}};
constexpr Accepted decoder_keys[] = {{"type", R"(["ByteLevel"])"},
                                     {"add_prefix_space", "[true, false, null]"},
                                     {"trim_offsets", "[true, false, null]"},
                                     {"use_regex", "[true, null]"}};
constexpr Accepted roberta_keys[] = {{"type", R"(["RobertaProcessing"])"},
                                     {"trim_offsets", "[true, false, null]"},
                                     {"add_prefix_space", "[true, false, null]"}};

bool is_number(const Value& value) { return value.kind == Kind::integer || value.kind == Kind::real; }

bool same(const Value& a, const Value& b) {
    if (is_number(a) && is_number(b)) return a.real == b.real;
    if (a.kind != b.kind || a.items.size != b.items.size || a.members.size != b.members.size) return false;
    if (a.boolean != b.boolean || a.text != b.text) return false;
    for (std::size_t index = 0; index < a.items.size; ++index) {
        if (!same(a.items[index], b.items[index])) return false;
    }
    return std::all_of(a.members.begin(), a.members.end(), [&](const json::Member& member) {
        const Value* other = b.find(member.key);
        return other != nullptr && same(member.value, *other);
    });
}

class Form {
public:
    Form(Scope& scope, Arena& arena, std::string_view file, Tokenizer& out)
        : scope_(scope), arena_(arena), read_(scope.memory), file_(file), out_(out) {}

    Status read(std::string_view text);

private:
    Status refuse(const Where& where, const Value& value, std::string_view expected, const char* code = codes::tokenizer_form) {
        return json::fail(scope_, where, code,
                          {"is ", json::shown(value), ", so it is not a tokenizer of CLIP's form; expected ", expected});
    }
    Status keys(const Value& value, const Where& where, std::initializer_list<std::string_view> allowed,
                std::initializer_list<std::string_view> needed = {});
    Status one_of(const Value* value, std::string_view accepted, const Where& where);
    template <std::size_t N>
    Status table(const Value& value, const Accepted (&accepted)[N], const Where& where,
                 std::initializer_list<std::string_view> more = {});
    Status pre_tokenizer(const Value& value);
    Status ends(const Value* value);
    Status roberta(const Value& value, const Where& where);
    Status template_ends(const Value& value, const Where& where);
    bool is_template(const Value& value, const json::Member& begin, const json::Member& end);
    Status added(const Value* value);
    Status literals();
    std::int32_t id_of(std::string_view token);

    Scope& scope_;
    Arena& arena_;  // what stays
    Arena read_;    // the document
    std::string_view file_;
    Tokenizer& out_;
    Vocabulary vocabulary_{scope_.memory};
};

// For values that a file lacks.
const Value null;

const Value& value_of(const Value& object, std::string_view key) {
    const Value* found = object.find(key);
    return found == nullptr ? null : *found;
}

Status Form::keys(const Value& value, const Where& where, std::initializer_list<std::string_view> allowed,
                  std::initializer_list<std::string_view> needed) {
    if (value.kind != Kind::object) return refuse(where, value, "an object");
    for (const json::Member& member : value.members) {
        if (std::find(allowed.begin(), allowed.end(), member.key) == allowed.end()) {
            return json::fail(scope_, where, codes::tokenizer_form,
                              {"has the key ", quoted(member.key), ", which CLIP's tokenizer does not have"});
        }
    }
    for (std::string_view key : needed) {
        if (value.find(key) == nullptr) {
            return json::fail(scope_, where, codes::tokenizer_form,
                              {"lacks the key '", key, "', so it is not a tokenizer"});
        }
    }
    return Status();
}

Status Form::one_of(const Value* value, std::string_view accepted, const Where& where) {
    Value list;
    LDM_TRY(json::parse(scope_, read_, accepted, "the form", list));
    const Value& found = value == nullptr ? null : *value;
    for (const Value& each : list.items) {
        if (same(found, each)) return Status();
    }
    return refuse(where, found, accepted.size() < 200 ? accepted : "CLIP's");
}

template <std::size_t N>
Status Form::table(const Value& value, const Accepted (&accepted)[N], const Where& where,
                   std::initializer_list<std::string_view> more) {
    if (value.kind != Kind::object) return refuse(where, value, "an object");
    for (const json::Member& member : value.members) {
        bool known = std::find(more.begin(), more.end(), member.key) != more.end();
        for (const Accepted& each : accepted) known = known || each.key == member.key;
        if (!known) return keys(value, where, {});
    }
    for (const Accepted& each : accepted) LDM_TRY(one_of(value.find(each.key), each.values, Where(where, each.key)));
    return Status();
}

Status Form::read(std::string_view text) {
    if (text.size() > max_tokenizer_bytes) {
        return scope_.fail(codes::file_too_large, {file_, " has ", text.size(), " bytes; expected a tokenizer of at most ",
                                                   max_tokenizer_bytes});
    }
    Value value;
    LDM_TRY(json::parse(scope_, read_, text, file_, value));
    LDM_TRY(keys(value, Where(file_),
                 {"version", "truncation", "padding", "added_tokens", "normalizer", "pre_tokenizer", "post_processor",
                  "decoder", "model"},
                 {"model"}));
    LDM_TRY(one_of(value.find("version"), R"(["1.0", null])", Where(file_, "version")));
    for (std::string_view name : {"truncation", "padding"}) {
        const Value& found = value_of(value, name);
        bool fits = found.kind == Kind::object || found.kind == Kind::null;
        if (!fits) return refuse(Where(file_, name), found, "an object or null");
    }
    LDM_TRY(one_of(value.find("normalizer"), normalizer, Where(file_, "normalizer")));
    LDM_TRY(pre_tokenizer(value_of(value, "pre_tokenizer")));
    if (value_of(value, "decoder").kind != Kind::null) {
        LDM_TRY(table(value_of(value, "decoder"), decoder_keys, Where(file_, "decoder")));
    }
    const Value& model = value_of(value, "model");
    LDM_TRY(table(model, model_keys, Where(file_, "model"), {"unk_token", "vocab", "merges"}));
    LDM_TRY(vocabulary_.read(scope_, value_of(model, "vocab"), Where(file_, "vocab")));
    LDM_TRY(read_merges(scope_, arena_, value_of(model, "merges"), vocabulary_, Where(file_, "merges"), out_.merges));
    LDM_TRY(added(value.find("added_tokens")));
    LDM_TRY(ends(value.find("post_processor")));
    const Value& unknown = value_of(model, "unk_token");
    if (unknown.kind != Kind::null) {
        out_.unknown = unknown.kind == Kind::text ? vocabulary_.find(unknown.text) : no_token;
        if (out_.unknown == no_token) return refuse(Where(file_, "unk_token"), unknown, "a token of vocab, or null");
    }
    vocabulary_.bytes(out_.byte_ids, out_.last_byte_ids);
    out_.comma = id_of(",</w>");
    out_.size = static_cast<std::int64_t>(vocabulary_.size());
    for (const AddedToken& token : out_.added) out_.size = std::max(out_.size, token.id + 1);
    return literals();
}

Status Form::pre_tokenizer(const Value& value) {
    Where where(file_, "pre_tokenizer");
    LDM_TRY(keys(value, where, {"type", "pretokenizers"}, {"pretokenizers"}));
    const Value &type = value_of(value, "type"), &steps = value_of(value, "pretokenizers");
    if (type.kind != Kind::text || type.text != "Sequence" || steps.kind != Kind::list || steps.items.size != 2) {
        return refuse(where, value, "a Sequence of Split and ByteLevel, as transformers writes it from version 4.17 on");
    }
    LDM_TRY(table(steps.items[0], split_keys, Where(file_, "pre_tokenizer: Split")));
    LDM_TRY(table(steps.items[1], byte_level_keys, Where(file_, "pre_tokenizer: ByteLevel")));
    out_.splits_special = value_of(value_of(steps.items[0], "pattern"), "Regex").text[0] == '<';
    return Status();
}

std::int32_t Form::id_of(std::string_view token) {
    std::int32_t found = vocabulary_.find(token);
    for (const AddedToken& each : out_.added) {
        if (found == no_token && each.content == token) found = static_cast<std::int32_t>(each.id);
    }
    return found;
}

Status Form::added(const Value* value) {
    Where where(file_, "added_tokens");
    if (value == nullptr) return Status();
    json::Reader reader{scope_, arena_};
    View<AddedToken> read;
    LDM_TRY(json::read(reader, *value, where, read));
    auto* tokens = const_cast<AddedToken*>(read.data);  // made just now
    std::size_t characters = 0;
    for (std::size_t index = 0; index < read.size; ++index) {
        std::size_t length = utf8::characters(tokens[index].content);
        if (length == 0 || length > max_token_length) {
            return json::fail(scope_, where, codes::tokenizer_added_tokens,
                              {"has a token of ", length, " characters; expected 1 to ", max_token_length});
        }
        characters += length;
        LDM_TRY(keep(scope_, arena_, tokens[index].content));
    }
    std::sort(tokens, tokens + read.size, [](const AddedToken& a, const AddedToken& b) { return a.content < b.content; });
    auto twice = [](const AddedToken& a, const AddedToken& b) { return a.content == b.content; };
    if (std::adjacent_find(tokens, tokens + read.size, twice) != tokens + read.size) {
        return json::fail(scope_, where, codes::tokenizer_added_tokens, {"has a token twice"});
    }
    if (characters > max_added_length) {
        return json::fail(scope_, where, codes::tokenizer_added_tokens,
                          {"has more than ", max_added_length, " characters"});
    }
    std::sort(tokens, tokens + read.size, [](const AddedToken& a, const AddedToken& b) { return a.id < b.id; });
    auto next = static_cast<std::int64_t>(vocabulary_.size());
    for (const AddedToken& token : read) {
        std::int32_t known = vocabulary_.find(token.content);
        std::int64_t wanted = known == no_token ? next++ : known;
        if (token.id != wanted) {
            return json::fail(scope_, where, codes::tokenizer_added_tokens,
                              {"has ", quoted(token.content), " as ", token.id, "; expected ", wanted, ", ",
                               known == no_token ? "the next free id" : "its id in vocab"});
        }
    }
    out_.added = read;
    return Status();
}

// What to look for: special tokens first, which is also their order where the texts are equal.
Status Form::literals() {
    std::size_t counts[2] = {0, 0};
    Literal* found[2];
    for (Literal*& each : found) {
        each = arena_.make<Literal>(out_.added.size);
        LDM_NEED(scope_, each != nullptr);
    }
    unicode::Normal normal(scope_.memory);
    for (std::size_t index = 0; index < out_.added.size; ++index) {
        const AddedToken& token = out_.added[index];
        std::string_view text = token.content;
        if (token.normalized) {
            LDM_TRY(unicode::normalise(scope_, text, normal));
            text = normal.view();
            LDM_TRY(keep(scope_, arena_, text));
        }
        auto order = static_cast<std::uint32_t>(index + (token.special ? 0 : out_.added.size));
        found[token.normalized][counts[token.normalized]++] = {text, &token, order};
    }
    out_.literal.set(found[0], counts[0]);
    out_.normalised.set(found[1], counts[1]);
    return Status();
}

Status Form::ends(const Value* value) {
    Where where(file_, "post_processor");
    if (value == nullptr || value->kind == Kind::null) return Status();
    if (value->kind != Kind::object) return refuse(where, *value, "an object or null");
    const Value& type = value_of(*value, "type");
    bool is_a_template = type.kind == Kind::text && type.text == "TemplateProcessing";
    LDM_TRY(is_a_template ? template_ends(*value, where) : roberta(*value, where));
    out_.begin = id_of(out_.begin_text);
    out_.end = id_of(out_.end_text);
    LDM_TRY(keep(scope_, arena_, out_.begin_text));
    return keep(scope_, arena_, out_.end_text);
}

Status Form::roberta(const Value& value, const Where& where) {
    LDM_TRY(keys(value, where, {"type", "trim_offsets", "add_prefix_space", "sep", "cls"}, {"sep", "cls"}));
    LDM_TRY(table(value, roberta_keys, where, {"sep", "cls"}));
    for (std::string_view name : {"cls", "sep"}) {
        const Value& token = value_of(value, name);
        Where at(where, name);
        if (token.kind != Kind::list || token.items.size != 2 || token.items[0].kind != Kind::text) {
            return refuse(at, token, "a token and its id");
        }
        std::int32_t known = id_of(token.items[0].text);
        if (known == no_token || token.items[1].kind != Kind::integer || token.items[1].integer != known) {
            return refuse(at, token, "a token of the vocabulary with its id");
        }
        (name == "cls" ? out_.begin_text : out_.end_text) = token.items[0].text;
    }
    return Status();
}

// A template "begin, text, end".
Status Form::template_ends(const Value& value, const Where& where) {
    const Value& tokens = value_of(value, "special_tokens");
    for (const json::Member& begin : tokens.members) {
        for (const json::Member& end : tokens.members) {
            if (is_template(value, begin, end)) {
                out_.begin_text = begin.key;
                out_.end_text = end.key;
                return Status();
            }
        }
        if (tokens.members.size > 2) break;
    }
    return refuse(where, value, "a template of one begin token, the text and one end token");
}

bool is_special(const Value& value, const char* kind, std::string_view id) {
    const Value& its = value_of(value, kind);
    return value.members.size == 1 && its.members.size == 2 && value_of(its, "id").kind == Kind::text &&
           value_of(its, "id").text == id && is_number(value_of(its, "type_id")) && value_of(its, "type_id").real == 0.0;
}

bool Form::is_template(const Value& value, const json::Member& begin, const json::Member& end) {
    const Value &single = value_of(value, "single"), &tokens = value_of(value, "special_tokens");
    if (tokens.members.size != (begin.key == end.key ? 1u : 2u) || single.kind != Kind::list || single.items.size != 3) {
        return false;
    }
    for (const json::Member* token : {&begin, &end}) {
        const Value &its = token->value, &ids = value_of(its, "ids"), &texts = value_of(its, "tokens");
        std::int32_t known = id_of(token->key);
        bool fits = known != no_token && its.members.size == 3 && value_of(its, "id").text == token->key &&
                    ids.items.size == 1 && is_number(ids.items[0]) && ids.items[0].real == known &&
                    texts.items.size == 1 && texts.items[0].kind == Kind::text && texts.items[0].text == token->key;
        if (!fits) return false;
    }
    return is_special(single.items[0], "SpecialToken", begin.key) && is_special(single.items[1], "Sequence", "A") &&
           is_special(single.items[2], "SpecialToken", end.key);
}

}  // namespace

Status read_tokenizer(Scope& scope, Arena& arena, std::string_view json, std::string_view where, Tokenizer& out) {
    out = Tokenizer();
    return Form(scope, arena, where, out).read(json);
}

}  // namespace ldm
