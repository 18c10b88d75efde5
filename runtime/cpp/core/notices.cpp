#include "core/notices.h"

namespace ldm {

Status Notices::add(Scope& scope, std::string_view about, std::initializer_list<Piece> sentence) {
    Failure spelt;
    spelt.set(nullptr, sentence);
    std::string_view text(spelt.text);
    for (const Notice& notice : all_) {
        if (notice.text == text) return Status();
    }
    View<char> kept;
    LDM_NEED(scope, arena_.copy(text.data(), text.size() + 1, kept));
    LDM_NEED(scope, all_.push({about, {kept.data, text.size()}}));
    return Status();
}

}  // namespace ldm
