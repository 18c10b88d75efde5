// Rules of artefacts whose inputs and outputs are not the component's.
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

bool makes(const Artefact* artefact, const TensorSpec& spec) {
    return artefact != nullptr && artefact->interface_.has_value() && has(artefact->interface_->outputs, spec);
}

}  // namespace

bool are_same(const TensorSpec& one, const TensorSpec& other) {
    return one.name == other.name && one.dtype == other.dtype &&
           std::equal(one.dims.begin(), one.dims.end(), other.dims.begin(), other.dims.end());
}

Status check_interface(Scope& scope, const ComponentContract& interface, const Contract& contract,
                       const json::Where& where) {
    LDM_TRY(check_signature(scope, contract, interface, where));
    LDM_TRY(check_dtypes(scope, interface.inputs, {where, "inputs"}));
    return check_dtypes(scope, interface.outputs, {where, "outputs"});
}

Status require_fit(Scope& scope, const Artefact& artefact, const ComponentContract& promised, const Artefact* kept,
                   const json::Where& where) {
    if (!artefact.interface_.has_value()) return Status();
    for (const TensorSpec& spec : artefact.interface_->inputs) {
        if (has(promised.inputs, spec) || makes(kept, spec)) continue;
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
