// Rules of variants: names that are there, something that is given up for the time, and figures that can be.
#include <algorithm>

#include "core/codes.h"
#include "core/package/rules.h"
#include "core/package/values.h"

namespace ldm {

namespace {

constexpr std::size_t max_variants = 64;  // each is looked at for each artefact
constexpr std::int64_t max_interval = 100;
constexpr std::int64_t max_prompts = std::int64_t{1} << 16;
constexpr std::int64_t max_seed = std::int64_t{1} << 62;       // what is larger is no number that every program reads
constexpr std::int64_t max_evaluations = std::int64_t{1} << 16;  // of a run that was measured
constexpr std::int64_t max_psnr = 200;
constexpr std::int64_t max_time = 1000000000;  // of a run, in that of the exact one

// Checks one variant of a manifest.
class VariantRules {
public:
    VariantRules(Scope& scope, const Variant& variant, const Manifest& manifest, const json::Where& where)
        : scope_(scope), variant_(variant), manifest_(manifest), where_(where) {}

    Status check();

private:
    Status check_ways(bool& is_lossy);
    Status check_way(std::string_view component, const Way& way, const json::Where& where, bool& is_lossy);
    Status check_run();
    Status check_caching(const Caching& caching, const json::Where& where);
    Status check_error();
    Status check_components(const json::Where& where);
    Status check_images(const json::Where& where);
    Status check_measured(const json::Where& where);
    Status find(std::string_view component, std::string_view name, const json::Where& where, const Artefact*& out);
    bool gives_up() const;

    const MeasuredError& error() const { return variant_.error; }
    std::string_view denoiser() const { return manifest_.contract.denoiser.component; }
    const ComponentContract& promised(std::string_view component) const {
        return *manifest_.contract.components.find(component);
    }
    Status refuse(const json::Where& where, std::initializer_list<Piece> what) {
        return json::fail(scope_, where, codes::manifest_variant, what);
    }

    Scope& scope_;
    const Variant& variant_;
    const Manifest& manifest_;
    const json::Where& where_;
};

Status VariantRules::check() {
    json::Where methods(where_, "methods");
    if (variant_.methods.empty()) return refuse(methods, {"is empty"});
    LDM_TRY(check_short_names(scope_, variant_.methods, "int8", methods, codes::manifest_variant));
    bool is_lossy = false;
    LDM_TRY(check_ways(is_lossy));
    LDM_TRY(check_run());
    if (!is_lossy && !gives_up()) {
        return refuse(where_, {"is exact; expected a lossy way, caching, guidance_until below 1, steps or a sampler"});
    }
    LDM_TRY(check_error());
    if (!(variant_.time > 0.0 && variant_.time <= static_cast<double>(max_time))) {
        return json::fail(scope_, {where_, "time"}, codes::manifest_range,
                          {"is ", exactly(variant_.time), "; expected more than 0 and at most ", max_time});
    }
    return check_between(scope_, variant_.bytes, 0, max_bytes, {where_, "bytes"});
}

bool VariantRules::gives_up() const {
    const VariantRun& run = variant_.run;
    return run.caching.has_value() || run.steps.has_value() || run.sampler.has_value() || run.guidance_until < 1.0;
}

Status VariantRules::check_ways(bool& is_lossy) {
    json::Where ways(where_, "ways");
    for (const auto& [component, way] : variant_.ways) {
        bool is_one_lossy = false;
        LDM_TRY(check_way(component, way, {ways, json::Key{component}}, is_one_lossy));
        is_lossy = is_lossy || is_one_lossy;
    }
    return Status();
}

Status VariantRules::check_way(std::string_view component, const Way& way, const json::Where& where, bool& is_lossy) {
    if (manifest_.components.find(component) == nullptr) {
        return refuse(where, {"is for no component of the package"});
    }
    if (!is_engine_name(way.engine)) {
        return refuse({where, "engine"},
                      {"is ", quoted(way.engine), "; expected an engine such as 'openvino' or 'ort:cuda'"});
    }
    LDM_TRY(check_short_names(scope_, way.units, "avx512_bf16", {where, "units"}, codes::manifest_variant));
    json::Where place(where, "artefact");
    const Artefact* artefact = nullptr;
    LDM_TRY(find(component, way.artefact, place, artefact));
    const std::optional<Caching>& caching = variant_.run.caching;
    if (caching.has_value() && component == denoiser() && way.artefact != caching->keeps) {
        return refuse(place, {"is ", quoted(way.artefact), "; expected ", quoted(caching->keeps),
                              ", which caching keeps"});
    }
    LDM_TRY(require_fit(scope_, *artefact, promised(component), nullptr, place));
    if (is_integer(way.precision) && way.precision != artefact->precision) {
        return refuse({where, "precision"}, {"is ", name_of(way.precision), "; expected ", name_of(artefact->precision),
                                             " as the artefact's, or a precision of floating point"});
    }
    is_lossy = artefact->exactness == Exactness::lossy || way.precision != artefact->precision;
    return Status();
}

Status VariantRules::find(std::string_view component, std::string_view name, const json::Where& where,
                          const Artefact*& out) {
    out = manifest_.components.find(component)->find(name);
    if (out != nullptr) return Status();
    return refuse(where, {"is ", quoted(name), ", which ", component, " does not have"});
}

Status VariantRules::check_run() {
    const VariantRun& run = variant_.run;
    json::Where here(where_, "run");
    if (run.caching.has_value()) LDM_TRY(check_caching(*run.caching, {here, "caching"}));
    LDM_TRY(check_span(scope_, run.guidance_until, 0, 1, {here, "guidance_until"}));
    return check_plan(scope_, manifest_.contract, run.steps, run.sampler, here);
}

Status VariantRules::check_caching(const Caching& caching, const json::Where& where) {
    json::Where keeps_place(where, "keeps"), reads_place(where, "reads");
    const Artefact *keeps = nullptr, *reads = nullptr;
    const ComponentContract& own = promised(denoiser());
    LDM_TRY(check_between(scope_, caching.interval, 2, max_interval, {where, "interval"}));
    LDM_TRY(find(denoiser(), caching.keeps, keeps_place, keeps));
    LDM_TRY(find(denoiser(), caching.reads, reads_place, reads));
    LDM_TRY(require_fit(scope_, *keeps, own, nullptr, keeps_place));
    LDM_TRY(require_fit(scope_, *reads, own, keeps, reads_place));
    if (keeps->interface_.has_value() && reads->interface_.has_value()) {
        for (const TensorSpec& spec : keeps->interface_->outputs) {
            const TensorSpec* promised_output = own.outputs.find(spec.name);
            if (promised_output != nullptr && are_same(*promised_output, spec)) continue;
            const TensorSpec* read = reads->interface_->inputs.find(spec.name);
            if (read != nullptr && are_same(*read, spec)) return Status();
        }
    }
    return refuse(reads_place, {"is ", quoted(reads->name), ", which reads nothing that ", quoted(keeps->name),
                                " keeps"});
}

Status VariantRules::check_error() {
    json::Where here(where_, "error");
    LDM_TRY(check_components(here));
    LDM_TRY(check_images(here));
    return check_measured(here);
}

Status VariantRules::check_components(const json::Where& where) {
    json::Where components(where, "components");
    for (const auto& [component, difference] : error().components) {
        if (manifest_.components.find(component) != nullptr) continue;
        return refuse({components, json::Key{component}}, {"is for no component of the package"});
    }
    for (const auto& [component, difference] : error().components) {
        json::Where here(components, json::Key{component});
        LDM_TRY(check_amount(scope_, difference.relative_rms, {here, "relative_rms"}));
        LDM_TRY(check_amount(scope_, difference.max_abs, {here, "max_abs"}));
    }
    for (const auto& [component, way] : variant_.ways) {
        if (error().components.find(component) != nullptr) continue;
        return refuse(components, {"lacks ", quoted(component), ", which has a way of its own"});
    }
    return Status();
}

Status VariantRules::check_images(const json::Where& where) {
    json::Where latents(where, "latents");
    if (error().latents.empty()) return refuse(latents, {"is empty"});
    for (double value : error().latents) LDM_TRY(check_amount(scope_, value, latents));
    if (error().psnr.has_value()) LDM_TRY(check_span(scope_, *error().psnr, 0, max_psnr, {where, "psnr"}));
    return check_span(scope_, error().ssim, -1, 1, {where, "ssim"});
}

// What the variant was measured with.
Status VariantRules::check_measured(const json::Where& where) {
    json::Where prompts(where, "prompts"), seeds(where, "seeds"), size(where, "size"), versions(where, "versions");
    LDM_TRY(check_digest(scope_, error().prompts.sha256, {prompts, "sha256"}));
    LDM_TRY(check_between(scope_, error().prompts.count, 1, max_prompts, {prompts, "count"}));
    LDM_TRY(check_between(scope_, error().worst, 0, error().prompts.count - 1, {where, "worst"}));
    LDM_TRY(check_between(scope_, error().seeds.first, 0, max_seed, {seeds, std::size_t{0}}));
    LDM_TRY(check_between(scope_, error().seeds.second, error().seeds.first, max_seed, {seeds, std::size_t{1}}));
    LDM_TRY(check_between(scope_, error().steps, 1, max_evaluations, {where, "steps"}));
    LDM_TRY(check_name(scope_, error().sampler, {where, "sampler"}));
    LDM_TRY(check_span(scope_, error().guidance, 0, max_guidance, {where, "guidance"}));
    LDM_TRY(check_between(scope_, error().size.first, 1, max_side, {size, std::size_t{0}}));
    LDM_TRY(check_between(scope_, error().size.second, 1, max_side, {size, std::size_t{1}}));
    LDM_TRY(check_short_names(scope_, error().units, "avx512_vnni", {where, "units"}, codes::manifest_variant));
    for (const auto& [tool, version] : error().versions) {
        LDM_TRY(check_name(scope_, tool, versions));
        LDM_TRY(check_name(scope_, version, {versions, json::Key{tool}}));
    }
    return Status();
}

// Their names are usable, and each is there once.
Status check_variant_names(Scope& scope, View<Variant> all, const json::Where& where) {
    Array<std::string_view> names(scope.memory);
    if (all.size > max_variants) {
        return json::fail(scope, where, codes::manifest_variant,
                          {"has ", all.size, " variants; expected ", max_variants, " at most"});
    }
    for (const Variant& variant : all) {
        json::Where here(where, json::Key{variant.name});
        LDM_TRY(check_label(scope, variant.name, {here, "name"}, codes::manifest_variant));
        LDM_NEED(scope, names.push(variant.name));
    }
    std::sort(names.begin(), names.end());
    if (std::adjacent_find(names.begin(), names.end()) == names.end()) return Status();
    Status status = json::fail(scope, where, codes::manifest_variant, {"has the names "});
    add_names(scope.failure, names.view());
    scope.failure.add({"; expected each once"});
    return status;
}

// Nothing is drawn with unsaid whose error only a variant could have.
Status check_unnamed(Scope& scope, const Manifest& manifest, const json::Where& where) {
    json::Where components(where, "components");
    for (const auto& [name, component] : manifest.components) {
        json::Where here(components, json::Key{name}), artefacts(here, "artefacts");
        for (const Artefact& artefact : component.artefacts) {
            if (!artefact.needs_variant() || !is_pickable(manifest, name, artefact)) continue;
            bool has_integers = is_integer(artefact.precision);
            return json::fail(scope, {artefacts, json::Key{artefact.name}}, codes::manifest_variant,
                              {has_integers ? "is in " : "has merged tokens",
                               has_integers ? name_of(artefact.precision) : std::string_view(),
                               ", but no variant names it; expected one with its error"});
        }
    }
    return Status();
}

}  // namespace

Status check_variants(Scope& scope, const Manifest& manifest, const json::Where& where) {
    json::Where variants(where, "variants");
    LDM_TRY(check_variant_names(scope, manifest.variants, variants));
    for (const Variant& variant : manifest.variants) {
        json::Where here(variants, json::Key{variant.name});
        LDM_TRY(VariantRules(scope, variant, manifest, here).check());
    }
    return check_unnamed(scope, manifest, where);
}

}  // namespace ldm
