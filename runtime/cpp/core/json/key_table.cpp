#include "core/json/key_table.h"

namespace ldm::json {

namespace {

std::uint64_t mix(std::uint64_t state, std::string_view text) {
    for (char byte : text) state = (state ^ static_cast<unsigned char>(byte)) * 0x9E3779B97F4A7C15u;
    return state;
}

bool is_joined(std::string_view text, std::string_view left, std::string_view right) {
    return text.size() == left.size() + right.size() && text.substr(0, left.size()) == left &&
           text.substr(left.size()) == right;
}

}  // namespace

bool KeyTable::build(View<Member> members) {
    members_ = {};
    seed_ = 0;
    repeats_ = false;
    std::size_t room = 16;
    while (room < 2 * members.size) room *= 2;
    slots_.shrink(0);
    if (!slots_.resize(room)) return false;
    members_ = members;
    for (const Member& member : members) seed_ = mix(seed_, member.key);
    for (std::size_t place = 0; place < members.size; ++place) {
        std::string_view key = members[place].key;
        std::size_t at = slot(key, {});
        while (slots_[at] != 0 && members[slots_[at] - 1].key != key) at = (at + 1) & (room - 1);
        repeats_ = repeats_ || slots_[at] != 0;
        if (slots_[at] == 0) slots_[at] = static_cast<std::uint32_t>(place + 1);
    }
    return true;
}

const Member* KeyTable::find(std::string_view left, std::string_view right) const {
    if (members_.empty()) return nullptr;
    for (std::size_t at = slot(left, right); slots_[at] != 0; at = (at + 1) & (slots_.size() - 1)) {
        const Member& member = members_[slots_[at] - 1];
        if (is_joined(member.key, left, right)) return &member;
    }
    return nullptr;
}

std::size_t KeyTable::slot(std::string_view left, std::string_view right) const {
    std::uint64_t hash = mix(mix(seed_, left), right);
    return static_cast<std::size_t>((hash ^ hash >> 29) & (slots_.size() - 1));
}

}  // namespace ldm::json
