#include "core/run/request.h"

#include <cmath>

#include "core/codes.h"
#include "core/noise/noise.h"
#include "core/run/request_checks.h"
#include "core/sampling/sampler.h"

namespace ldm {

namespace {

constexpr double most_embedded_guidance = 1000.0;  // far above what any model was distilled with

Status read_guidance(const Checking& its) {
    bool is_never = its.options.variant != nullptr && its.options.variant->run.guidance_until == 0.0;
    double value = its.options.guidance.value_or(is_never ? 1.0 : its.contract.defaults.guidance);
    if (!(value >= 0.0 && std::isfinite(value))) {
        return its.scope.fail(codes::request_invalid, {"guidance is ", exactly(value),
                              "; expected a finite number of 0 or more (1 or less: no guidance)"});
    }
    its.out.embeds_guidance = its.contract.embeds_guidance();
    if (its.out.embeds_guidance && value > most_embedded_guidance) {
        return its.scope.fail(codes::request_invalid, {"guidance is ", value, "; expected at most ",
                              most_embedded_guidance, ": this model reads it as a number"});
    }
    its.out.guidance = value;
    its.out.is_guided = its.contract.evaluates_negative(value);
    return Status();
}

// The first of the steps that an image to image run takes, which are int(steps * strength), as in diffusers.
Status first_step(const Checking& its, std::int64_t steps, double strength, std::int64_t& out) {
    auto taken = static_cast<std::int64_t>(static_cast<double>(steps) * strength);
    if (steps > 0 && taken < 1) {
        return its.scope.fail(codes::request_invalid, {"strength ", strength, " of ", steps,
                              " steps leaves none; use a strength of at least ", 1.0 / static_cast<double>(steps)});
    }
    out = steps - (taken < steps ? taken : steps);
    return Status();
}

Status read_plan(const Checking& its) {
    const RunOptions& options = its.options;
    const Defaults& defaults = its.contract.defaults;
    const VariantRun lossy = options.variant == nullptr ? VariantRun() : options.variant->run;
    sampling::Sampler sampler;
    std::string_view text = options.sampler.value_or(lossy.sampler.value_or(defaults.sampler));
    LDM_TRY(sampling::read_sampler(its.scope, text, sampler));
    LDM_TRY(check_noise(its.scope, options.noise, sampler.correlated_noise(), sampler.name(), its.out.noise_mode));
    LDM_TRY(its.copy(options.noise, its.out.noise));
    std::int64_t steps = options.steps.value_or(lossy.steps.value_or(defaults.steps)), start = 0;
    bool is_reached = false;
    if (its.out.strength) LDM_TRY(sampler.reach(its.scope, *its.out.strength, is_reached));
    if (its.out.strength && !is_reached) LDM_TRY(first_step(its, steps, *its.out.strength, start));
    return sampling::compile_plan(its.scope, its.arena, its.contract.schedule, sampler, steps, start, its.out.plan);
}

Status read_syntax(const Checking& its) {
    std::string_view syntax = its.options.syntax;
    if (syntax != "plain" && syntax != "weighted") {
        return its.scope.fail(codes::request_invalid, {"syntax is ", quoted(syntax), "; expected plain or weighted"});
    }
    return its.copy(syntax, its.out.syntax);
}

Status read_stop(const Checking& its) {
    std::int64_t taken = its.out.plan.taken();
    its.out.stop_after = its.options.stop_after.value_or(taken);
    return check_integer(its.scope, "stop_after", its.out.stop_after, 1, taken, codes::request_invalid);
}

Status read_guidance_changes(const Checking& its) {
    bool is_given = its.options.guidance_from.has_value() || its.options.guidance_to.has_value();
    double until = its.options.variant == nullptr ? 1.0 : its.options.variant->run.guidance_until;
    bool is_cut = !is_given && until > 0.0;  // by the variant; one that never guides has no interval
    double low = its.options.guidance_from.value_or(0.0), high = its.options.guidance_to.value_or(is_cut ? until : 1.0);
    LDM_TRY(check_share(its.scope, "guidance_rescale", its.options.guidance_rescale));
    for (double end : {low, high}) LDM_TRY(check_share(its.scope, "an end of guidance_interval", end));
    if (!(low < high)) {
        return its.scope.fail(codes::request_invalid, {"guidance_interval is (", exactly(low), ", ", exactly(high),
                              "); expected its start below its end"});
    }
    its.out.guidance_rescale = its.options.guidance_rescale;
    its.out.interval_is_chosen = is_given && (low != 0.0 || high != 1.0);
    its.out.guidance_from = low;
    its.out.guidance_to = high;
    return Status();
}

Status read_seeds(const Checking& its) {
    std::size_t batch = its.out.batch;
    const auto& listed = its.options.seeds;
    if (listed && listed->size != batch) {
        return its.scope.fail(codes::request_invalid, {"seed has ", listed->size, " numbers for ", batch,
                              " images; give one for each, or one to count from"});
    }
    auto* seeds = its.arena.make<std::uint64_t>(batch);
    LDM_NEED(its.scope, seeds != nullptr);
    for (std::size_t image = 0; image < batch; ++image) {
        seeds[image] = listed ? (*listed)[image] : its.options.seed + image;  // mod 2^64
    }
    its.out.seeds = {seeds, batch};
    its.out.seed_is_chosen = its.options.seed_is_chosen;
    its.out.variation = its.options.variation;
    return its.out.variation ? check_share(its.scope, "the strength of variation", its.out.variation->strength)
                             : Status();
}

// The rest of the run between two ends is that of one prompt and image.
Status read_other_end(const Checking& its) {
    const RunOptions& options = its.options;
    bool is_single = options.prompts && options.prompts->size == 1 && options.count == 1;
    if (!is_single || options.embeddings || options.pooled_embeddings || options.latents) {
        return its.scope.fail(codes::request_invalid, {"an interpolation takes one prompt, one image and no latents or "
                              "embeddings: they follow from the two prompts and seeds"});
    }
    LDM_TRY(check_share(its.scope, "share", options.to->share));
    its.out.to = options.to;
    return its.copy(options.to->prompt, its.out.to->prompt);
}

}  // namespace

Status Checking::copy(std::string_view text, std::string_view& kept) const {
    View<char> bytes;
    LDM_NEED(scope, arena.copy(text.data(), text.size(), bytes));
    kept = {bytes.data, bytes.size};
    return Status();
}

Status Checking::copy(std::string_view name, const float* values, std::size_t count, View<float>& kept) const {
    for (std::size_t index = 0; index < count; ++index) {
        if (!std::isfinite(values[index])) {
            return scope.fail(codes::request_array, {name, " holds NaN or infinity; expected finite float32 numbers"});
        }
    }
    LDM_NEED(scope, arena.copy(values, count, kept));
    return Status();
}

Status Checking::repeat(View<float> rows, std::size_t each, View<float>& repeated) const {
    LDM_NEED(scope, rows.size <= static_cast<std::size_t>(-1) / out.repeats);
    auto* all = arena.make<float>(rows.size * out.repeats);
    LDM_NEED(scope, all != nullptr);
    for (std::size_t row = 0; row * each < rows.size * out.repeats; ++row) {
        std::memcpy(all + row * each, rows.data + row / out.repeats * each, each * sizeof(float));
    }
    repeated = {all, rows.size * out.repeats};
    return Status();
}

Status check_share(Scope& scope, std::string_view name, double value) {
    if (value >= 0.0 && value <= 1.0) return Status();
    return scope.fail(codes::request_invalid, {name, " is ", exactly(value), "; expected a number from 0 to 1"});
}

Status check_integer(Scope& scope, std::string_view name, std::int64_t value, std::int64_t low, std::int64_t high,
                     const char* code) {
    if (value >= low && value <= high) return Status();
    return scope.fail(code, {name, " is ", value, "; expected an integer from ", low, " to ", high});
}

bool Request::is_guided_at(std::size_t row) const {
    double done = static_cast<double>(row) / static_cast<double>(plan.rows.size);
    return is_guided && guidance_from <= done && done < guidance_to;
}

Status check_request(Scope& scope, Arena& arena, const Model& model, const RunOptions& options, Request& out) {
    out = Request();
    out.variant = options.variant;
    Checking its{scope, arena, model.contract(), options, out};
    if (options.to) LDM_TRY(read_other_end(its));
    LDM_TRY(read_guidance(its));
    LDM_TRY(read_texts(its));
    LDM_TRY(check_images(its));
    LDM_TRY(read_plan(its));
    LDM_TRY(read_size(its));
    LDM_TRY(read_pooled(its));
    LDM_TRY(read_pixels(its));
    LDM_TRY(read_syntax(its));
    LDM_TRY(read_stop(its));
    LDM_TRY(read_guidance_changes(its));
    LDM_TRY(read_seeds(its));
    LDM_TRY(read_sizes_told(its));
    return read_mask(its);
}

}  // namespace ldm
