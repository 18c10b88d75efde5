// Byte-pair encoding of one word (Sennrich et al. 2016). Of all neighbours that merge, the pair of the lowest rank is
// merged first, of equal ones the first in the word; a heap finds it, so that n bytes take n log n steps.
#ifndef LDM_CORE_TEXT_BYTE_PAIRS_H
#define LDM_CORE_TEXT_BYTE_PAIRS_H

#include <cstdint>

#include "core/memory.h"
#include "core/status.h"

namespace ldm {

// What a token merges to with another one behind it.
struct Merge {
    std::int32_t right;
    std::int32_t rank;  // the lowest is merged first
    std::int32_t made;
};

// All merges, grouped by their left token: CLIP's 48,894 take 0.8 MB.
struct Merges {
    View<std::uint32_t> starts;  // of a left token's group in `merges`; one more than there are tokens
    View<Merge> merges;          // each group by `right`

    const Merge* find(std::int32_t left, std::int32_t right) const;
};

struct Symbol {
    std::int32_t id;
    std::uint32_t place;  // of its first byte
    std::int32_t before, behind;
};

// Merges the symbols of one word. Its memory is used again for the next word.
class WordMerger {
public:
    explicit WordMerger(Allocator& memory) : symbols(memory), heap_(memory) {}

    // Merge `symbols`, and leave in it, in order, what remains.
    Status merge(Scope& scope, const Merges& merges);

    Array<Symbol> symbols;

private:
    struct Candidate {
        std::int32_t rank, left;
        bool operator<(const Candidate& other) const {  // a heap's top is its largest
            return rank != other.rank ? rank > other.rank : left > other.left;
        }
    };
    Status consider(Scope& scope, const Merges& merges, std::int32_t left);

    Array<Candidate> heap_;
};

}  // namespace ldm

#endif
