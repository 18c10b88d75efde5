#include "core/text/vocabulary.h"

#include <algorithm>

#include "core/codes.h"
#include "core/json/fields.h"
#include "core/text/tokenizer.h"
#include "core/text/unicode.h"
#include "core/text/utf8.h"

namespace ldm {

namespace {

using json::Kind;
using json::Value;
using json::Where;

bool has_space(std::string_view text) {
    for (std::size_t at = 0; at < text.size();) {
        utf8::Character read = utf8::next(text.substr(at));
        if (unicode::is_python_space(read.point)) return true;
        at += read.bytes;
    }
    return false;
}

Status refuse(Scope& scope, const Where& where, const char* code, const Value& value,
              std::initializer_list<Piece> expected) {
    Failure inner;
    inner.set(code, expected);
    return json::fail(scope, where, code,
                      {"is ", json::shown(value), ", so it is not a tokenizer of CLIP's form; expected ",
                       std::string_view(inner.text)});
}

// Both texts of a merge; false where it is no pair.
bool read_pair(const Value& value, std::string_view& left, std::string_view& right) {
    if (value.kind == Kind::text) {
        std::size_t space = value.text.find(' ');
        if (space == std::string_view::npos || value.text.find(' ', space + 1) != std::string_view::npos) return false;
        left = value.text.substr(0, space);
        right = value.text.substr(space + 1);
        return true;
    }
    if (value.kind != Kind::list || value.items.size != 2) return false;
    if (value.items[0].kind != Kind::text || value.items[1].kind != Kind::text) return false;
    left = value.items[0].text;
    right = value.items[1].text;
    return true;
}

}  // namespace

std::int32_t Vocabulary::find(std::string_view left, std::string_view right) const {
    const json::Member* found = tokens_.find(left, right);
    return found == nullptr ? no_token : static_cast<std::int32_t>(found->value.integer);
}

Status Vocabulary::read(Scope& scope, const Value& value, const Where& where) {
    const char* code = codes::tokenizer_vocabulary;
    if (value.kind != Kind::object || value.members.empty()) {
        return refuse(scope, where, code, value, {"an object of tokens and their ids"});
    }
    std::size_t count = value.members.size;
    if (count > max_tokens) {
        return json::fail(scope, where, code, {"has ", count, " tokens; expected at most ", max_tokens});
    }
    for (const json::Member& token : value.members) {
        std::size_t length = utf8::characters(token.key);
        if (length == 0 || length > max_token_length) {
            return json::fail(scope, where, code,
                              {"has a token of ", length, " characters; expected 1 to ", max_token_length});
        }
        std::int64_t id = token.value.integer;
        if (token.value.kind != Kind::integer || id < 0 || id >= static_cast<std::int64_t>(count)) {
            return refuse(scope, Where(where, json::Key{token.key}), code, token.value,
                          {"an id from 0 to ", count - 1, ", for ", count, " tokens"});
        }
    }
    Array<const json::Member*> tokens(scope.memory);  // by id
    LDM_NEED(scope, tokens.resize(count));
    for (const json::Member& token : value.members) {
        const json::Member*& its = tokens[static_cast<std::size_t>(token.value.integer)];
        if (its != nullptr) {
            return json::fail(
                scope, where, code,
                {"gives the id ", token.value.integer, " to ", quoted(its->key), " and ", quoted(token.key)});
        }
        its = &token;
    }
    LDM_NEED(scope, tokens_.build(value.members));
    size_ = count;
    return Status();
}

void Vocabulary::bytes(std::int32_t (&ids)[256], std::int32_t (&last_ids)[256]) const {
    char32_t next = 256;  // GPT-2's visible characters: printable bytes are themselves
    for (unsigned byte = 0; byte < 256; ++byte) {
        bool printable = (byte > 0x20 && byte < 0x7F) || (byte > 0xA0 && byte != 0xAD);
        char text[4];
        std::string_view visible(text, utf8::encode(printable ? byte : next++, text));
        ids[byte] = find(visible);
        last_ids[byte] = find(visible, "</w>");
    }
}

Status read_merges(Scope& scope, Arena& arena, const Value& value, const Vocabulary& vocabulary, const Where& where,
                   Merges& out) {
    const char* code = codes::tokenizer_merges;
    if (value.kind != Kind::list) return refuse(scope, where, code, value, {"a list of pairs"});
    std::size_t count = value.items.size;
    if (count > max_tokens) {
        return json::fail(scope, where, code, {"has ", count, " pairs; expected at most ", max_tokens});
    }
    Array<std::int32_t> lefts(scope.memory);
    auto* starts = arena.make<std::uint32_t>(vocabulary.size() + 1);
    auto* merges = arena.make<Merge>(count);
    Array<Merge> read(scope.memory);
    LDM_NEED(scope, starts != nullptr && merges != nullptr && lefts.reserve(count) && read.reserve(count));
    for (std::size_t index = 0; index < count; ++index) {
        const Value& item = value.items[index];
        Where at(where, index);
        std::string_view left, right;
        if (!read_pair(item, left, right)) return refuse(scope, at, code, item, {"a pair of tokens"});
        std::int32_t ids[3] = {vocabulary.find(left), vocabulary.find(right), vocabulary.find(left, right)};
        for (int part = 0; part < 3; ++part) {
            if (ids[part] != no_token) continue;
            if (part < 2) {
                return json::fail(scope, at, code,
                                  {"needs the token ", quoted(part == 0 ? left : right), ", which vocab lacks"});
            }
            return json::fail(scope, at, code,
                              {"needs the token of ", quoted(left), " and ", quoted(right), ", which vocab lacks"});
        }
        if (has_space(left) || has_space(right)) return refuse(scope, at, code, item, {"tokens without white space"});
        LDM_NEED(scope, lefts.push(ids[0]) && read.push({ids[1], static_cast<std::int32_t>(index), ids[2]}));
        ++starts[ids[0]];
    }
    std::uint32_t sum = 0;
    for (std::size_t id = 0; id <= vocabulary.size(); ++id) {
        sum += starts[id];
        starts[id] = sum;  // the end of its group, which filling moves to its start
    }
    for (std::size_t index = count; index-- > 0;) merges[--starts[lefts[index]]] = read[index];
    for (std::size_t id = 0; id < vocabulary.size(); ++id) {
        Merge *first = merges + starts[id], *end = merges + starts[id + 1];
        std::sort(first, end, [](const Merge& a, const Merge& b) {
            return a.right != b.right ? a.right < b.right : a.rank < b.rank;
        });
        Merge* twice =
            std::adjacent_find(first, end, [](const Merge& a, const Merge& b) { return a.right == b.right; });
        if (twice != end) {
            auto index = static_cast<std::size_t>(twice[1].rank);
            return json::fail(scope, Where(where, index), code, {"repeats the pair ", json::shown(value.items[index])});
        }
    }
    out = {{starts, vocabulary.size() + 1}, {merges, count}};
    return Status();
}

Status keep(Scope& scope, Arena& arena, std::string_view& text) {
    View<char> copy;
    LDM_NEED(scope, arena.copy(text.data(), text.size(), copy));
    text = {copy.data, copy.size};
    return Status();
}

}  // namespace ldm
