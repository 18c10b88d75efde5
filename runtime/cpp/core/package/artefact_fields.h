// The fields of a component's structs, in the order in which they are read.
#ifndef LDM_CORE_PACKAGE_ARTEFACT_FIELDS_H
#define LDM_CORE_PACKAGE_ARTEFACT_FIELDS_H

#include "core/package/artefacts.h"
#include "core/package/contract_fields.h"

namespace ldm {

inline constexpr std::string_view precisions[] = {"fp32", "fp16", "bf16", "int8", "int4"};
inline constexpr std::string_view flavours[] = {"rtx", "classic"};
inline constexpr std::string_view plan_options[] = {"refit", "weight_stripped"};
inline constexpr std::string_view exactnesses[] = {"exact", "lossy"};

constexpr json::Choices choices(Precision) { return precisions; }
constexpr json::Choices choices(Flavour) { return flavours; }
constexpr json::Choices choices(PlanOption) { return plan_options; }
constexpr json::Choices choices(Exactness) { return exactnesses; }

template <typename Visitor>
void fields(Visitor& visit, Difference& it) {
    visit("relative_rms", it.relative_rms);
    visit("max_abs", it.max_abs);
}

template <typename Visitor>
void fields(Visitor& visit, Range& it) {
    visit("min", it.min);
    visit("opt", it.opt);
    visit("max", it.max);
}

template <typename Visitor>
void fields(Visitor& visit, PlanRequirements& it) {
    visit("flavour", it.flavour);
    visit("version", it.version);
    visit("compute_capabilities", it.compute_capabilities);
    visit("options", it.options);
    visit("graph", it.graph);
    visit("weights", it.weights);
    visit("profiles", it.profiles);
    visit("activation_bytes", it.activation_bytes);
    visit("weight_bytes", it.weight_bytes);
}

template <typename Visitor>
void fields(Visitor& visit, Artefact& it) {
    visit("name", it.name);
    visit("format", it.format);
    visit("files", it.files);
    visit("engine", it.engine);
    visit("precision", it.precision);
    visit("exactness", it.exactness);
    visit("difference", it.difference);
    visit("requires", it.requires_);
    visit.optional("interface", it.interface_);
    visit.optional("kept", it.kept);
    visit.optional("rescaled", it.rescaled);
    visit.optional("merged", it.merged);
}

template <typename Visitor>
void fields(Visitor& visit, KeyEntry& it) {
    visit("initialiser", it.initialiser);
    visit("transpose", it.transpose);
    visit("dtype", it.dtype);
}

template <typename Visitor>
void fields(Visitor& visit, Component& it) {
    visit("weights", it.weights);
    visit("artefacts", it.artefacts);
    visit("keys", it.keys);
}

}  // namespace ldm

#endif
