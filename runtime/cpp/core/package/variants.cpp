// Variants as they are read, and which artefacts are theirs alone.
#include "core/package/variants.h"

#include <algorithm>

#include "core/package/manifest.h"
#include "core/package/variant_fields.h"

namespace ldm {

Status read(json::Reader& reader, const json::Value& value, const json::Where& where, IntegerPair& out) {
    if (value.kind != json::Kind::list) return json::refuse(reader.scope, value, where, "a list");
    if (value.items.size != 2) return json::refuse(reader.scope, value, where, "a list of 2 items");
    LDM_TRY(json::read(reader, value.items[0], json::Where(where, std::size_t{0}), out.first));
    return json::read(reader, value.items[1], json::Where(where, std::size_t{1}), out.second);
}

Status plain(json::Reader& reader, const IntegerPair& pair, json::Value& out) {
    const std::int64_t both[] = {pair.first, pair.second};
    return json::plain(reader, View<std::int64_t>{both, 2}, out);
}

std::optional<Precision> asked_precision(const Way& way, const Artefact& artefact) {
    bool is_its_own = is_integer(way.precision) || way.precision == artefact.precision;
    return is_its_own ? std::nullopt : std::optional<Precision>(way.precision);
}

bool uses(const Variant& variant, std::string_view component, std::string_view denoiser, std::string_view artefact) {
    const Way* way = variant.ways.find(component);
    if (way != nullptr && way->artefact == artefact) return true;
    const std::optional<Caching>& caching = variant.run.caching;
    return component == denoiser && caching.has_value() && (caching->keeps == artefact || caching->reads == artefact);
}

const Variant* find_variant(const Manifest& manifest, std::string_view name) {
    for (const Variant& each : manifest.variants) {
        if (each.name == name) return &each;
    }
    return nullptr;
}

bool is_pickable(const Manifest& manifest, std::string_view component, const Artefact& artefact) {
    if (artefact.interface_.has_value()) return false;
    std::string_view denoiser = manifest.contract.denoiser.component;
    auto is_user = [&](const Variant& variant) { return uses(variant, component, denoiser, artefact.name); };
    View<Variant> variants = manifest.variants;
    return artefact.exactness == Exactness::exact || std::none_of(variants.begin(), variants.end(), is_user);
}

}  // namespace ldm
