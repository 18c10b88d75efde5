// Rules of a contract's axes, and of the names and dimensions of its tensors.
#include <algorithm>

#include "core/codes.h"
#include "core/package/rules.h"
#include "core/package/values.h"

namespace ldm {

namespace {

Status check_multiple(Scope& scope, const Contract& contract, const Axis& axis, const Multiple& multiple,
                      const json::Where& where) {
    const Axis* source = contract.axes.find(multiple.axis);
    if (source == nullptr || source->multiple_of.has_value()) {
        return json::fail(scope, where, codes::manifest_axis,
                          {"names the axis ", quoted(multiple.axis),
                           "; expected one of axes that is not a multiple itself"});
    }
    LDM_TRY(check_between(scope, multiple.factor, 1, max_factor, {where, "factor"}));
    if (is_product(axis.min, source->min, multiple.factor) && is_product(axis.max, source->max, multiple.factor)) {
        return Status();
    }
    return json::fail(scope, where, codes::manifest_axis,
                      {"has ", axis.min, " to ", axis.max, "; expected ", multiple.factor, " times ", source->min,
                       " to ", source->max});
}

Status check_dims(Scope& scope, const Contract& contract, const TensorSpec& spec, const json::Where& where,
                  Array<std::string_view>& names) {
    names.shrink(0);
    for (const Dim& dim : spec.dims) {
        if (!dim.is_named) {
            LDM_TRY(check_between(scope, dim.size, 1, max_axis, where));
        } else if (contract.axes.find(dim.axis) == nullptr) {
            return json::fail(scope, where, codes::manifest_axis,
                              {"names the axis ", quoted(dim.axis), ", which axes does not have"});
        } else {
            LDM_NEED(scope, names.push(dim.axis));
        }
    }
    std::sort(names.begin(), names.end());
    const std::string_view* twice = std::adjacent_find(names.begin(), names.end());
    if (twice == names.end()) return Status();
    return json::fail(scope, where, codes::manifest_axis, {"names an axis twice: ", quoted(*twice)});
}

Status check_names(Scope& scope, const Contract& contract, const Tensors& tensors, const json::Where& where) {
    for (std::size_t index = 1; index < tensors.sorted.size; ++index) {
        if (tensors.all[tensors.sorted[index]].name == tensors.all[tensors.sorted[index - 1]].name) {
            return json::fail(scope, where, codes::manifest_tensor, {"names a tensor twice"});
        }
    }
    Array<std::string_view> names(scope.memory);
    for (const TensorSpec& spec : tensors) {
        json::Where here(where, json::Key{spec.name});
        LDM_TRY(check_name(scope, spec.name, where));
        LDM_TRY(check_dims(scope, contract, spec, {here, "dims"}, names));
    }
    return Status();
}

}  // namespace

Status check_axes(Scope& scope, const Contract& contract, const json::Where& where) {
    json::Where axes(where, "axes");
    for (const auto& [name, axis] : contract.axes) {
        json::Where here(axes, json::Key{name});
        LDM_TRY(check_name(scope, name, axes));
        LDM_TRY(check_between(scope, axis.min, 1, max_axis, {here, "min"}));
        LDM_TRY(check_between(scope, axis.max, axis.min, max_axis, {here, "max"}));
        for (std::int64_t size : axis.proven) {
            LDM_TRY(check_between(scope, size, axis.min, axis.max, {here, "proven"}));
        }
        if (axis.multiple_of.has_value())
            LDM_TRY(check_multiple(scope, contract, axis, *axis.multiple_of, {here, "multiple_of"}));
    }
    return Status();
}

Status check_tensors(Scope& scope, const Contract& contract, const json::Where& where) {
    json::Where components(where, "components");
    for (const auto& [name, component] : contract.components) {
        LDM_TRY(check_name(scope, name, components));
        LDM_TRY(check_signature(scope, contract, component, {components, json::Key{name}}));
    }
    return Status();
}

Status check_signature(Scope& scope, const Contract& contract, const ComponentContract& component,
                       const json::Where& where) {
    LDM_TRY(check_names(scope, contract, component.inputs, {where, "inputs"}));
    LDM_TRY(check_names(scope, contract, component.outputs, {where, "outputs"}));
    for (std::uint32_t place : component.outputs.sorted) {
        std::string_view name = component.outputs.all[place].name;
        if (component.inputs.find(name) == nullptr) continue;
        return json::fail(scope, where, codes::manifest_tensor, {"has an input and an output named ", quoted(name)});
    }
    return Status();
}

}  // namespace ldm
