// Every component of a contract has one role, every input of it one meaning, and every tensor what its role requires.
#include <algorithm>

#include "core/codes.h"
#include "core/package/ports.h"
#include "core/package/rules.h"
#include "core/package/values.h"

namespace ldm {

namespace {

// What is known of the components while their ports are visited.
class Ports {
public:
    Ports(Scope& scope, const Contract& contract, const json::Where& where)
        : scope_(scope), contract_(contract), where_(where), first_(scope.memory), fed_(scope.memory),
          batches_(scope.memory) {}

    Status start() {
        std::size_t inputs = 0;
        for (const auto& [name, component] : contract_.components) {
            LDM_NEED(scope_, first_.push(inputs) && batches_.push(nullptr));
            inputs += component.inputs.all.size;
        }
        LDM_NEED(scope_, fed_.resize(inputs));
        return Status();
    }

    Status visit(const Role& role, std::string_view component, std::string_view tensor) {
        json::Where here(where_, json::Key{component});
        std::size_t place = contract_.components.place_of(component);
        const ComponentContract& owner = contract_.components.entries[place].value;
        const TensorSpec* spec = nullptr;
        LDM_TRY(check_port(role, owner, tensor, here, spec));
        LDM_TRY(check_batch(*spec, batches_[place], {here, json::Key{tensor}}));
        if (role.is_output) return Status();
        bool& is_fed = fed_[first_[place] + owner.inputs.place_of(tensor)];
        if (is_fed) {
            return json::fail(scope_, here, codes::manifest_role, {"has two meanings for the input ", quoted(tensor)});
        }
        is_fed = true;
        return Status();
    }

    Status require_all_fed() const {
        for (std::size_t place = 0; place < contract_.components.size(); ++place) {
            const auto& [name, component] = contract_.components.entries[place];
            for (std::size_t index = 0; index < component.inputs.all.size; ++index) {
                if (fed_[first_[place] + index]) continue;
                json::Where here(where_, json::Key{name});
                return json::fail(scope_, here, codes::manifest_role,
                                  {"has the input ", quoted(component.inputs.all[index].name), ", which has no role"});
            }
        }
        return Status();
    }

private:
    Status check_port(const Role& role, const ComponentContract& owner, std::string_view tensor,
                      const json::Where& here, const TensorSpec*& out) {
        out = (role.is_output ? owner.outputs : owner.inputs).find(tensor);
        if (out == nullptr) {
            return json::fail(scope_, here, codes::manifest_role, {"has no ", role.is_output ? "output " : "input ",
                                                                   quoted(tensor), ", which is its ", role.name});
        }
        json::Where place(here, json::Key{tensor});
        bool fits = role.is_integer ? out->dtype == "int64" || out->dtype == "int32" : out->dtype == "float32";
        if (!fits) {
            return json::fail(scope_, place, codes::manifest_tensor,
                              {"has the dtype ", quoted(out->dtype), "; expected ",
                               role.is_integer ? "int64 or int32" : "float32"});
        }
        if (out->dims.size != role.rank) {
            return json::fail(scope_, place, codes::manifest_tensor,
                              {"has ", out->dims.size, " dimensions; expected ", role.rank});
        }
        return Status();
    }

    // All tensors of a component begin with the same dimension, but for those without any.
    Status check_batch(const TensorSpec& spec, const Dim*& batch, const json::Where& where) {
        if (spec.dims.empty()) return Status();
        if (batch == nullptr) batch = &spec.dims[0];
        if (spec.dims[0] == *batch) return Status();
        return json::fail(scope_, where, codes::manifest_tensor,
                          {"begins with ", shown(spec.dims[0]), "; expected ", shown(*batch), ", the batch"});
    }

    Scope& scope_;
    const Contract& contract_;
    const json::Where& where_;
    Array<std::size_t> first_;     // of each component: its first input in `fed_`
    Array<bool> fed_;              // of each input: whether it has a meaning
    Array<const Dim*> batches_;    // of each component; null: not seen yet
};

Status check_owners(Scope& scope, const Contract& contract, const json::Where& where) {
    json::Where components(where, "components");
    Array<std::string_view> owners(scope.memory), names(scope.memory);
    for (const TextRole& text : contract.text) LDM_NEED(scope, owners.push(text.component));
    LDM_NEED(scope, owners.push(contract.denoiser.component));
    LDM_NEED(scope, owners.push(contract.codec.encoder.component) && owners.push(contract.codec.decoder.component));
    LDM_TRY(names_of(scope, contract.components, names));
    LDM_TRY(check_same_names(scope, names.view(), owners.view(), components));
    std::sort(owners.begin(), owners.end());
    bool is_twice = std::adjacent_find(owners.begin(), owners.end()) != owners.end();
    if (!is_twice && !std::binary_search(owners.begin(), owners.end(), contract.codec.name)) return Status();
    return json::fail(scope, where, codes::manifest_role, {"gives a component two roles"});
}

}  // namespace

Status check_roles(Scope& scope, const Contract& contract, const json::Where& where) {
    json::Where components(where, "components"), codec(where, "codec");
    if (contract.text.empty()) {
        return json::fail(scope, {where, "text"}, codes::manifest_role, {"is empty; expected a text encoder"});
    }
    LDM_TRY(check_name(scope, contract.codec.name, {codec, "name"}));
    LDM_TRY(check_owners(scope, contract, where));
    Ports ports(scope, contract, components);
    LDM_TRY(ports.start());
    LDM_TRY(for_each_port(contract, [&](const Role& role, std::string_view component, std::string_view tensor) {
        return ports.visit(role, component, tensor);
    }));
    return ports.require_all_fed();
}

}  // namespace ldm
