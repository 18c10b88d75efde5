#include "src/verify/proven_contract.h"

#include "core/json/write.h"
#include "core/package/contract_fields.h"
#include "core/text/words.h"

namespace ldm::verify {

namespace {

// An object without one of its members.
Status without(Scope& scope, Arena& arena, std::string_view key, json::Value& object) {
    Array<json::Member> kept(scope.memory);
    for (const json::Member& member : object.members) {
        if (member.key != key) LDM_NEED(scope, kept.push(member));
    }
    LDM_NEED(scope, arena.copy(kept.data(), kept.size(), object.members));
    return Status();
}

// Give an object members of its own, which may be changed.
Status own_members(Scope& scope, Arena& arena, json::Value& object, json::Member*& out) {
    out = arena.make<json::Member>(object.members.size);
    LDM_NEED(scope, out != nullptr);
    for (std::size_t index = 0; index < object.members.size; ++index) out[index] = object.members[index];
    object.members = {out, object.members.size};
    return Status();
}

class Changes {
public:
    Changes(Scope& scope, Arena& arena, Array<Change>& out) : scope_(scope), arena_(arena), out_(out) {}

    // Null: there is none.
    Status compare(std::string_view name, const json::Value* before, const json::Value* now) {
        bool are_both = before != nullptr && now != nullptr;
        if (are_both && before->kind == json::Kind::object && now->kind == json::Kind::object) {
            for (const json::Member& member : before->members) LDM_TRY(member_of(name, member.key, before, now));
            for (const json::Member& member : now->members) {
                if (before->find(member.key) == nullptr) LDM_TRY(member_of(name, member.key, before, now));
            }
            return Status();
        }
        bool are_lists = are_both && before->kind == json::Kind::list && now->kind == json::Kind::list;
        if (are_lists && before->items.size == now->items.size) {
            for (std::size_t index = 0; index < now->items.size; ++index) {
                std::string_view below;
                LDM_TRY(Words(scope_.memory).add(name, "[", index, "]").keep(scope_, arena_, below));
                LDM_TRY(compare(below, &before->items[index], &now->items[index]));
            }
            return Status();
        }
        if (are_both && json::are_equal(*before, *now)) return Status();
        Change change{name, "absent", "absent"};
        if (before != nullptr) LDM_TRY(json_text(scope_, arena_, *before, change.before));
        if (now != nullptr) LDM_TRY(json_text(scope_, arena_, *now, change.now));
        LDM_NEED(scope_, out_.push(change));
        return Status();
    }

private:
    Status member_of(std::string_view name, std::string_view key, const json::Value* before, const json::Value* now) {
        std::string_view below;
        LDM_TRY(Words(scope_.memory).add(name, ".", key).keep(scope_, arena_, below));
        return compare(below, before->find(key), now->find(key));
    }

    Scope& scope_;
    Arena& arena_;
    Array<Change>& out_;
};

}  // namespace

Status proven_contract(Scope& scope, Arena& arena, const Contract& contract, ProvenContract& out) {
    json::Reader reader{scope, arena};
    auto* facts = arena.make<json::Value>();
    LDM_NEED(scope, facts != nullptr);
    LDM_TRY(json::plain(reader, contract, *facts));
    json::Member *groups = nullptr, *axes = nullptr;
    LDM_TRY(own_members(scope, arena, *facts, groups));
    for (std::size_t index = 0; index < facts->members.size; ++index) {
        json::Value& group = groups[index].value;
        if (groups[index].key != "axes") continue;
        LDM_TRY(own_members(scope, arena, group, axes));
        for (std::size_t axis = 0; axis < group.members.size; ++axis)
            LDM_TRY(without(scope, arena, "proven", axes[axis].value));
    }
    Digest hash;
    LDM_TRY(digest(scope, *facts, hash));
    Digest::Hex hex = hash.hex();
    LDM_TRY(Words(scope.memory).add(hex.view()).keep(scope, arena, out.sha256));
    out.facts = facts;
    return Status();
}

Status digest(Scope& scope, const json::Value& facts, Digest& out) {
    Array<char> text(scope.memory);
    LDM_NEED(scope, json::write(facts, json::canonical_style, scope.memory, text));
    Sha256 hash;
    hash.update({text.data(), text.size()});
    out = hash.finish();
    return Status();
}

Status list_changes(Scope& scope, Arena& arena, const ProvenContract& proven, const ProvenContract& current,
                    Array<Change>& out) {
    return Changes(scope, arena, out).compare("contract", proven.facts, current.facts);
}

}  // namespace ldm::verify
