// Rules of a manifest beyond its types: safe paths, sane sizes, parts that agree. Each check tells the first rule that
// is broken; `where` is the place of what it is given.
#ifndef LDM_CORE_PACKAGE_RULES_H
#define LDM_CORE_PACKAGE_RULES_H

#include "core/json/where.h"
#include "core/package/manifest.h"
#include "core/status.h"

namespace ldm {

Status check_manifest(Scope& scope, const Manifest& manifest, const json::Where& where);

// Sizes are sane, and components, roles, latents and prompts agree.
Status check_contract(Scope& scope, const Contract& contract, const json::Where& where);

// Its axes; the names and dimensions of its tensors.
Status check_axes(Scope& scope, const Contract& contract, const json::Where& where);
Status check_tensors(Scope& scope, const Contract& contract, const json::Where& where);

// The roles of a contract: one for each component, one meaning for each input, for each tensor what its role requires.
Status check_roles(Scope& scope, const Contract& contract, const json::Where& where);

// The artefacts of a component, and its key map.
Status check_component(Scope& scope, std::string_view name, const Component& component, const Manifest& manifest,
                       const json::Where& where);

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
