// What a reference has to hold so that its verdicts prove something: each number and array that one depends on. The
// twin of ldm_export/verify/reference_rules.py.
#include <algorithm>
#include <cmath>

#include "core/codes.h"
#include "core/json/fields.h"
#include "core/sampling/arithmetic.h"
#include "core/sampling/plan.h"
#include "core/text/words.h"
#include "src/verify/compare.h"
#include "src/verify/metrics.h"
#include "src/verify/reference.h"

namespace ldm::verify {

namespace {

constexpr double highest_floor = 120.0;      // dB: what a build can write
constexpr std::int64_t highest_seed = std::int64_t{1} << 62;  // what is larger is no number that every program reads
constexpr double same_timestep = 1e-6;  // relative: exp and cos differ in the last bits between machines

bool is_same_timestep(double a, double b) {
    return std::fabs(a - b) <= same_timestep * std::max({1.0, std::fabs(a), std::fabs(b)});
}

// Whether a side of the image is `factor` times one of the latents, for numbers of any size.
bool is_multiple(std::int64_t side, std::int64_t latent, std::int64_t factor) {
    return factor > 0 && side % factor == 0 && side / factor == latent;
}

// Whether a run reads this output of a component.
bool is_read(const Contract& contract, std::string_view component, std::string_view output) {
    auto is = [=](std::string_view its, std::string_view name) { return its == component && name == output; };
    for (const TextRole& text : contract.text) {
        if (is(text.component, text.output) || (text.pooled && is(text.component, *text.pooled))) return true;
    }
    const CodecRole& codec = contract.codec;
    return is(codec.encoder.component, codec.encoder.output) || is(codec.decoder.component, codec.decoder.output) ||
           is(contract.denoiser.component, contract.denoiser.output);
}

}  // namespace

Status Reference::check(Scope& scope) {
    for (const Stored& tokens : tokens_) {
        View<std::int64_t> shape = tokens.tensor->shape;
        bool is_sound = !prompts_.empty() && shape.size == 2 && tokens.tensor->dtype == "I64" &&
                        static_cast<std::size_t>(shape[0]) == prompts_.size;
        if (!is_sound) return refuse(scope, {" is incomplete: it has not one row of tokens per prompt"});
    }
    LDM_TRY(check_shapes(scope));
    LDM_TRY(check_settings(scope));
    LDM_TRY(check_plan(scope));
    LDM_TRY(check_numbers(scope, latents_));
    LDM_TRY(check_numbers(scope, image_));
    for (const Case& each : cases_) LDM_TRY(check_case(scope, each));
    return Status();
}

// There are latents for each timestep, and they and the image have the run's size.
Status Reference::check_shapes(Scope& scope) const {
    View<std::int64_t> latents = latents_.tensor->shape, image = image_.tensor->shape;
    if (latents.size != 4 || run_.timesteps.empty() || static_cast<std::size_t>(latents[0]) != run_.timesteps.size) {
        return refuse(scope, {" is incomplete: its sampling run has not latents for each of its timesteps"});
    }
    if (run_.size.size != 2) {
        return refuse(scope,
                      {" is incomplete: its sampling run has a size of ", run_.size.size, " numbers; expected 2"});
    }
    std::int64_t width = run_.size[0], height = run_.size[1], factor = facts_.latent.downsample;
    Words shape(scope.memory);
    if (image.size != 3 || image[0] != 3 || image[1] != height || image[2] != width) {
        LDM_NEED(scope, add_list(shape, image).fits());
        return refuse(scope, {" contradicts itself: its image has the shape ", shape.view(), ", but the size is ",
                              json::shown(width), "x", json::shown(height)});
    }
    if (latents[1] != facts_.latent.channels || !is_multiple(width, latents[3], factor) ||
        !is_multiple(height, latents[2], factor)) {
        LDM_NEED(scope, add_list(shape, latents).fits());
        return refuse(scope, {" contradicts itself: its latents have the shape ", shape.view(), ", but the size is ",
                              json::shown(width), "x", json::shown(height), ", and a latent has ",
                              json::shown(facts_.latent.channels), " channels at 1/", json::shown(factor), " of it"});
    }
    return Status();
}

// The numbers of a run, which is one with the package's own defaults.
Status Reference::check_settings(Scope& scope) const {
    if (run_.seed < 0 || run_.seed > highest_seed) {
        return refuse(scope,
                      {": its sampling run has the seed ", json::shown(run_.seed), "; expected 0 to ", highest_seed});
    }
    if (run_.guidance != facts_.defaults.guidance) {
        return refuse(scope, {" contradicts itself: its sampling run has guidance ", exactly(run_.guidance),
                              ", its defaults have ", exactly(facts_.defaults.guidance)});
    }
    struct Floor {
        std::string_view name;
        double value, lowest;
    };
    Tolerance exact = exact_tolerance();
    for (const Floor& floor : {Floor{"latents", run_.latents_floor, exact.latents_floor},
                               Floor{"image", run_.image_floor, exact.image_floor}}) {
        if (floor.value >= floor.lowest && floor.value <= highest_floor) continue;
        return refuse(scope, {": its sampling run has ", floor.name, "_floor ", exactly(floor.value), "; expected ",
                              exactly(floor.lowest), " to ", exactly(highest_floor), " dB; build the package again"});
    }
    return Status();
}

// The run has the evaluations of the plan that its facts make.
Status Reference::check_plan(Scope& scope) const {
    View<double> timesteps = run_.timesteps;
    if (run_.steps > static_cast<std::int64_t>(timesteps.size)) {  // before a plan of anybody's choice is made
        return refuse(scope, {" contradicts itself: its sampling run has latents of ", timesteps.size,
                              " evaluations, fewer than its ", json::shown(run_.steps), " steps"});
    }
    Arena arena(scope.memory);
    sampling::Sampler sampler;
    sampling::Plan plan;
    Status status = sampling::read_sampler(scope, facts_.defaults.sampler, sampler);
    if (status.ok()) status = sampling::compile_plan(scope, arena, facts_.schedule, sampler, run_.steps, 0, plan);
    if (!status.ok()) {
        if (status.code() == std::string_view(codes::other_memory)) return status;
        std::string_view why;
        LDM_TRY(Words(scope.memory).add(std::string_view(scope.failure.text)).keep(scope, arena, why));
        return refuse(scope, {": its sampling run has no plan: ", why});
    }
    sampling::SamplerText name = sampler.canonical();
    if (run_.sampler != name.view()) {
        return refuse(scope, {" contradicts itself: its sampling run has the sampler ", quoted(run_.sampler),
                              ", its defaults have ", quoted(name.view())});
    }
    if (plan.rows.size != timesteps.size) {
        return refuse(scope,
                      {" contradicts itself: its sampling run has latents of ", timesteps.size, " evaluations, but ",
                       run_.sampler, " with ", run_.steps, " steps makes ", plan.rows.size});
    }
    for (std::size_t index = 0; index < timesteps.size; ++index) {
        if (is_same_timestep(timesteps[index], plan.rows[index].timestep)) continue;
        return refuse(scope, {" contradicts itself: evaluation ", index + 1, " of its sampling run has the timestep ",
                              exactly(timesteps[index]), ", in the plan it has ", exactly(plan.rows[index].timestep)});
    }
    return Status();
}

Status Reference::check_case(Scope& scope, const Case& its) {
    if (its.inputs.empty() || its.outputs.empty()) {
        return refuse(scope, {": case ", its.component, "/", its.name, " has no inputs or no outputs"});
    }
    double most = exact_tolerance().relative_rms;
    if (!(its.tolerance > 0.0 && its.tolerance <= most)) {
        return refuse(scope, {": case ", its.component, "/", its.name, " has the tolerance ", exactly(its.tolerance),
                              "; expected more than 0 and at most ", exactly(most), "; build the package again"});
    }
    for (const Stored& stored : its.inputs) {
        if (stored.tensor->shape.size > engines::max_rank) {
            return refuse(scope, {": ", quoted(stored.tensor->name), " has ", stored.tensor->shape.size,
                                  " dimensions; expected at most ", engines::max_rank});
        }
    }
    for (const Stored& stored : its.outputs) LDM_TRY(check_numbers(scope, stored));
    return Status();
}

// An array that is compared with: outputs are float32, in which the build compares.
Status Reference::check_numbers(Scope& scope, const Stored& stored) {
    const TensorInfo& tensor = *stored.tensor;
    Loaded loaded(scope.memory);
    bool is_sound = tensor.dtype == "F32" && tensor.bytes > 0 && tensor.shape.size <= engines::max_rank;
    if (is_sound) {
        LDM_TRY(read(scope, stored, loaded));
        is_sound = sampling::all_finite(loaded.floats(), loaded.count());
    }
    if (is_sound) return Status();
    return refuse(scope, {": ", quoted(tensor.name),
                          " is empty, not float32, or holds NaN or infinity; build the package "
                          "again"});
}

Status Reference::require_complete(Scope& scope, const Contract& contract) const {
    Words missing(scope.memory);
    for (std::uint32_t place : contract.components.sorted) {
        std::string_view name = contract.components.entries[place].key;
        bool has_case =
            std::any_of(cases_.begin(), cases_.end(), [=](const Case& each) { return each.component == name; });
        if (!has_case) missing.add(missing.view().empty() ? "" : ", ", name);
    }
    LDM_NEED(scope, missing.fits());
    if (!missing.view().empty()) {
        return scope.fail(codes::proof_invalid, {"the reference is incomplete: it has no case of ", missing.view()});
    }
    bool has_tokens = facts_.tokenizers.size() == contract.text.size;
    for (const TextRole& text : contract.text)
        has_tokens = has_tokens && facts_.tokenizers.find(text.component) != nullptr;
    if (!has_tokens) {
        return scope.fail(codes::proof_invalid,
                          {"the reference is incomplete: it has not the tokens of every text encoder"});
    }
    for (const Case& each : cases_) LDM_TRY(require_outputs(scope, contract, each));
    return Status();
}

// A case has every output of its component that a run reads.
Status Reference::require_outputs(Scope& scope, const Contract& contract, const Case& its) const {
    const ComponentContract* component = contract.components.find(its.component);
    if (component == nullptr) return Status();  // the facts name it
    for (const TensorSpec& spec : component->outputs) {
        auto is_it = [&](const Stored& stored) { return stored.name == spec.name; };
        if (!is_read(contract, its.component, spec.name) || std::any_of(its.outputs.begin(), its.outputs.end(), is_it))
            continue;
        return scope.fail(codes::proof_invalid, {"the reference is incomplete: case ", its.component, "/", its.name,
                                                 " lacks the output ", spec.name});
    }
    return Status();
}

}  // namespace ldm::verify
