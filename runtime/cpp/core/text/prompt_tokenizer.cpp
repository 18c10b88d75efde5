#include "core/text/prompt_tokenizer.h"

#include <algorithm>

#include "core/codes.h"
#include "core/text/unicode.h"
#include "core/text/utf8.h"
#include "core/text/weighting.h"

namespace ldm::text {

namespace {

constexpr std::size_t most_of_a_word = 40;        // characters
constexpr std::size_t comma_backtrack = 20;       // tokens that may move to the next window
constexpr std::size_t most_quoted = 60;           // characters of a prompt in a sentence

// ---- Textual inversions ----

using ByContent = Array<const AddedToken*>;

const AddedToken* find_added(const ByContent& added, std::string_view content) {
    auto below = [](const AddedToken* each, std::string_view text) { return each->content < text; };
    const AddedToken* const* found = std::lower_bound(added.begin(), added.end(), content, below);
    return found != added.end() && (*found)->content == content ? *found : nullptr;
}

// A name with an underscore and a number.
[[nodiscard]] bool number_name(std::string_view name, unsigned number, Array<char>& out) {
    char digits[12];
    std::size_t count = 0;
    for (unsigned rest = number; rest > 0; rest /= 10) digits[sizeof digits - ++count] = static_cast<char>('0' + rest % 10);
    out.shrink(0);
    return out.append(name.data(), name.size()) && out.push('_') && out.append(digits + sizeof digits - count, count);
}

Status find_vectors(Scope& scope, Arena& arena, PromptTokenizer& tokenizer) {
    ByContent by_content(scope.memory);
    for (const AddedToken& added : tokenizer.clip.added) LDM_NEED(scope, by_content.push(&added));
    std::sort(by_content.begin(), by_content.end(),
              [](const AddedToken* one, const AddedToken* other) { return one->content < other->content; });
    Array<PromptTokenizer::Vectors> all(scope.memory);
    Array<std::int32_t> others(scope.memory);
    Array<char> name(scope.memory);
    for (const AddedToken& added : tokenizer.clip.added) {
        others.shrink(0);
        for (unsigned number = 1;; ++number) {
            LDM_NEED(scope, number_name(added.content, number, name));
            const AddedToken* next = find_added(by_content, {name.data(), name.size()});
            if (next == nullptr) break;
            LDM_NEED(scope, others.push(static_cast<std::int32_t>(next->id)));
        }
        if (others.empty()) continue;
        PromptTokenizer::Vectors vectors{static_cast<std::int32_t>(added.id), {}};
        LDM_NEED(scope, arena.copy(others.data(), others.size(), vectors.others) && all.push(vectors));
    }
    std::sort(all.begin(), all.end(), [](const auto& one, const auto& other) { return one.first < other.first; });
    LDM_NEED(scope, arena.copy(all.data(), all.size(), tokenizer.vectors));
    return Status();
}

View<std::int32_t> others_of(const PromptTokenizer& tokenizer, std::int32_t token) {
    auto below = [](const PromptTokenizer::Vectors& each, std::int32_t id) { return each.first < id; };
    const PromptTokenizer::Vectors* found =
        std::lower_bound(tokenizer.vectors.begin(), tokenizer.vectors.end(), token, below);
    return found != tokenizer.vectors.end() && found->first == token ? found->others : View<std::int32_t>();
}

// ---- Windows ----

// Begin, tokens, end, then padding.
Status make_window(Scope& scope, Arena& arena, const PromptTokenizer& tokenizer, const std::int32_t* tokens,
                   std::size_t count, View<std::int64_t>& out) {
    const TokenizerFacts& facts = tokenizer.facts;
    auto length = static_cast<std::size_t>(facts.max_length);
    auto* ids = arena.make<std::int64_t>(length);
    LDM_NEED(scope, ids != nullptr);
    std::fill(ids, ids + length, facts.pad_token_id);
    ids[0] = facts.bos_token_id;
    for (std::size_t index = 0; index < count; ++index) ids[index + 1] = tokens[index];
    ids[count + 1] = facts.eos_token_id;
    out = {ids, length};
    return Status();
}

std::size_t characters_in(std::string_view text) {
    return static_cast<std::size_t>(
        std::count_if(text.begin(), text.end(), [](char byte) { return (static_cast<unsigned char>(byte) & 0xC0) != 0x80; }));
}

char32_t point_before(std::string_view text, std::size_t at, std::size_t& start) {
    start = at - 1;
    while (start > 0 && (static_cast<unsigned char>(text[start]) & 0xC0) == 0x80) --start;
    return utf8::next({text.data() + start, text.size() - start}).point;
}

bool is_alphanumeric(char32_t point) {
    unicode::Character kind = unicode::kind(point);
    return kind == unicode::Character::letter || kind == unicode::Character::number;
}

// A place, or the begin of the word around it, if that is near.
std::size_t start_of_word(std::string_view text, std::size_t place) {
    std::size_t start = place;
    for (std::size_t steps = 0; start > 0 && start < text.size(); ++steps) {
        std::size_t before = 0;
        bool goes_on = is_alphanumeric(point_before(text, start, before)) &&
                       is_alphanumeric(utf8::next({text.data() + start, text.size() - start}).point);
        if (!goes_on) return start;
        if (steps + 1 == most_of_a_word) return place;
        start = before;
    }
    return start;
}

std::string_view stripped(std::string_view text) {
    while (!text.empty()) {
        utf8::Character first = utf8::next(text);
        if (!unicode::is_python_space(first.point)) break;
        text.remove_prefix(first.bytes);
    }
    while (!text.empty()) {
        std::size_t last = 0;
        if (!unicode::is_python_space(point_before(text, text.size(), last))) break;
        text = {text.data(), last};
    }
    return text;
}

std::size_t words_in(std::string_view text) {
    std::size_t words = 0;
    bool is_in_word = false;
    while (!text.empty()) {
        utf8::Character next = utf8::next(text);
        bool space = unicode::is_python_space(next.point);
        words += !space && !is_in_word;
        is_in_word = !space;
        text.remove_prefix(next.bytes);
    }
    return words;
}

Status note_left_out(Scope& scope, std::string_view name, std::string_view dropped, std::int64_t limit, Notices& notices) {
    std::size_t words = words_in(dropped), characters = characters_in(dropped);
    return notices.add(scope, "text", {name, " is longer than ", limit, " tokens; ", words, words == 1 ? " word (" : " words (",
                       characters, characters == 1 ? " character) " : " characters) ", words == 1 ? "was" : "were",
                       " left out: ", quoted(utf8::first_characters(dropped, most_quoted))});
}

Status read_plain(Scope& scope, Arena& arena, const PromptTokenizer& tokenizer, std::string_view prompt,
                  std::string_view name, Notices& notices, View<Window>& out) {
    Array<Token> tokens(scope.memory);
    Array<std::int32_t> kept(scope.memory);
    LDM_TRY(encode(scope, tokenizer.clip, prompt, tokens));
    std::size_t overflow = prompt.size();
    for (const Token& token : tokens) {
        LDM_NEED(scope, kept.push(token.id) && kept.append(others_of(tokenizer, token.id)));
        if (kept.size() > tokenizer.room()) {
            overflow = start_of_word(prompt, token.place);
            break;
        }
    }
    kept.shrink(tokenizer.room());
    auto* window = arena.make<Window>();
    LDM_NEED(scope, window != nullptr);
    LDM_TRY(make_window(scope, arena, tokenizer, kept.data(), kept.size(), window->ids));
    out = {window, 1};
    std::string_view dropped = stripped({prompt.data() + overflow, prompt.size() - overflow});
    return dropped.empty() ? Status() : note_left_out(scope, name, dropped, tokenizer.facts.max_length, notices);
}

// Fills windows of at most `room` tokens with their weights (point 3 of the definition).
class Filling {
public:
    Filling(Scope& scope, Arena& arena, const PromptTokenizer& tokenizer)
        : scope_(scope), arena_(arena), tokenizer_(tokenizer), ids_(scope.memory), weights_(scope.memory),
          windows_(scope.memory) {}

    // tokens: that stay together, mostly one.
    Status put(const std::int32_t* tokens, std::size_t count, double weight) {
        std::size_t room = tokenizer_.room();
        bool is_comma = tokens[0] == tokenizer_.clip.comma;
        if (ids_.size() < room && is_comma) {
            last_comma_ = ids_.size();
        } else if (ids_.size() == room && !is_comma && last_comma_ != none && room - last_comma_ <= comma_backtrack) {
            std::size_t cut = last_comma_ + 1;
            LDM_TRY(finish_window(cut));
        }
        for (std::size_t done = 0, together = count <= room ? count : 1; done < count; done += together) {
            if (ids_.size() + together > room) LDM_TRY(finish_window(ids_.size()));
            for (std::size_t index = done; index < done + together; ++index) {
                LDM_NEED(scope_, ids_.push(tokens[index]) && weights_.push(weight));
            }
            counts_ = counts_ || weight != 0.0;
            any_ = true;
        }
        return Status();
    }

    // End a part: it has at least one window.
    Status end_part() { return finish_window(ids_.size()); }

    Status finish(std::string_view name, View<Window>& out) {
        if (any_ && !counts_) {
            return scope_.fail(codes::request_prompt,
                               {"every word of ", name, " has weight 0; leave at least one that counts"});
        }
        LDM_NEED(scope_, arena_.copy(windows_.data(), windows_.size(), out));
        return Status();
    }

private:
    static constexpr std::size_t none = static_cast<std::size_t>(-1);

    // A window of the first `count` tokens; the others begin the next one.
    Status finish_window(std::size_t count) {
        Window window;
        LDM_TRY(make_window(scope_, arena_, tokenizer_, ids_.data(), count, window.ids));
        auto* weights = arena_.make<double>(window.ids.size);
        LDM_NEED(scope_, weights != nullptr);
        std::fill(weights, weights + window.ids.size, 1.0);
        std::copy(weights_.data(), weights_.data() + count, weights + 1);
        window.weights = {weights, window.ids.size};
        LDM_NEED(scope_, windows_.push(window));
        std::copy(ids_.data() + count, ids_.data() + ids_.size(), ids_.data());
        std::copy(weights_.data() + count, weights_.data() + weights_.size(), weights_.data());
        ids_.shrink(ids_.size() - count);
        weights_.shrink(weights_.size() - count);
        last_comma_ = none;
        return Status();
    }

    Scope& scope_;
    Arena& arena_;
    const PromptTokenizer& tokenizer_;
    Array<std::int32_t> ids_;
    Array<double> weights_;
    Array<Window> windows_;
    std::size_t last_comma_ = none;  // where the last comma of this window is
    bool any_ = false, counts_ = false;
};

Status read_weighted(Scope& scope, Arena& arena, const PromptTokenizer& tokenizer, std::string_view prompt,
                     std::string_view name, View<Window>& out) {
    if (tokenizer.room() < 1) {
        return scope.fail(codes::request_prompt, {"the package's text encoder has windows without room for words; use the "
                          "plain syntax"});
    }
    Arena pieces(scope.memory);
    View<View<Piece>> parts;
    LDM_TRY(parse_prompt(scope, pieces, prompt, name, parts));
    Filling filling(scope, arena, tokenizer);
    Array<Token> tokens(scope.memory);
    Array<std::int32_t> unit(scope.memory);
    for (const View<Piece>& part : parts) {
        for (const Piece& piece : part) {
            tokens.shrink(0);
            LDM_TRY(encode(scope, tokenizer.clip, piece.text, tokens));
            for (const Token& token : tokens) {
                unit.shrink(0);
                LDM_NEED(scope, unit.push(token.id) && unit.append(others_of(tokenizer, token.id)));
                LDM_TRY(filling.put(unit.data(), unit.size(), piece.weight));
            }
        }
        LDM_TRY(filling.end_part());
    }
    return filling.finish(name, out);
}

}  // namespace

Status read_prompt_tokenizer(Scope& scope, Arena& arena, std::string_view content, std::string_view where,
                             const TokenizerFacts& facts, PromptTokenizer& out) {
    out.facts = facts;
    LDM_TRY(read_tokenizer(scope, arena, content, where, out.clip));
    LDM_TRY(check_ends(scope, out.clip, where, facts.bos_token_id, facts.eos_token_id, facts.pad_token_id, facts.vocab_size));
    return find_vectors(scope, arena, out);
}

Status check_prompt(Scope& scope, std::string_view prompt, std::string_view name) {
    std::size_t invalid = utf8::first_invalid(prompt);
    if (invalid < prompt.size()) {
        return scope.fail(codes::request_prompt,
                          {name, " is not valid Unicode text at byte ", invalid, "; give it as UTF-8"});
    }
    std::size_t characters = characters_in(prompt);
    if (characters <= max_prompt_characters) return Status();
    return scope.fail(codes::request_prompt, {name, " has ", characters, " characters; expected at most ", max_prompt_characters});
}

Status read_windows(Scope& scope, Arena& arena, const PromptTokenizer& tokenizer, std::string_view prompt,
                    std::string_view name, std::string_view syntax, Notices& notices, View<Window>& out) {
    if (syntax == "weighted") return read_weighted(scope, arena, tokenizer, prompt, name, out);
    return read_plain(scope, arena, tokenizer, prompt, name, notices, out);
}

Status empty_window(Scope& scope, Arena& arena, const PromptTokenizer& tokenizer, View<std::int64_t>& ids) {
    return make_window(scope, arena, tokenizer, nullptr, 0, ids);
}

}  // namespace ldm::text
