// A tokenizer's vocabulary while it is read, and its merges. Only ids stay of both.
#ifndef LDM_CORE_TEXT_VOCABULARY_H
#define LDM_CORE_TEXT_VOCABULARY_H

#include <cstdint>
#include <string_view>

#include "core/json/json.h"
#include "core/json/key_table.h"
#include "core/json/where.h"
#include "core/memory.h"
#include "core/status.h"
#include "core/text/byte_pairs.h"

namespace ldm {

// Token -> id, 0 to n - 1, each once. Its texts are those of the document.
class Vocabulary {
public:
    explicit Vocabulary(Allocator& memory) : tokens_(memory) {}

    // Code: tokenizer.vocabulary.
    Status read(Scope& scope, const json::Value& value, const json::Where& where);

    std::size_t size() const { return size_; }
    std::int32_t find(std::string_view token) const { return find(token, {}); }
    // The id of two texts, joined; -1 where there is none.
    std::int32_t find(std::string_view left, std::string_view right) const;
    // The ids of all bytes, and of those that end a word.
    void bytes(std::int32_t (&ids)[256], std::int32_t (&last_ids)[256]) const;

private:
    json::KeyTable tokens_;
    std::size_t size_ = 0;
};

// Read merges, each a pair or "left right". Code: tokenizer.merges.
Status read_merges(Scope& scope, Arena& arena, const json::Value& value, const Vocabulary& vocabulary,
                   const json::Where& where, Merges& out);

// Copy a text into an arena.
Status keep(Scope& scope, Arena& arena, std::string_view& text);

}  // namespace ldm

#endif
