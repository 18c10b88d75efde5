// Rules of a manifest beyond its types: safe paths, sane sizes, parts that agree. Each check tells the first rule that
// is broken; `where` is the place of what it is given.
#ifndef LDM_CORE_PACKAGE_RULES_H
#define LDM_CORE_PACKAGE_RULES_H

#include <optional>
#include <string_view>

#include "core/json/where.h"
#include "core/package/manifest.h"
#include "core/status.h"

namespace ldm {

inline constexpr std::int64_t max_guidance = 1000;

Status check_manifest(Scope& scope, const Manifest& manifest, const json::Where& where);

// Sizes are sane, and components, roles, latents and prompts agree.
Status check_contract(Scope& scope, const Contract& contract, const json::Where& where);

// Its axes; the names and dimensions of its tensors.
Status check_axes(Scope& scope, const Contract& contract, const json::Where& where);
Status check_tensors(Scope& scope, const Contract& contract, const json::Where& where);

// The names and dimensions of a graph's inputs and outputs.
Status check_signature(Scope& scope, const Contract& contract, const ComponentContract& component,
                       const json::Where& where);

// Steps and a sampler, at their places below `where`; of those that are not given the defaults count.
Status check_plan(Scope& scope, const Contract& contract, std::optional<std::int64_t> steps,
                  std::optional<std::string_view> sampler, const json::Where& where);

// The roles of a contract: one for each component, one meaning for each input, for each tensor what its role requires.
Status check_roles(Scope& scope, const Contract& contract, const json::Where& where);

// The artefacts of a component, and its key map.
Status check_component(Scope& scope, std::string_view name, const Component& component, const Manifest& manifest,
                       const json::Where& where);

// The inputs and outputs of an artefact that has others than the component's.
Status check_interface(Scope& scope, const ComponentContract& interface, const Contract& contract,
                       const json::Where& where);
// Require that an artefact runs as the component. kept: that whose outputs it may read, too, or null.
Status require_fit(Scope& scope, const Artefact& artefact, const ComponentContract& promised, const Artefact* kept,
                   const json::Where& where);
bool are_same(const TensorSpec& one, const TensorSpec& other);

// The variants, and that no artefact is drawn with unsaid whose error only a variant could have.
Status check_variants(Scope& scope, const Manifest& manifest, const json::Where& where);

// Exactly the expected names, in any order; manifest.role.
Status check_same_names(Scope& scope, View<std::string_view> got, View<std::string_view> expected,
                        const json::Where& where);

// The keys of a map.
template <typename T>
Status names_of(Scope& scope, const json::Map<T>& map, Array<std::string_view>& out) {
    for (const auto& [name, value] : map) LDM_NEED(scope, out.push(name));
    return Status();
}

}  // namespace ldm

#endif
