// What a manifest.json is made of: the fields of each struct, in the order in which they are read.
#include "core/package/manifest.h"

#include <algorithm>

#include "core/codes.h"
#include "core/package/artefact_fields.h"
#include "core/package/contract_fields.h"
#include "core/package/rules.h"
#include "core/package/variant_fields.h"

namespace ldm {

std::string_view name_of(Precision value) { return precisions[static_cast<std::size_t>(value)]; }
std::string_view name_of(Flavour value) { return flavours[static_cast<std::size_t>(value)]; }
std::string_view name_of(PlanOption value) { return plan_options[static_cast<std::size_t>(value)]; }
std::string_view name_of(Exactness value) { return exactnesses[static_cast<std::size_t>(value)]; }

Status read(json::Reader& reader, const json::Value& value, const json::Where& where, Dim& out) {
    out = {value.kind == json::Kind::text, value.integer, value.text};
    if (out.is_named || value.kind == json::Kind::integer) return Status();
    return json::refuse(reader.scope, value, where, "an integer or a string");
}

Status read(json::Reader& reader, const json::Value& value, const json::Where& where, Tensors& out) {
    LDM_TRY(json::read(reader, value, where, out.all));
    auto* sorted = reader.arena.make<std::uint32_t>(out.all.size);
    LDM_NEED(reader.scope, sorted != nullptr);
    for (std::size_t place = 0; place < out.all.size; ++place) sorted[place] = static_cast<std::uint32_t>(place);
    View<TensorSpec> all = out.all;
    std::sort(sorted, sorted + all.size, [=](std::uint32_t a, std::uint32_t b) { return all[a].name < all[b].name; });
    out.sorted = {sorted, all.size};
    return Status();
}

Status plain(json::Reader&, const Dim& dim, json::Value& out) {
    out = dim.is_named ? json::value_of(dim.axis) : json::value_of(dim.size);
    return Status();
}

Status plain(json::Reader& reader, const Tensors& tensors, json::Value& out) {
    return json::plain(reader, tensors.all, out);
}

template <typename Visitor>
void fields(Visitor& visit, FileEntry& it) {
    visit("sha256", it.sha256);
    visit("size", it.size);
}

template <typename Visitor>
void fields(Visitor& visit, Source& it) {
    visit("name", it.name);
    visit("sha256", it.sha256);
}

template <typename Visitor>
void fields(Visitor& visit, Provenance& it) {
    visit("family", it.family);
    visit("source", it.source);
    visit("tools", it.tools);
    visit("opset", it.opset);
    visit("ir_version", it.ir_version);
    visit("recipe", it.recipe);
    visit("created_with", it.created_with);
}

template <typename Visitor>
void fields(Visitor& visit, Proof& it) {
    visit("passed", it.passed);
    visit("report", it.report);
    visit("summary", it.summary);
}

template <typename Visitor>
void fields(Visitor& visit, Manifest& it) {
    visit("schema_version", it.schema_version);
    visit("name", it.name);
    visit("contract", it.contract);
    visit("components", it.components);
    visit("files", it.files);
    visit("provenance", it.provenance);
    visit("dropped", it.dropped);
    visit("proof", it.proof);
    visit.optional("variants", it.variants);
}

Status read_manifest(Scope& scope, Arena& arena, std::string_view text, Manifest& out, std::string_view where) {
    out = Manifest();
    auto* value = arena.make<json::Value>();  // what is kept of anything points into it
    LDM_NEED(scope, value != nullptr);
    LDM_TRY(json::parse(scope, arena, text, where, *value));
    const json::Value* version = value->find("schema_version");
    if (version == nullptr || version->kind != json::Kind::integer || version->integer != schema_version) {
        return scope.fail(codes::manifest_version, {where, " has schema_version ",
                                                    version == nullptr ? Piece("null") : json::shown(*version),
                                                    ", but this runtime reads ", schema_version});
    }
    json::Reader reader{scope, arena};
    json::Where place(where, "manifest");
    LDM_TRY(json::read(reader, *value, place, out));
    return check_manifest(scope, out, place);
}

const ComponentContract& promised(const Manifest& manifest, std::string_view component, const Artefact& artefact) {
    return artefact.interface_.has_value() ? *artefact.interface_ : *manifest.contract.components.find(component);
}

}  // namespace ldm
