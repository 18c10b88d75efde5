// Tokens that stand for themselves wherever they are in a text, such as those of textual inversion.
#ifndef LDM_CORE_TEXT_ADDED_TOKENS_H
#define LDM_CORE_TEXT_ADDED_TOKENS_H

#include <cstdint>
#include <string_view>

#include "core/memory.h"
#include "core/status.h"

namespace ldm {

struct AddedToken {
    std::int64_t id = 0;
    std::string_view content;
    bool single_word = false;  // only where no letter or digit touches it
    bool lstrip = false;       // takes the white space before it
    bool rstrip = false;
    bool normalized = false;  // is looked for in the normalised text, in its own normalised form
    bool special = false;
};

template <typename Visitor>
void fields(Visitor& visit, AddedToken& it) {
    visit("id", it.id);
    visit("content", it.content);
    visit("single_word", it.single_word);
    visit("lstrip", it.lstrip);
    visit("rstrip", it.rstrip);
    visit("normalized", it.normalized);
    visit("special", it.special);
}

// What to look for.
struct Literal {
    std::string_view text;
    const AddedToken* token = nullptr;
    std::uint32_t order = 0;  // of equal texts the lowest counts
};

struct Stretch {
    std::uint32_t start, end;
    const AddedToken* token;  // null: text between them
};

// Looks for tokens in a text: the first, of several at one place the longest, and goes on behind it.
class AddedTokens {
public:
    // literals: sorted here; they live in an arena.
    void set(Literal* literals, std::size_t count);

    // The stretches of a text, none of them empty. text: valid UTF-8.
    Status split(Scope& scope, std::string_view text, Array<Stretch>& out) const;

private:
    const Literal* longest_at(std::string_view text) const;

    View<Literal> literals_;  // by text
    bool begins_[256] = {};   // with such a byte
};

}  // namespace ldm

#endif
