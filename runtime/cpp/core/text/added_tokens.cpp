#include "core/text/added_tokens.h"

#include <algorithm>

#include "core/text/unicode.h"
#include "core/text/utf8.h"

namespace ldm {

namespace {

bool is_space(char32_t point) { return unicode::kind(point) == unicode::Character::space; }

bool is_in_a_word(std::string_view text, std::size_t start, std::size_t end) {
    return (start > 0 && unicode::is_word(utf8::last(text.substr(0, start)).point)) ||
           (end < text.size() && unicode::is_word(utf8::next(text.substr(end)).point));
}

std::size_t start_of_spaces(std::string_view text, std::size_t start, std::size_t least) {
    while (start > least) {
        utf8::Character before = utf8::last(text.substr(0, start));
        if (!is_space(before.point)) break;
        start -= before.bytes;
    }
    return std::max(start, least);
}

std::size_t end_of_spaces(std::string_view text, std::size_t end) {
    while (end < text.size()) {
        utf8::Character next = utf8::next(text.substr(end));
        if (!is_space(next.point)) break;
        end += next.bytes;
    }
    return end;
}

}  // namespace

void AddedTokens::set(Literal* literals, std::size_t count) {
    std::sort(literals, literals + count, [](const Literal& a, const Literal& b) {
        return a.text != b.text ? a.text < b.text : a.order < b.order;
    });
    Literal* end =
        std::unique(literals, literals + count, [](const Literal& a, const Literal& b) { return a.text == b.text; });
    literals_ = {literals, static_cast<std::size_t>(end - literals)};
    for (const Literal& literal : literals_) begins_[static_cast<unsigned char>(literal.text[0])] = true;
}

const Literal* AddedTokens::longest_at(std::string_view text) const {
    const Literal *low = literals_.begin(), *high = literals_.end(), *found = nullptr;
    for (std::size_t depth = 0; low != high && depth < text.size();
         ++depth) {  // all from low to high begin as the text
        auto byte = static_cast<unsigned char>(text[depth]);
        auto at = [=](const Literal& literal) {
            return literal.text.size() == depth ? -1
                                                : static_cast<int>(static_cast<unsigned char>(literal.text[depth]));
        };
        low = std::partition_point(low, high, [=](const Literal& literal) { return at(literal) < byte; });
        high = std::partition_point(low, high, [=](const Literal& literal) { return at(literal) <= byte; });
        if (low != high && low->text.size() == depth + 1) found = low;
    }
    return found;
}

Status AddedTokens::split(Scope& scope, std::string_view text, Array<Stretch>& out) const {
    std::size_t done = 0;
    auto push = [&](std::size_t start, std::size_t end, const AddedToken* token) {
        return start >= end || out.push({static_cast<std::uint32_t>(start), static_cast<std::uint32_t>(end), token});
    };
    for (std::size_t at = 0; at < text.size();) {
        const Literal* found = begins_[static_cast<unsigned char>(text[at])] ? longest_at(text.substr(at)) : nullptr;
        if (found == nullptr) {
            ++at;
            continue;
        }
        std::size_t start = at, end = at + found->text.size();
        at = end;
        if (found->token->single_word && is_in_a_word(text, start, end)) continue;
        if (found->token->lstrip) start = start_of_spaces(text, start, done);
        if (found->token->rstrip) end = end_of_spaces(text, end);
        // A token that the one before has taken whole is not there.
        LDM_NEED(scope, push(done, start, nullptr) && push(start, end, found->token));
        done = end;
    }
    LDM_NEED(scope, push(done, text.size(), nullptr));
    return Status();
}

}  // namespace ldm
