// Rules of artefacts whose inputs and outputs are not the component's: tensors, and parts that were cut off.
#include <algorithm>

#include "core/codes.h"
#include "core/package/rules.h"
#include "core/package/values.h"

namespace ldm {

namespace {

constexpr std::string_view allowed_dtypes[] = {"float32", "float16", "int64", "int32"};

bool has(const Tensors& tensors, const TensorSpec& spec) {
    const TensorSpec* found = tensors.find(spec.name);
    return found != nullptr && are_same(*found, spec);
}

Status check_dtypes(Scope& scope, const Tensors& tensors, const json::Where& where) {
    for (const TensorSpec& spec : tensors) {
        auto end = std::end(allowed_dtypes);
        if (std::find(std::begin(allowed_dtypes), end, spec.dtype) != end) continue;
        return json::fail(scope, {where, json::Key{spec.name}}, codes::manifest_tensor,
                          {"has the dtype ", quoted(spec.dtype), "; expected float32, float16, int64, int32"});
    }
    return Status();
}

// Checks the parts of one artefact.
class Hoists {
public:
    Hoists(Scope& scope, const Artefact& artefact, const Parts& parts, const ComponentContract& promised,
           const json::Where& where)
        : scope_(scope), artefact_(artefact), parts_(parts), promised_(promised), where_(where), made_(scope.memory) {}

    Status check() {
        for (std::size_t index = 0; index < artefact_.hoists.size; ++index) {
            json::Where here(where_, index);
            const ComponentContract* part = nullptr;
            LDM_TRY(check_part(artefact_.hoists[index], here, part));
            LDM_TRY(check_outputs(part->outputs, here));
        }
        std::sort(made_.begin(), made_.end());
        const std::string_view* twice = std::adjacent_find(made_.begin(), made_.end());
        if (twice == made_.end()) return Status();
        return refuse(where_, {"makes ", quoted(*twice), " twice; expected each once"});
    }

private:
    // The interface of a part, whose inputs are among those that the hoist names.
    Status check_part(const Hoist& hoist, const json::Where& where, const ComponentContract*& out) {
        json::Where inputs(where, "inputs");
        if (hoist.inputs.empty()) return refuse(inputs, {"is empty"});
        for (std::string_view name : hoist.inputs) {
            if (promised_.inputs.find(name) != nullptr) continue;
            return refuse(inputs, {"has ", quoted(name), ", which is no input of the component"});
        }
        const Artefact* part = parts_.find(hoist.artefact);
        if (part == nullptr || !part->interface_.has_value() || !part->hoists.empty()) {
            return refuse({where, "artefact"}, {"is ", quoted(hoist.artefact),
                                                "; expected an artefact with an interface and no parts"});
        }
        Array<std::string_view> named(scope_.memory);
        LDM_NEED(scope_, named.append(hoist.inputs));
        std::sort(named.begin(), named.end());
        for (const TensorSpec& spec : part->interface_->inputs) {
            if (std::binary_search(named.begin(), named.end(), spec.name)) continue;
            return refuse(inputs, {"lacks ", quoted(spec.name), ", which ", part->name, " reads"});
        }
        out = &*part->interface_;
        return Status();
    }

    Status check_outputs(const Tensors& outputs, const json::Where& where) {
        for (const TensorSpec& spec : outputs) {
            if (!has(artefact_.interface_->inputs, spec)) {
                return refuse(where, {"makes ", quoted(spec.name), ", which is no such input of the interface"});
            }
            LDM_NEED(scope_, made_.push(spec.name));
        }
        return Status();
    }

    Status refuse(const json::Where& where, std::initializer_list<Piece> what) {
        return json::fail(scope_, where, codes::manifest_artefact, what);
    }

    Scope& scope_;
    const Artefact& artefact_;
    const Parts& parts_;
    const ComponentContract& promised_;
    const json::Where& where_;
    Array<std::string_view> made_;
};

bool is_fed(const TensorSpec& spec, const Artefact& artefact, const Parts& parts, const Artefact* kept) {
    if (kept != nullptr && kept->interface_.has_value() && has(kept->interface_->outputs, spec)) return true;
    return std::any_of(artefact.hoists.begin(), artefact.hoists.end(), [&](const Hoist& hoist) {
        return has(parts.find(hoist.artefact)->interface_->outputs, spec);
    });
}

}  // namespace

bool are_same(const TensorSpec& one, const TensorSpec& other) {
    return one.name == other.name && one.dtype == other.dtype &&
           std::equal(one.dims.begin(), one.dims.end(), other.dims.begin(), other.dims.end());
}

Status Parts::take(const Component& component) {
    for (const Artefact& artefact : component.artefacts) LDM_NEED(scope_, sorted_.push(&artefact));
    std::sort(sorted_.begin(), sorted_.end(),
              [](const Artefact* one, const Artefact* other) { return one->name < other->name; });
    return Status();
}

const Artefact* Parts::find(std::string_view name) const {
    auto below = [](const Artefact* artefact, std::string_view wanted) { return artefact->name < wanted; };
    const Artefact* const* found = std::lower_bound(sorted_.begin(), sorted_.end(), name, below);
    return found != sorted_.end() && (*found)->name == name ? *found : nullptr;
}

Status check_interface(Scope& scope, const Artefact& artefact, const Parts& parts, const ComponentContract& promised,
                       const Contract& contract, const json::Where& where) {
    json::Where interface_place(where, "interface"), hoists(where, "hoists");
    if (!artefact.interface_.has_value()) {
        if (artefact.hoists.empty()) return Status();
        return json::fail(scope, hoists, codes::manifest_artefact,
                          {"has parts of a graph without an interface; expected one"});
    }
    LDM_TRY(check_signature(scope, contract, *artefact.interface_, interface_place));
    LDM_TRY(check_dtypes(scope, artefact.interface_->inputs, {interface_place, "inputs"}));
    LDM_TRY(check_dtypes(scope, artefact.interface_->outputs, {interface_place, "outputs"}));
    return Hoists(scope, artefact, parts, promised, hoists).check();
}

Status require_fit(Scope& scope, const Artefact& artefact, const Parts& parts, const ComponentContract& promised,
                   const Artefact* kept, const json::Where& where) {
    if (!artefact.interface_.has_value()) return Status();
    for (const TensorSpec& spec : artefact.interface_->inputs) {
        if (has(promised.inputs, spec) || is_fed(spec, artefact, parts, kept)) continue;
        return json::fail(scope, where, codes::manifest_variant,
                          {"is ", quoted(artefact.name), ", which reads ", quoted(spec.name),
                           ", which nothing makes"});
    }
    for (const TensorSpec& spec : promised.outputs) {
        if (has(artefact.interface_->outputs, spec)) continue;
        return json::fail(scope, where, codes::manifest_variant,
                          {"is ", quoted(artefact.name), ", which does not make ", quoted(spec.name)});
    }
    return Status();
}

}  // namespace ldm
