#include "src/verify/sampling_run.h"

#include <algorithm>

#include "core/codes.h"
#include "core/images/pixels.h"
#include "core/run/run.h"
#include "core/sampling/arithmetic.h"
#include "core/text/words.h"
#include "src/engines/tasks.h"
#include "src/verify/compare.h"
#include "src/verify/inpainting_probe.h"
#include "src/verify/metrics.h"

namespace ldm::verify {

namespace {

class Comparison {
public:
    Comparison(Scope& scope, const Model& model, engines::Components& components, Reference& reference)
        : scope_(scope),
          model_(model),
          components_(components),
          reference_(reference),
          run_(scope.memory, model),
          latents_(scope.memory),
          kept_(scope.memory), results_(scope.memory),
          used_(scope.memory),
          drift_(scope.memory),
          image_(scope.memory) {}

    // Draw from the reference's noise and compare on the way. Codes: whatever a run fails with, proof.invalid.
    Status draw() {
        LDM_TRY(reference_.read(scope_, reference_.latents(), latents_));
        LDM_TRY(begin());
        Task task;
        while (true) {
            LDM_TRY(run_.next(scope_, task));
            if (task.kind == Task::Kind::done) return Status();
            if (task.kind == Task::Kind::evaluate) LDM_TRY(evaluate(task));
        }
    }

    View<StepResult> drift() const { return drift_.view(); }
    const Array<float>& image() const { return image_; }  // (3, H, W), around [-1, 1]; empty before the end

    // The lower floors that hold where a component is lossy.
    void lower_floors(SamplingRun& run) const {
        double latents = run.latents_floor, image = run.image_floor;
        for (std::string_view each : used_) {
            std::optional<Tolerance> lossy = lossy_tolerance(components_.artefact_of(each));
            if (!lossy) continue;
            latents = std::min(latents, lossy->latents_floor);
            image = std::min(image, lossy->image_floor);
        }
        run.latents_floor = latents;
        run.image_floor = image;
    }

private:
    Status begin() {
        const SamplingRun& its = reference_.run();
        auto seed = static_cast<std::uint64_t>(its.seed);
        RunOptions options;
        Array<std::uint8_t> image(scope_.memory), mask(scope_.memory);
        images::Samples start, keep;
        options.prompts = {&its.prompt, 1};
        options.negatives = View<std::string_view>{&its.negative, 1};
        options.steps = its.steps;
        options.seeds = {&seed, 1};
        options.size = Size{its.size[0], its.size[1]};
        if (model_.contract().inpaints()) {
            LDM_TRY(make_probe(image, mask));
            start = samples(image, 3);
            keep = samples(mask, 1);
            options.start_images = {&start, 1};
            options.mask = &keep;
        }
        return run_.begin(scope_, options);
    }

    Status make_probe(Array<std::uint8_t>& image, Array<std::uint8_t>& mask) {
        View<std::int64_t> size = reference_.run().size;
        View<std::int64_t> stored = reference_.image().tensor->shape;
        if (size[0] != stored[2] || size[1] != stored[1]) {  // before a size of anybody's choice is drawn
            return scope_.fail(codes::proof_invalid, {"the reference's image has not the size of its sampling run"});
        }
        auto width = static_cast<std::size_t>(size[0]), height = static_cast<std::size_t>(size[1]);
        auto step = static_cast<std::size_t>(model_.contract().latent.downsample);
        LDM_NEED(scope_, probe_image(width, height, image) && probe_mask(width, height, step, mask));
        return Status();
    }

    images::Samples samples(const Array<std::uint8_t>& levels, int channels) const {
        images::Samples out;
        out.width = reference_.run().size[0];
        out.height = reference_.run().size[1];
        out.channels = channels;
        out.bits = 8;
        out.data = levels.data();
        return out;
    }

    Status evaluate(const Task& task) {
        LDM_TRY(note_use(task.component));
        Array<Tensor> outputs(scope_.memory);
        LDM_TRY(engines::evaluate(scope_, components_, task, kept_, results_, outputs));
        bool is_denoiser = task.component == model_.contract().denoiser.component;
        bool is_decoder = task.component == model_.contract().codec.decoder.component;
        LDM_TRY(run_.give(scope_, outputs.view()));
        if (is_denoiser) return take_step();
        return is_decoder ? take_image(outputs[0]) : Status();
    }

    Status note_use(std::string_view component) {
        if (std::find(used_.begin(), used_.end(), component) == used_.end()) LDM_NEED(scope_, used_.push(component));
        return Status();
    }

    // The reference has the latents after each evaluation of the denoiser.
    Status take_step() {
        const float* latents = nullptr;
        std::int64_t shape[4] = {};
        View<std::int64_t> expected = reference_.latents().tensor->shape;
        std::size_t index = drift_.size(), each = latents_.count() / static_cast<std::size_t>(expected[0]);
        bool fits = run_.latents(latents, shape) && shape[0] == 1 && static_cast<std::int64_t>(index) < expected[0] &&
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
        step.timestep = run_.request().plan.rows[index].timestep;
        step.relative_rms = finite_or_none(figures.relative_rms);
        step.psnr = finite_or_none(figures.psnr);
        LDM_NEED(scope_, drift_.push(step));
        return Status();
    }

    Status take_image(const Tensor& output) {
        View<std::int64_t> expected = reference_.image().tensor->shape;
        if (!std::equal(output.shape + 1, output.shape + output.rank, expected.begin(), expected.end())) {
            return scope_.fail(codes::proof_invalid, {"the image is ", output.shape[3], "x", output.shape[2],
                                                      ", expected ", expected[2], "x", expected[1]});
        }
        image_.clear();
        LDM_NEED(scope_,
                 image_.append(static_cast<const float*>(output.data), static_cast<std::size_t>(output.count())));
        return Status();
    }

    Scope& scope_;
    const Model& model_;
    engines::Components& components_;
    Reference& reference_;
    Run run_;
    Loaded latents_;
    engines::Results kept_, results_;
    Array<std::string_view> used_;  // components
    Array<StepResult> drift_;
    Array<float> image_;
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
