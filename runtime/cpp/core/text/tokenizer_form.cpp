// CLIP's tokenizer.json, read strictly: this one form or a refusal.
#include "core/text/tokenizer_form.h"

#include "core/json/write.h"

namespace ldm {

namespace {

using json::Kind;
using json::Value;
using json::Where;

constexpr std::string_view normalizer =
    R"([{"type": "Sequence", "normalizers": [{"type": "NFC"},)"
    R"( {"type": "Replace", "pattern": {"Regex": "\\s+"}, "content": " "}, {"type": "Lowercase"}]}])";
constexpr std::string_view split_patterns =
    R"([{"Regex": "'s|'t|'re|'ve|'m|'ll|'d|[\\p{L}]+|[\\p{N}]|[^\\s\\p{L}\\p{N}]+"},)"
    R"( {"Regex": "<\\|startoftext\\|>|<\\|endoftext\\|>|'s|'t|'re|'ve|'m|'ll|'d|)"
    R"([\\p{L}]+|[\\p{N}]|[^\\s\\p{L}\\p{N}]+"}])";

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
// For values that a file lacks.
const Value nothing;

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

Status check_pre_tokenizer(TokenizerForm& form, const Value& value) {
    Where where(form.file, "pre_tokenizer");
    LDM_TRY(form.keys(value, where, {"type", "pretokenizers"}, {"pretokenizers"}));
    const Value &type = value_of(value, "type"), &steps = value_of(value, "pretokenizers");
    if (type.kind != Kind::text || type.text != "Sequence" || steps.kind != Kind::list || steps.items.size != 2) {
        return form.refuse(where, value,
                           "a Sequence of Split and ByteLevel, as transformers writes it from version 4.17 on");
    }
    LDM_TRY(form.table(steps.items[0], split_keys, Where(form.file, "pre_tokenizer: Split")));
    LDM_TRY(form.table(steps.items[1], byte_level_keys, Where(form.file, "pre_tokenizer: ByteLevel")));
    form.out.splits_special = value_of(value_of(steps.items[0], "pattern"), "Regex").text[0] == '<';
    return Status();
}

Status read_form(TokenizerForm& form, std::string_view text) {
    if (text.size() > max_tokenizer_bytes) {
        return form.scope.fail(
            codes::file_too_large,
            {form.file, " has ", text.size(), " bytes; expected a tokenizer of at most ", max_tokenizer_bytes});
    }
    Value value;
    LDM_TRY(json::parse(form.scope, form.document, text, form.file, value));
    LDM_TRY(form.keys(value, Where(form.file),
                 {"version", "truncation", "padding", "added_tokens", "normalizer", "pre_tokenizer", "post_processor",
                  "decoder", "model"},
                 {"model"}));
    LDM_TRY(form.one_of(value.find("version"), R"(["1.0", null])", Where(form.file, "version")));
    for (std::string_view name : {"truncation", "padding"}) {
        const Value& found = value_of(value, name);
        bool fits = found.kind == Kind::object || found.kind == Kind::null;
        if (!fits) return form.refuse(Where(form.file, name), found, "an object or null");
    }
    LDM_TRY(form.one_of(value.find("normalizer"), normalizer, Where(form.file, "normalizer")));
    LDM_TRY(check_pre_tokenizer(form, value_of(value, "pre_tokenizer")));
    if (value_of(value, "decoder").kind != Kind::null) {
        LDM_TRY(form.table(value_of(value, "decoder"), decoder_keys, Where(form.file, "decoder")));
    }
    const Value& model = value_of(value, "model");
    LDM_TRY(form.table(model, model_keys, Where(form.file, "model"), {"unk_token", "vocab", "merges"}));
    LDM_TRY(form.vocabulary.read(form.scope, value_of(model, "vocab"), Where(form.file, "vocab")));
    LDM_TRY(read_merges(form.scope, form.arena, value_of(model, "merges"), form.vocabulary, Where(form.file, "merges"),
                        form.out.merges));
    LDM_TRY(read_added_tokens(form, value.find("added_tokens")));
    LDM_TRY(read_ends(form, value.find("post_processor")));
    const Value& unknown = value_of(model, "unk_token");
    if (unknown.kind != Kind::null) {
        form.out.unknown = unknown.kind == Kind::text ? form.vocabulary.find(unknown.text) : no_token;
        if (form.out.unknown == no_token)
            return form.refuse(Where(form.file, "unk_token"), unknown, "a token of vocab, or null");
    }
    form.vocabulary.bytes(form.out.byte_ids, form.out.last_byte_ids);
    form.out.comma = form.id_of(",</w>");
    form.out.size = static_cast<std::int64_t>(form.vocabulary.size());
    for (const AddedToken& token : form.out.added) form.out.size = std::max(form.out.size, token.id + 1);
    LDM_TRY(read_literals(form));
    return read_inversions(form);
}

}  // namespace

const Value& value_of(const Value& object, std::string_view key) {
    const Value* found = object.find(key);
    return found == nullptr ? nothing : *found;
}

Status TokenizerForm::refuse(const Where& where, const Value& value, std::string_view expected) const {
    return json::fail(scope, where, codes::tokenizer_form,
                      {"is ", json::shown(value), ", so it is not a tokenizer of CLIP's form; expected ", expected});
}

Status TokenizerForm::keys(const Value& value, const Where& where, std::initializer_list<std::string_view> allowed,
                  std::initializer_list<std::string_view> needed) const {
    if (value.kind != Kind::object) return refuse(where, value, "an object");
    for (const json::Member& member : value.members) {
        if (std::find(allowed.begin(), allowed.end(), member.key) == allowed.end()) {
            return json::fail(scope, where, codes::tokenizer_form,
                              {"has the key ", quoted(member.key), ", which CLIP's tokenizer does not have"});
        }
    }
    for (std::string_view key : needed) {
        if (value.find(key) == nullptr) {
            return json::fail(scope, where, codes::tokenizer_form,
                              {"lacks the key '", key, "', so it is not a tokenizer"});
        }
    }
    return Status();
}

Status TokenizerForm::one_of(const Value* value, std::string_view accepted, const Where& where) {
    Value list;
    LDM_TRY(json::parse(scope, document, accepted, "the form", list));
    const Value& found = value == nullptr ? nothing : *value;
    for (const Value& each : list.items) {
        if (same(found, each)) return Status();
    }
    Array<char> names(scope.memory);
    for (const Value& each : list.items) {
        LDM_NEED(scope, (names.empty() || names.append(" or ", 4)) && json::write(each, {}, scope.memory, names));
    }
    return refuse(where, found, {names.data(), names.size()});
}

std::int32_t TokenizerForm::id_of(std::string_view token) const {
    std::int32_t found = vocabulary.find(token);
    for (const AddedToken& each : out.added) {
        if (found == no_token && each.content == token) found = static_cast<std::int32_t>(each.id);
    }
    return found;
}

Status read_tokenizer(Scope& scope, Arena& arena, std::string_view json, std::string_view where, Tokenizer& out) {
    out = Tokenizer();
    TokenizerForm form(scope, arena, where, out);
    return read_form(form, json);
}

}  // namespace ldm
