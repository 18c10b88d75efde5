#include "core/run/effects.h"

#include <algorithm>

namespace ldm {

namespace {

bool draws_noise(const Request& request) {
    if (request.start_image_count > 0) return true;
    return std::any_of(request.plan.rows.begin(), request.plan.rows.end(),
                       [](const sampling::PlanRow& row) { return row.noise_rows.size() > 0; });
}

// Options that need the negative prompt, and the reason why none is evaluated.
Status note_without_guidance(Scope& scope, const Request& request, Notices& notices) {
    bool is_evaluated = false;
    for (std::size_t row = 0; row < request.plan.rows.size; ++row) is_evaluated |= request.is_guided_at(row);
    if (is_evaluated) return Status();
    auto note = [&](bool is_given, std::string_view name) {
        if (!is_given) return Status();
        if (request.is_guided) {
            return notices.add(scope, name, {name, " has no effect: none of ", request.plan.rows.size,
                               " evaluations is in the guidance interval ", request.guidance_from, " to ",
                               request.guidance_to});
        }
        if (request.embeds_guidance) {
            return notices.add(scope, name,
                               {name,
                                " has no effect: this model reads guidance as a number and evaluates "
                                "the prompt alone"});
        }
        return notices.add(scope, name,
                           {name, " has no effect with guidance ", request.guidance, "; it needs more than 1"});
    };
    LDM_TRY(note(request.is_guided, "guidance"));
    LDM_TRY(note(request.negative_is_given, "negative"));
    LDM_TRY(note(request.guidance_rescale > 0.0, "guidance_rescale"));
    return note(request.interval_is_chosen && !request.is_guided, "guidance_interval");
}

// A seed and a noise that are not used, and a variation of strength 0 or 1.
Status note_without_noise(Scope& scope, const Request& request, Notices& notices) {
    bool has_latents = !request.latents.empty() || request.to;
    bool is_other_seed = request.variation && request.variation->strength == 1.0;
    if (request.variation && request.variation->strength == 0.0) {
        LDM_TRY(notices.add(scope, "variation", {"variation has no effect with strength 0"}));
    }
    if (is_other_seed && has_latents) {
        LDM_TRY(notices.add(scope, "latents", {"latents has no effect: variation has strength 1"}));
    }
    if (request.to || draws_noise(request) || (!has_latents && !is_other_seed)) return Status();
    std::string_view instead = is_other_seed ? "variation has strength 1" : "latents are given";
    if (request.seed_is_chosen) {
        sampling::SamplerText sampler = request.plan.sampler.canonical();
        LDM_TRY(
            notices.add(scope, "seed", {"seed has no effect: ", instead, " and ", sampler.view(), " draws no noise"}));
    }
    bool is_varied = request.variation && request.variation->strength > 0.0;
    if (request.noise == "philox" || is_varied) return Status();
    sampling::SamplerText sampler = request.plan.sampler.canonical();
    return notices.add(scope, "noise", {"noise has no effect: ", instead, " and ", sampler.view(), " draws none"});
}

// Nothing of the image is kept; that is normal for a denoiser made for inpainting.
bool is_wholly_inpainted(const Request& request) {
    if (request.mask.empty() || !request.masked_pixels.empty() || !request.strength || *request.strength != 1.0)
        return false;
    return std::all_of(request.mask.begin(), request.mask.end(), [](float cell) { return cell == 1.0f; });
}

}  // namespace

Status note_without_effect(Scope& scope, const Request& request, Notices& notices) {
    LDM_TRY(note_without_guidance(scope, request, notices));
    LDM_TRY(note_without_noise(scope, request, notices));
    if (request.has_embeddings && request.syntax != "plain" && (!request.negative_is_given || !request.is_guided)) {
        LDM_TRY(notices.add(scope, "syntax", {"syntax has no effect: there is no text to read"}));
    }
    if (!is_wholly_inpainted(request)) return Status();
    return notices.add(scope, "image", {"image has no effect: the mask is white everywhere and strength is 1"});
}

}  // namespace ldm
