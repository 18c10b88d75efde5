#include "core/json/plain.h"

namespace ldm::json {

namespace {

Value of_kind(Kind kind) {
    Value value;
    value.kind = kind;
    return value;
}

}  // namespace

Value value_of(bool value) {
    Value out = of_kind(Kind::boolean);
    out.boolean = value;
    return out;
}

Value value_of(std::int64_t value) {
    Value out = of_kind(Kind::integer);
    out.integer = value;
    out.real = static_cast<double>(value);
    return out;
}

Value value_of(double value) {
    Value out = of_kind(Kind::real);
    out.real = value;
    return out;
}

Value value_of(std::string_view value) {
    Value out = of_kind(Kind::text);
    out.text = value;
    return out;
}

Value value_of(const Value* value) { return value == nullptr ? Value() : *value; }

bool are_equal(const Value& first, const Value& second) {
    if (first.kind != second.kind) return false;
    switch (first.kind) {
        case Kind::null: return true;
        case Kind::boolean: return first.boolean == second.boolean;
        case Kind::integer: return first.integer == second.integer && first.text == second.text;
        case Kind::real: return first.real == second.real;
        case Kind::text: return first.text == second.text;
        case Kind::list:
            return std::equal(first.items.begin(), first.items.end(), second.items.begin(), second.items.end(),
                              are_equal);
        case Kind::object: break;
    }
    return first.members.size == second.members.size &&
           std::all_of(first.members.begin(), first.members.end(), [&](const Member& member) {
               const Value* other = second.find(member.key);
               return other != nullptr && are_equal(member.value, *other);
           });
}

void Members::keep(std::string_view name, const Value& value) {
    if (!status.ok()) return;
    Member member;
    member.key = name;
    member.value = value;
    if (!members_.push(member)) status = reader_.scope.out_of_memory();
}

Status Members::finish(Value& out) {
    LDM_TRY(status);
    out = of_kind(Kind::object);
    LDM_NEED(reader_.scope, reader_.arena.copy(members_.data(), members_.size(), out.members));
    return Status();
}

}  // namespace ldm::json
