// Windows of token ids, and weights on their embeddings.
#include <algorithm>
#include <cmath>

#include "core/codes.h"
#include "core/text/prompt.h"
#include "core/text/unicode.h"
#include "core/text/utf8.h"

namespace ldm {

namespace {

constexpr std::size_t comma_backtrack = 20;  // tokens that may move to the next window, as in AUTOMATIC1111's web UI
constexpr std::size_t most_of_a_word = 40;   // characters

View<std::int32_t> others_of(const Tokenizer& tokenizer, std::int32_t id) {
    auto below = [](const Inversion& inversion, std::int32_t wanted) { return inversion.id < wanted; };
    const Inversion* found = std::lower_bound(tokenizer.inversions.begin(), tokenizer.inversions.end(), id, below);
    bool is_there = found != tokenizer.inversions.end() && found->id == id;
    return is_there ? found->others : View<std::int32_t>();
}

class Windows {
public:
    Windows(Scope& scope, Arena& arena, const Tokenizer& tokenizer, const TokenizerFacts& facts)
        : scope_(scope), arena_(arena), tokenizer_(tokenizer), facts_(facts),
          room_(static_cast<std::size_t>(std::max<std::int64_t>(facts.max_length - 2, 0))), ids_(scope.memory),
          weights_(scope.memory), found_(scope.memory), tokens_(scope.memory), unit_(scope.memory) {}

    Status plain(std::string_view prompt, PromptWindows& out) {
        LDM_TRY(encode(scope_, tokenizer_, prompt, tokens_));
        for (const Token& token : tokens_) {
            LDM_TRY(read_unit(token.id));
            LDM_NEED(scope_, ids_.append(unit_.data(), unit_.size()));
            if (ids_.size() <= room_) continue;
            out.left_out = left_out(prompt, token.place);
            ids_.shrink(room_);
            break;
        }
        LDM_TRY(put(ids_.size(), false));
        return finish(out);
    }

    Status weighted(std::string_view prompt, std::string_view name, PromptWindows& out) {
        if (room_ < 1) {
            return scope_.fail(codes::request_prompt,
                               {"the package's text encoder has windows without room for words; use "
                                "the plain syntax"});
        }
        View<View<WeightedText>> parts;
        LDM_TRY(parse_prompt(scope_, arena_, prompt, name, parts));
        bool has_tokens = false, counts = false;
        for (const View<WeightedText>& part : parts) {
            comma_ = none;
            for (const WeightedText& piece : part) {
                tokens_.shrink(0);
                LDM_TRY(encode(scope_, tokenizer_, piece.text, tokens_));
                has_tokens = has_tokens || !tokens_.empty();
                counts = counts || (!tokens_.empty() && piece.weight != 0.0);
                for (const Token& token : tokens_) LDM_TRY(add(token.id, piece.weight));
            }
            LDM_TRY(put(ids_.size(), true));
        }
        if (has_tokens && !counts) {
            return scope_.fail(codes::request_prompt,
                               {"every word of ", name, " has weight 0; leave at least one that counts"});
        }
        return finish(out);
    }

private:
    static constexpr std::size_t none = static_cast<std::size_t>(-1);

    Status read_unit(std::int32_t id) {
        unit_.shrink(0);
        LDM_NEED(scope_, unit_.push(id) && unit_.append(others_of(tokenizer_, id)));
        return Status();
    }

    // Add a token, and those that stay with it.
    Status add(std::int32_t id, double weight) {
        LDM_TRY(read_unit(id));
        bool is_comma = id == tokenizer_.comma && id != no_token;
        if (ids_.size() < room_ && is_comma) {
            comma_ = ids_.size();
        } else if (ids_.size() == room_ && !is_comma && comma_ != none && room_ - comma_ <= comma_backtrack) {
            std::size_t cut = comma_ + 1;
            comma_ = none;
            LDM_TRY(put(cut, true));
        }
        std::size_t together = unit_.size() <= room_ ? unit_.size() : 1;
        for (std::size_t at = 0; at < unit_.size(); at += together) {
            if (ids_.size() + together > room_) {
                LDM_TRY(put(ids_.size(), true));
                comma_ = none;
            }
            LDM_NEED(scope_, ids_.append(unit_.data() + at, together));
            for (std::size_t count = 0; count < together; ++count) LDM_NEED(scope_, weights_.push(weight));
        }
        return Status();
    }

    // Make a window of the first `count` tokens; the others are for the next one.
    Status put(std::size_t count, bool is_weighted) {
        auto length = static_cast<std::size_t>(facts_.max_length);
        auto* ids = arena_.make<std::int32_t>(length);
        auto* weights = is_weighted ? arena_.make<double>(length) : nullptr;
        LDM_NEED(scope_, ids != nullptr && (weights != nullptr || !is_weighted));
        std::fill(ids, ids + length, static_cast<std::int32_t>(facts_.pad_token_id));
        ids[0] = static_cast<std::int32_t>(facts_.bos_token_id);
        std::copy(ids_.data(), ids_.data() + count, ids + 1);
        ids[count + 1] = static_cast<std::int32_t>(facts_.eos_token_id);
        if (is_weighted) {
            std::fill(weights, weights + length, 1.0);
            std::copy(weights_.data(), weights_.data() + count, weights + 1);
            std::copy(weights_.data() + count, weights_.end(), weights_.data());
            weights_.shrink(weights_.size() - count);
        }
        std::copy(ids_.data() + count, ids_.end(), ids_.data());
        ids_.shrink(ids_.size() - count);
        LDM_NEED(scope_, found_.push({{ids, length}, {weights, is_weighted ? length : 0}}));
        return Status();
    }

    Status finish(PromptWindows& out) {
        LDM_NEED(scope_, arena_.copy(found_.data(), found_.size(), out.windows));
        return Status();
    }

    static bool is_alphanumeric(utf8::Character character) {
        unicode::Character kind = unicode::kind(character.point);
        return kind == unicode::Character::letter || kind == unicode::Character::number;
    }

    // `place`, or the begin of the word around it, if that is near.
    static std::size_t start_of_word(std::string_view text, std::size_t place) {
        std::size_t start = place, characters = 0;
        while (characters < most_of_a_word && start > 0 && is_alphanumeric(utf8::next(text.substr(start)))) {
            utf8::Character before = utf8::last(text.substr(0, start));
            if (!is_alphanumeric(before)) break;
            start -= before.bytes;
            ++characters;
        }
        return characters < most_of_a_word ? start : place;
    }

    static LeftOut left_out(std::string_view prompt, std::size_t place) {
        std::string_view rest = prompt.substr(start_of_word(prompt, place));
        LeftOut found;
        std::size_t first = rest.size(), last = 0, at = 0;
        bool in_word = false;
        while (at < rest.size()) {
            utf8::Character read = utf8::next(rest.substr(at));
            bool is_space = unicode::is_python_space(read.point);
            found.words += !is_space && !in_word;
            in_word = !is_space;
            if (!is_space) first = std::min(first, at);
            at += read.bytes;
            if (!is_space) last = at;
        }
        if (first < last) found.text = rest.substr(first, last - first);
        found.characters = utf8::characters(found.text);
        return found;
    }

    Scope& scope_;
    Arena& arena_;
    const Tokenizer& tokenizer_;
    const TokenizerFacts& facts_;
    std::size_t room_;
    Array<std::int32_t> ids_;
    Array<double> weights_;
    Array<Window> found_;
    Array<Token> tokens_;
    Array<std::int32_t> unit_;
    std::size_t comma_ = none;  // where the last comma of this window is
};

}  // namespace

Status check_prompt(Scope& scope, std::string_view prompt, std::string_view name) {
    std::size_t invalid = utf8::first_invalid(prompt);
    if (invalid < prompt.size()) {
        return scope.fail(codes::request_prompt, {name, " is not valid Unicode text at character ",
                                                  utf8::characters(prompt.substr(0, invalid)), "; give it as UTF-8"});
    }
    std::size_t count = utf8::characters(prompt);
    if (count <= max_prompt_characters) return Status();
    return scope.fail(codes::request_prompt,
                      {name, " has ", count, " characters; expected at most ", max_prompt_characters});
}

Status prompt_windows(Scope& scope, Arena& arena, const Tokenizer& tokenizer, const TokenizerFacts& facts,
                      std::string_view prompt, std::string_view name, Syntax syntax, PromptWindows& out) {
    out = PromptWindows();
    LDM_TRY(check_prompt(scope, prompt, name));
    Windows windows(scope, arena, tokenizer, facts);
    return syntax == Syntax::plain ? windows.plain(prompt, out) : windows.weighted(prompt, name, out);
}

void weigh(float* embedding, std::size_t width, View<double> weights) {
    if (std::all_of(weights.begin(), weights.end(), [](double weight) { return weight == 1.0; })) return;
    double before = 0.0, after = 0.0;  // sums of squares; numpy adds them in pairs
    for (std::size_t token = 0; token < weights.size; ++token) {
        auto weight = static_cast<float>(weights[token]);
        for (float* value = embedding + token * width; value < embedding + (token + 1) * width; ++value) {
            before += static_cast<double>(*value) * static_cast<double>(*value);
            *value *= weight;
            after += static_cast<double>(*value) * static_cast<double>(*value);
        }
    }
    if (after == 0.0) return;  // nothing to restore
    auto factor = static_cast<float>(std::sqrt(before / after));
    for (std::size_t index = 0; index < weights.size * width; ++index) embedding[index] *= factor;
}

}  // namespace ldm
