// Runs: options to a request, images and how they were made.
#include "src/api/handles.h"

#include "core/run/variant_choice.h"
#include "src/api/options.h"

using namespace ldm;

namespace {

Status create(ldm_context* context, Scope& scope, ldm_run& run, const ldm_run_options& options) {
    api::TakenOptions taken(scope.memory);
    LDM_TRY(taken.read(scope, options));
    if (options.variant != nullptr) {
        LDM_TRY(require_variant(scope, *run.package->model.manifest, options.variant, taken.options.variant));
    }
    LDM_TRY(run.run.begin(scope, taken.options));
    for (const Notice& notice : run.run.notices()) api::log(*context, LDM_LOG_NOTICE, notice.text);
    return Status();
}

}  // namespace

ldm_status ldm_run_create(ldm_context* context, const ldm_package* package, const ldm_run_options* options,
                          ldm_run** run) {
    if (run != nullptr) *run = nullptr;
    return api::called(context, [&](Scope& scope) {
        ldm_run_options taken;
        bool has_all = package != nullptr && options != nullptr && run != nullptr;
        if (!has_all || !api::take(options, ldm_run_options_init, taken)) {
            return api::misused(scope,
                                {"ldm_run_create needs a package, options that ldm_run_options_init began, and a "
                                 "place for the run"});
        }
        auto* made = make<ldm_run>(scope.memory, scope.memory, package);
        LDM_NEED(scope, made != nullptr);
        Status status = create(context, scope, *made, taken);
        if (status.ok()) {
            *run = made;
        } else {
            ldm_run_free(made);
        }
        return status;
    });
}

Status ldm::api::require_image(Scope& scope, const ldm_run& run, size_t image) {
    size_t count = run.run.request().batch;
    if (image < count) return Status();
    return misused(scope, {"there is no image ", image, " of ", count});
}

void ldm_run_free(ldm_run* run) {
    if (run == nullptr) return;
    Allocator memory = run->memory;
    destroy(memory, run);
}

void ldm_run_cancel(ldm_run* run) {
    if (run != nullptr) run->is_cancelled.store(true, std::memory_order_relaxed);
}

size_t ldm_run_image_count(const ldm_run* run) { return run == nullptr ? 0 : run->run.request().batch; }

ldm_status ldm_run_seed(ldm_context* context, const ldm_run* run, size_t image, uint64_t* seed) {
    return api::called(context, run, seed != nullptr, "ldm_run_seed needs a run and a place", [&](Scope& scope) {
        LDM_TRY(api::require_image(scope, *run, image));
        *seed = run->run.request().seeds[image];
        return Status();
    });
}

ldm_status ldm_run_image(ldm_context* context, const ldm_run* run, size_t image, ldm_image* out) {
    return api::called(context, run, out != nullptr, "ldm_run_image needs a run and an image", [&](Scope& scope) {
        if (!api::is_begun(out)) return api::misused(scope, {"ldm_run_image needs an image that ldm_image_init began"});
        ldm_image_free(out);
        LDM_TRY(api::require_image(scope, *run, image));
        ldm_image found;
        ldm_image_init(&found, sizeof found);
        found.pixels = run->run.image(image);
        if (found.pixels == nullptr) return api::misused(scope, {"the run has no image yet; take it to its end first"});
        found.width = static_cast<int32_t>(run->run.request().size.width);
        found.height = static_cast<int32_t>(run->run.request().size.height);
        found.channels = 3;
        api::hand_out(found, *out);
        return Status();
    });
}

ldm_status ldm_run_latents(ldm_context* context, const ldm_run* run, const float** latents, int64_t shape[4]) {
    constexpr const char* needs = "ldm_run_latents needs a run, and places for latents and shape";
    return api::called(context, run, latents != nullptr && shape != nullptr, needs, [&](Scope& scope) {
        if (run->run.latents(*latents, shape)) return Status();
        return api::misused(scope, {"the run has no latents before its first step"});
    });
}

ldm_status ldm_run_metadata(ldm_context* context, ldm_run* run, size_t image, const char* const** keys,
                            const char* const** values, size_t* count) {
    bool has_places = keys != nullptr && values != nullptr && count != nullptr;
    constexpr const char* needs = "ldm_run_metadata needs a run, and places for keys, values and count";
    return api::called(context, run, has_places, needs, [&](Scope& scope) {
        LDM_TRY(api::require_image(scope, *run, image));
        View<Fact> facts;
        run->facts.clear();
        LDM_TRY(run->run.describe(scope, run->facts, image, facts));
        auto** texts = run->facts.make<const char*>(2 * facts.size);
        LDM_NEED(scope, texts != nullptr);
        for (size_t index = 0; index < facts.size; ++index) {
            texts[index] = facts[index].name.data();
            texts[facts.size + index] = facts[index].value.data();
        }
        *keys = texts;
        *values = texts + facts.size;
        *count = facts.size;
        return Status();
    });
}
