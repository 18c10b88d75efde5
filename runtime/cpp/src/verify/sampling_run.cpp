#include "src/verify/sampling_run.h"

#include <algorithm>

#include "core/codes.h"
#include "core/images/pixels.h"
#include "core/sampling/arithmetic.h"
#include "core/text/words.h"
#include "src/verify/compare.h"
#include "src/verify/metrics.h"
#include "src/verify/reference_run.h"

namespace ldm::verify {

namespace {

class Comparison {
public:
    Comparison(Scope& scope, const Model& model, engines::Components& components, Reference& reference)
        : scope_(scope), components_(components), reference_(reference), drawn_(scope, model, components, reference),
          latents_(scope.memory), drift_(scope.memory) {}

    // Draw, and compare on the way. Codes: whatever a run fails with, proof.invalid.
    Status draw() {
        LDM_TRY(reference_.read(scope_, reference_.latents(), latents_));
        LDM_TRY(drawn_.begin());
        ReferenceRun::Event event{};
        while (event != ReferenceRun::Event::end) {
            LDM_TRY(drawn_.advance(event));
            if (event == ReferenceRun::Event::step) LDM_TRY(take_step());
        }
        return Status();
    }

    View<StepResult> drift() const { return drift_.view(); }
    const Array<float>& image() const { return drawn_.image(); }

    // The lower floors that hold where a component is lossy.
    void lower_floors(SamplingRun& run) const {
        double latents = run.latents_floor, image = run.image_floor;
        for (std::string_view each : drawn_.used()) {
            std::optional<Tolerance> lossy = lossy_tolerance(components_.artefact_of(each));
            if (!lossy) continue;
            latents = std::min(latents, lossy->latents_floor);
            image = std::min(image, lossy->image_floor);
        }
        run.latents_floor = latents;
        run.image_floor = image;
    }

private:
    // The reference has the latents after each evaluation of the denoiser.
    Status take_step() {
        const float* latents = nullptr;
        std::int64_t shape[4] = {};
        View<std::int64_t> expected = reference_.latents().tensor->shape;
        std::size_t index = drift_.size(), each = latents_.count() / static_cast<std::size_t>(expected[0]);
        bool fits = drawn_.run().latents(latents, shape) && shape[0] == 1 &&
                    static_cast<std::int64_t>(index) < expected[0] &&
                    std::equal(shape + 1, shape + 4, expected.begin() + 1);
        if (!fits) {
            return scope_.fail(codes::proof_invalid,
                               {"step ", index + 1, " has latents of shape (", shape[0], ", ", shape[1], ", ", shape[2],
                                ", ", shape[3], "), expected ", expected[0], " steps of (1, ", expected[1], ", ",
                                expected[2], ", ", expected[3], ")"});
        }
        if (!sampling::all_finite(latents, each)) {
            return scope_.fail(codes::result_not_finite, {"the latents hold NaN or infinity after step ", index + 1});
        }
        Figures figures = compare_samples(latents, latents_.floats() + index * each, 1, each);
        StepResult step;
        step.index = static_cast<std::int64_t>(index);
        step.timestep = drawn_.run().request().plan.rows[index].timestep;
        step.relative_rms = finite_or_none(figures.relative_rms);
        step.psnr = finite_or_none(figures.psnr);
        LDM_NEED(scope_, drift_.push(step));
        return Status();
    }

    Scope& scope_;
    engines::Components& components_;
    Reference& reference_;
    ReferenceRun drawn_;
    Loaded latents_;
    Array<StepResult> drift_;
};

// Judge the image, (3, H, W), beside the reference's.
Status judge_image(Scope& scope, Reference& reference, const Array<float>& image, TrajectoryResult& out) {
    Loaded expected(scope.memory);
    LDM_TRY(reference.read(scope, reference.image(), expected));
    auto height = static_cast<std::size_t>(expected.tensor.shape[1]),
         width = static_cast<std::size_t>(expected.tensor.shape[2]);
    Array<std::uint8_t> measured(scope.memory), levels(scope.memory);
    LDM_NEED(scope, measured.resize(image.size()) && levels.resize(image.size()));
    images::to_levels(image.data(), height, width, measured.data());
    images::to_levels(expected.floats(), height, width, levels.data());
    double decibels = psnr(image.data(), expected.floats(), image.size()), similarity = 0.0;
    LDM_NEED(scope, ssim(scope.memory, measured.data(), levels.data(), height, width, similarity));
    out.image_psnr = finite_or_none(decibels);
    out.image_ssim = similarity;
    out.image_max_levels = max_levels(measured.data(), levels.data(), levels.size());
    out.passed = out.passed && decibels >= out.run.image_floor;
    return Status();
}

}  // namespace

Status compare_run(Scope& scope, Arena& arena, const Model& model, engines::Components& components,
                   Reference& reference, TrajectoryResult& out) {
    out = TrajectoryResult();
    out.run = reference.run();
    Comparison comparison(scope, model, components, reference);
    Status status = comparison.draw();
    LDM_NEED(scope, arena.copy(comparison.drift().data, comparison.drift().size, out.drift));
    if (!status.ok()) {
        if (status.code() == std::string_view(codes::other_memory)) return status;
        LDM_TRY(
            Words(scope.memory).add(std::string_view(scope.failure.text)).keep(scope, arena, out.problem.emplace()));
        scope.failure.clear();
        return Status();
    }
    comparison.lower_floors(out.run);
    out.passed = out.drift.size == reference.run().timesteps.size &&
                 std::all_of(out.drift.begin(), out.drift.end(), [&](const StepResult& step) {
                     return step.holds(out.run.latents_floor);
                 });
    return judge_image(scope, reference, comparison.image(), out);
}

}  // namespace ldm::verify
