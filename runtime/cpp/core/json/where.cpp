#include "core/json/where.h"

namespace ldm::json {

void Where::spell(Failure& failure) const {
    if (parent_ != nullptr) parent_->spell(failure);
    switch (kind_) {
        case Kind::top: failure.add({name_, part_.empty() ? "" : ": ", part_}); break;
        case Kind::field: failure.add({".", name_}); break;
        case Kind::key: failure.add({"[", quoted(name_), "]"}); break;
        case Kind::index: failure.add({"[", index_, "]"}); break;
    }
}

Status fail(Scope& scope, const Where& where, const char* code, std::initializer_list<Piece> what) {
    scope.failure.set(code, {});
    where.spell(scope.failure);
    scope.failure.add({" "});
    scope.failure.add(what);
    return Status(code);
}

}  // namespace ldm::json
