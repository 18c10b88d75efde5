#include "src/verify/reference_run.h"

#include <algorithm>

#include "core/codes.h"
#include "src/engines/tasks.h"
#include "src/verify/inpainting_probe.h"

namespace ldm::verify {

ReferenceRun::ReferenceRun(Scope& scope, const Model& model, engines::Components& components, Reference& reference)
    : scope_(scope), model_(model), components_(components), reference_(reference), run_(scope.memory, model),
      results_(scope.memory), used_(scope.memory), image_(scope.memory) {}

Status ReferenceRun::begin() {
    const SamplingRun& its = reference_.run();
    const Variant* variant = components_.variant();
    auto seed = static_cast<std::uint64_t>(its.seed);
    RunOptions options;
    Array<std::uint8_t> image(scope_.memory), mask(scope_.memory);
    images::Samples start, keep;
    options.prompts = {&its.prompt, 1};
    options.negatives = View<std::string_view>{&its.negative, 1};
    options.variant = variant;
    if (variant == nullptr || !variant->run.steps.has_value()) options.steps = its.steps;
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

Status ReferenceRun::make_probe(Array<std::uint8_t>& image, Array<std::uint8_t>& mask) {
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

images::Samples ReferenceRun::samples(const Array<std::uint8_t>& levels, int channels) const {
    images::Samples out;
    out.width = reference_.run().size[0];
    out.height = reference_.run().size[1];
    out.channels = channels;
    out.bits = 8;
    out.data = levels.data();
    return out;
}

Status ReferenceRun::advance(Event& out) {
    Task task;
    do {
        LDM_TRY(run_.next(scope_, task));
    } while (task.kind != Task::Kind::done && task.kind != Task::Kind::evaluate);
    out = task.kind == Task::Kind::done                                      ? Event::end
          : task.component == model_.contract().denoiser.component           ? Event::step
          : task.component == model_.contract().codec.decoder.component ? Event::image
                                                                             : Event::text;
    return out == Event::end ? Status() : evaluate(task);
}

Status ReferenceRun::evaluate(const Task& task) {
    LDM_TRY(note_use(task.component));
    Array<Tensor> outputs(scope_.memory);
    LDM_TRY(engines::evaluate(scope_, components_, task, results_, outputs));
    bool is_decoder = task.component == model_.contract().codec.decoder.component;
    LDM_TRY(run_.give(scope_, outputs.view()));
    return is_decoder ? take_image(outputs[0]) : Status();
}

Status ReferenceRun::note_use(std::string_view component) {
    if (std::find(used_.begin(), used_.end(), component) == used_.end()) LDM_NEED(scope_, used_.push(component));
    return Status();
}

Status ReferenceRun::take_image(const Tensor& output) {
    View<std::int64_t> expected = reference_.image().tensor->shape;
    if (!std::equal(output.shape + 1, output.shape + output.rank, expected.begin(), expected.end())) {
        return scope_.fail(codes::proof_invalid, {"the image is ", output.shape[3], "x", output.shape[2],
                                                  ", expected ", expected[2], "x", expected[1]});
    }
    image_.clear();
    LDM_NEED(scope_, image_.append(static_cast<const float*>(output.data), static_cast<std::size_t>(output.count())));
    return Status();
}

}  // namespace ldm::verify
