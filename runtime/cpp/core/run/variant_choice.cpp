#include "core/run/variant_choice.h"

#include <algorithm>
#include <cmath>

#include "core/codes.h"
#include "core/sampling/sampler.h"
#include "core/text/numbers.h"

namespace ldm {

namespace {

struct UnitName {
    std::string_view unit, shown;
};

// What a reader calls the units, in the order in which they are told.
constexpr UnitName unit_names[] = {
    {"avx2", "AVX2"},
    {"avx512f", "AVX-512"},
    {"avx512_vnni", "AVX512-VNNI"},
    {"avx_vnni", "AVX-VNNI"},
    {"avx512_bf16", "AVX512-BF16"},
    {"avx512_fp16", "AVX512-FP16"},
    {"amx_bf16", "AMX-BF16"},
    {"amx_fp16", "AMX-FP16"},
    {"amx_int8", "AMX-INT8"},
    {"neon_dotprod", "NEON dot products"},
    {"neon_fp16", "NEON-FP16"},
    {"neon_bf16", "NEON-BF16"},
    {"neon_i8mm", "NEON-I8MM"},
};

std::string_view shown_unit(std::string_view unit) {
    for (const UnitName& each : unit_names) {
        if (each.unit == unit) return each.shown;
    }
    return unit;
}

// As short as it reads back: 35, 0.95.
struct Exact {
    numbers::Spelt spelt;

    explicit Exact(double value) : spelt(numbers::shortest(value)) {
        std::string_view text = spelt.view();
        if (text.size() > 2 && text.substr(text.size() - 2) == ".0") spelt.size -= 2;
    }
    operator Piece() const { return spelt.view(); }
};

// A likeness, rounded down: it promises no more than was measured. scale: 100 for two digits behind the point.
Exact down(double value, double scale) { return Exact(std::floor(value * scale) / scale); }

// "AVX2, AVX-512 and AVX512-VNNI"
template <typename Has>
void list_units(Failure& out, Has has, std::string_view last) {
    std::size_t left = 0;
    for (const UnitName& each : unit_names) left += has(each.unit);
    if (left == 0) out.add({"none that is known"});
    for (const UnitName& each : unit_names) {
        if (!has(each.unit)) continue;
        --left;
        out.add({each.shown, left > 1 ? std::string_view(", ") : left == 1 ? last : std::string_view()});
    }
}

void list_units_of(Failure& out, VariantHost& host) {
    list_units(out, [&](std::string_view unit) { return host.has_unit(unit); }, " and ");
}

// "psnr=35"
Piece kind_of(const Budget& budget) { return budget.kind == Budget::Kind::psnr ? "psnr=" : "ssim="; }

// What a variant reaches of what a budget is of: "31.2 dB".
struct Reached {
    bool is_ssim;
    Exact figure;

    Reached(const Variant& variant, const Budget& budget)
        : is_ssim(budget.kind == Budget::Kind::ssim),
          figure(is_ssim ? down(variant.error.ssim, 1e4) : down(variant.error.psnr.value_or(0.0), 1e2)) {}
    Piece before() const { return is_ssim ? "SSIM " : ""; }
    Piece after() const { return is_ssim ? "" : " dB"; }
};

// What a way needs that this machine lacks. False: nothing.
bool lacks(const Manifest& manifest, std::string_view component, const Way& way, VariantHost& host, Failure& reason) {
    if (!host.knows_engine(way.engine)) {
        reason.set("", {"it runs ", component, " with ", way.engine, ", which this version does not know"});
        return true;
    }
    Failure why;
    if (host.misses(way.engine, why)) {
        reason.set("", {way.engine, " does not run here: ", why.text});
        return true;
    }
    bool is_first = true;
    for (std::string_view unit : way.units) {
        if (host.has_unit(unit)) continue;
        if (is_first) reason.set("", {"it needs a CPU with "});
        reason.add({is_first ? "" : ", ", shown_unit(unit)});
        is_first = false;
    }
    if (!is_first) {
        reason.add({"; this one has "});
        list_units_of(reason, host);
        return true;
    }
    std::optional<Precision> asked = asked_precision(way, *manifest.components.find(component)->find(way.artefact));
    return asked.has_value() && !host.computes_in(way.engine, *asked, reason);
}

Status claim(Scope& scope, const Variant& variant, Notices& notices) {
    const MeasuredError& error = variant.error;
    constexpr std::string_view end = " steps; budget exact draws without it";
    if (!error.psnr.has_value()) {
        return notices.add(scope, "variant", {"the variant ", variant.name, " draws: all of ", error.prompts.count,
                           " images were equal to the exact ones, at ", error.steps, end});
    }
    Exact psnr = down(*error.psnr, 1e2), ssim = down(error.ssim, 1e4);
    return notices.add(scope, "variant", {"the variant ", variant.name, " draws: the worst of ", error.prompts.count,
                       " images was ", psnr, " dB (SSIM ", ssim, ") from the exact one, at ", error.steps, end});
}

// Say which variant comes nearest to a budget.
Status note_none_within(Scope& scope, View<Variant> variants, const Budget& budget, Notices& notices) {
    auto likeness = [&](const Variant& one) {
        return budget.kind == Budget::Kind::ssim ? one.error.ssim : one.error.psnr.value_or(0.0);
    };
    const Variant* best = variants.begin();
    for (const Variant& each : variants) {
        if (likeness(each) > likeness(*best)) best = &each;
    }
    Reached reached(*best, budget);
    Exact value(budget.value);
    return notices.add(scope, "budget", {"no variant of this package is within ", kind_of(budget), value, " (",
                       best->name, " reaches ", reached.before(), reached.figure, reached.after(),
                       "): drawn exactly"});
}

Status note_left_out(Scope& scope, const Variant& variant, std::string_view why, Notices& notices) {
    return notices.add(scope, "variant", {variant.name, " is left out: ", why});
}

// The text of a sampler, in `room`; one that is not known here keeps its own, which may be longer.
std::string_view canonical(Scope& scope, std::string_view text, sampling::SamplerText& room) {
    Failure unheard;
    Scope quiet{scope.memory, unheard};
    sampling::Sampler sampler;
    if (!sampling::read_sampler(quiet, text, sampler).ok()) return text;
    room = sampler.canonical();
    return room.view();
}

}  // namespace

bool cannot_run(const Manifest& manifest, const Variant& variant, VariantHost& host, Failure& reason) {
    std::string_view chosen = host.chosen_engine();
    for (const json::Entry<Way>& entry : variant.ways) {
        const Way& way = entry.value;
        if (!chosen.empty() && chosen != way.engine) {
            reason.set("", {"it runs ", entry.key, " with ", way.engine, ", but engine is ", chosen});
            return true;
        }
        if (lacks(manifest, entry.key, way, host, reason)) return true;
    }
    return false;
}

void say_missing_units(std::string_view what, std::initializer_list<std::string_view> any_of, VariantHost& host,
                       Failure& reason) {
    reason.set("", {what, " needs a CPU with "});
    std::size_t left = any_of.size();
    for (std::string_view unit : any_of) {
        --left;
        reason.add({shown_unit(unit), left > 1 ? ", " : left == 1 ? " or " : ""});
    }
    reason.add({"; this one has "});
    list_units_of(reason, host);
}

Status choose_variant(Scope& scope, const Manifest& manifest, const Budget& budget, VariantHost& host,
                      View<FailedVariant> failed, Notices& notices, const Variant*& out) {
    out = nullptr;
    if (budget.kind == Budget::Kind::exact) return Status();
    if (manifest.variants.empty()) {
        return notices.add(scope, "budget", {"this package has no variants (`ldm-export build --budget` makes them): "
                           "drawn exactly"});
    }
    Array<const Variant*> within(scope.memory);
    for (const Variant& each : manifest.variants) {
        if (budget.holds(each.error)) LDM_NEED(scope, within.push(&each));
    }
    if (within.empty()) return note_none_within(scope, manifest.variants, budget, notices);
    std::sort(within.begin(), within.end(), [](const Variant* one, const Variant* other) {
        return one->time != other->time ? one->time < other->time : one < other;  // they lie in one array
    });
    for (const Variant* variant : within) {
        Failure reason;
        const FailedVariant* tried = std::find_if(failed.begin(), failed.end(), [=](const FailedVariant& each) {
            return each.variant == variant;
        });
        if (variant->time >= 1.0) {
            LDM_TRY(note_left_out(scope, *variant, "drawing exactly is as fast", notices));
        } else if (tried != failed.end()) {
            LDM_TRY(note_left_out(scope, *variant, tried->reason, notices));
        } else if (cannot_run(manifest, *variant, host, reason)) {
            LDM_TRY(note_left_out(scope, *variant, reason.text, notices));
        } else {
            out = variant;
            return claim(scope, *variant, notices);
        }
    }
    Exact value(budget.value);
    return notices.add(scope, "budget", {"no variant within ", kind_of(budget), value, " is of use here: drawn "
                       "exactly"});
}

Status require_variant(Scope& scope, const Manifest& manifest, std::string_view name, const Variant*& out) {
    out = find_variant(manifest, name);
    if (out != nullptr) return Status();
    Status failed = scope.fail(codes::request_invalid, {"variant is ", quoted(name), "; "});
    if (manifest.variants.empty()) {
        scope.failure.add({"this package has none (`ldm-export build --budget` makes them)"});
    }
    for (const Variant& each : manifest.variants) {
        scope.failure.add({&each == manifest.variants.begin() ? "expected one of " : ", ", each.name});
    }
    return failed;
}

Status named_variant(Scope& scope, const Manifest& manifest, std::string_view name, const Budget& budget,
                     VariantHost& host, Notices& notices, const Variant*& out) {
    const Variant* found = nullptr;
    out = nullptr;
    LDM_TRY(require_variant(scope, manifest, name, found));
    if (budget.kind != Budget::Kind::exact && !budget.holds(found->error)) {
        Reached reached(*found, budget);
        Exact value(budget.value);
        return scope.fail(codes::request_invalid, {"variant ", name, " is not within ", kind_of(budget), value, ": ",
                          reached.before(), reached.figure, reached.after()});
    }
    Failure reason;
    if (cannot_run(manifest, *found, host, reason)) {
        return scope.fail(codes::engine_unavailable, {"the variant ", name, " does not run here: ", reason.text,
                          "; leave it out to draw exactly"});
    }
    out = found;
    return claim(scope, *found, notices);
}

Status note_measured_otherwise(Scope& scope, const Request& request, Notices& notices) {
    if (request.variant == nullptr) return Status();
    const MeasuredError& error = request.variant->error;
    const VariantRun& run = request.variant->run;
    std::int64_t steps = run.steps.value_or(error.steps);
    double guidance = run.guidance_until == 0.0 ? 1.0 : error.guidance;
    sampling::SamplerText room;
    std::string_view measured = canonical(scope, run.sampler.value_or(error.sampler), room);
    Failure others;  // used as a list
    auto add = [&](std::initializer_list<Piece> what) {
        if (others.text[0] != 0) others.add({", "});
        others.add(what);
    };
    sampling::SamplerText its = request.plan.sampler.canonical();
    if (request.plan.steps != steps) add({steps, " steps"});
    if (its.view() != measured) add({"the sampler ", measured});
    if (request.guidance != guidance) {
        Exact value(guidance);
        add({"guidance ", value});
    }
    bool is_other_part = request.guidance_from != 0.0 || request.guidance_to != run.guidance_until;
    if (request.is_guided && run.guidance_until > 0.0 && is_other_part) {
        Exact until(run.guidance_until);
        add({"guidance from 0 to ", until, " of the run"});
    }
    if (request.size.width != error.size.first || request.size.height != error.size.second) {
        add({error.size.first, "x", error.size.second, " pixels"});
    }
    if (request.strength.has_value()) add({"a prompt without an image"});
    if (others.text[0] == 0) return Status();
    return notices.add(scope, "variant", {"the error of ", request.variant->name, " was measured with ", others.text,
                       "; of this run it is not known"});
}

}  // namespace ldm
