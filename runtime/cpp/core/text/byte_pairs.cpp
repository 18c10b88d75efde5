#include "core/text/byte_pairs.h"

#include <algorithm>

namespace ldm {

const Merge* Merges::find(std::int32_t left, std::int32_t right) const {
    auto index = static_cast<std::size_t>(left);
    if (left < 0 || index + 1 >= starts.size) return nullptr;
    const Merge* end = merges.data + starts[index + 1];
    const Merge* found = std::lower_bound(merges.data + starts[index], end, right,
                                          [](const Merge& merge, std::int32_t wanted) { return merge.right < wanted; });
    return found != end && found->right == right ? found : nullptr;
}

Status WordMerger::consider(Scope& scope, const Merges& merges, std::int32_t left) {
    if (left < 0) return Status();
    const Symbol& symbol = symbols[static_cast<std::size_t>(left)];
    if (symbol.behind < 0) return Status();
    const Merge* merge = merges.find(symbol.id, symbols[static_cast<std::size_t>(symbol.behind)].id);
    if (merge == nullptr) return Status();
    LDM_NEED(scope, heap_.push({merge->rank, left}));
    std::push_heap(heap_.begin(), heap_.end());
    return Status();
}

Status WordMerger::merge(Scope& scope, const Merges& merges) {
    auto count = static_cast<std::int32_t>(symbols.size());
    for (std::int32_t index = 0; index < count; ++index) {
        Symbol& symbol = symbols[static_cast<std::size_t>(index)];
        symbol.before = index - 1;
        symbol.behind = index + 1 < count ? index + 1 : -1;
    }
    heap_.shrink(0);
    for (std::int32_t index = 0; index < count; ++index) LDM_TRY(consider(scope, merges, index));
    while (!heap_.empty()) {
        Candidate best = heap_[0];
        std::pop_heap(heap_.begin(), heap_.end());
        heap_.shrink(heap_.size() - 1);
        Symbol& left = symbols[static_cast<std::size_t>(best.left)];
        if (left.id < 0 || left.behind < 0) continue;
        Symbol& right = symbols[static_cast<std::size_t>(left.behind)];
        const Merge* pair = merges.find(left.id, right.id);
        if (pair == nullptr || pair->rank != best.rank) continue;  // one of the two was merged in the meantime
        left.id = pair->made;
        right.id = -1;
        left.behind = right.behind;
        if (left.behind >= 0) symbols[static_cast<std::size_t>(left.behind)].before = best.left;
        LDM_TRY(consider(scope, merges, left.before));
        LDM_TRY(consider(scope, merges, best.left));
    }
    Symbol* end = std::remove_if(symbols.begin(), symbols.end(), [](const Symbol& symbol) { return symbol.id < 0; });
    symbols.shrink(static_cast<std::size_t>(end - symbols.begin()));
    return Status();
}

}  // namespace ldm
