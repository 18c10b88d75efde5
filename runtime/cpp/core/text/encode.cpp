// Text to tokens: added tokens, normal form, words, byte pairs.
#include "core/text/tokenizer.h"
#include "core/text/unicode.h"
#include "core/text/utf8.h"

namespace ldm {

namespace {

using unicode::Character;

constexpr std::string_view endings[] = {"'s", "'t", "'re", "'ve", "'m", "'ll", "'d"};
constexpr std::string_view marks[] = {"<|startoftext|>", "<|endoftext|>"};

bool begins(std::string_view text, std::string_view with) { return text.substr(0, with.size()) == with; }

// The word at the beginning of a normalised text; it has no size where white space is there. Endings of English
// contractions, runs of letters, single numbers, runs of what is neither.
std::string_view next_word(std::string_view text) {
    for (std::string_view ending : endings) {
        if (begins(text, ending)) return text.substr(0, ending.size());
    }
    utf8::Character first = utf8::next(text);
    Character kind = unicode::kind(first.point);
    if (kind == Character::space) return {};
    std::size_t end = first.bytes;
    while (kind != Character::number && end < text.size()) {
        utf8::Character next = utf8::next(text.substr(end));
        if (unicode::kind(next.point) != kind) break;
        end += next.bytes;
    }
    return text.substr(0, end);
}

class Encoder {
public:
    Encoder(Scope& scope, const Tokenizer& tokenizer, Array<Token>& tokens)
        : scope_(scope), tokenizer_(tokenizer), tokens_(tokens), merger_(scope.memory), normal_(scope.memory),
          inner_(scope.memory) {}

    Status encode(std::string_view text) {
        Array<Stretch> stretches(scope_.memory);
        LDM_TRY(tokenizer_.literal.split(scope_, text, stretches));
        for (const Stretch& stretch : stretches) {
            start_ = stretch.start;
            if (stretch.token != nullptr) {
                LDM_TRY(added(*stretch.token, start_));
            } else {
                LDM_TRY(normalised(text.substr(stretch.start, stretch.end - stretch.start)));
            }
        }
        return Status();
    }

private:
    Status added(const AddedToken& token, std::uint32_t place) {
        LDM_NEED(scope_, tokens_.push({static_cast<std::int32_t>(token.id), place}));
        return Status();
    }

    Status normalised(std::string_view text) {
        LDM_TRY(unicode::normalise(scope_, text, normal_));
        inner_.shrink(0);
        LDM_TRY(tokenizer_.normalised.split(scope_, normal_.view(), inner_));
        for (const Stretch& stretch : inner_) {
            if (stretch.token != nullptr) {
                LDM_TRY(added(*stretch.token, start_ + normal_.origin[stretch.start]));
            } else {
                LDM_TRY(words(stretch.start, stretch.end));
            }
        }
        return Status();
    }

    // From and to: bytes of the normal form.
    Status words(std::size_t from, std::size_t to) {
        while (from < to) {
            std::string_view text = normal_.view().substr(from, to - from);
            std::size_t mark = tokenizer_.splits_special ? mark_at(text) : 0;
            if (mark > 0) {  // "<|", its name and "|>" are words of their own
                LDM_TRY(word(from, 2));
                LDM_TRY(word(from + 2, mark - 4));
                LDM_TRY(word(from + mark - 2, 2));
                from += mark;
                continue;
            }
            std::size_t size = next_word(text).size();
            if (size == 0) {
                ++from;  // in normal form white space is one byte
                continue;
            }
            LDM_TRY(word(from, size));
            from += size;
        }
        return Status();
    }

    static std::size_t mark_at(std::string_view text) {
        for (std::string_view mark : marks) {
            if (begins(text, mark)) return mark.size();
        }
        return 0;
    }

    Status word(std::size_t from, std::size_t size) {
        merger_.symbols.shrink(0);
        for (std::size_t index = from; index < from + size; ++index) {
            auto byte = static_cast<unsigned char>(normal_.text[index]);
            std::int32_t id = (index + 1 == from + size ? tokenizer_.last_byte_ids : tokenizer_.byte_ids)[byte];
            if (id == no_token) id = tokenizer_.unknown;
            if (id == no_token) continue;
            LDM_NEED(scope_, merger_.symbols.push({id, start_ + normal_.origin[index], 0, 0}));
        }
        LDM_TRY(merger_.merge(scope_, tokenizer_.merges));
        for (const Symbol& symbol : merger_.symbols) LDM_NEED(scope_, tokens_.push({symbol.id, symbol.place}));
        return Status();
    }

    Scope& scope_;
    const Tokenizer& tokenizer_;
    Array<Token>& tokens_;
    WordMerger merger_;
    unicode::Normal normal_;
    Array<Stretch> inner_;
    std::uint32_t start_ = 0;  // of the stretch in the text
};

}  // namespace

Status encode(Scope& scope, const Tokenizer& tokenizer, std::string_view text, Array<Token>& tokens) {
    return Encoder(scope, tokenizer, tokens).encode(text);
}

}  // namespace ldm
