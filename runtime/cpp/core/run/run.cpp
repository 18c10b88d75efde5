#include "core/run/run.h"

#include "core/codes.h"
#include "core/images/pixels.h"
#include "core/run/counts.h"
#include "core/run/effects.h"
#include "core/run/variant_choice.h"
#include "core/sampling/arithmetic.h"

namespace ldm {

Run::Run(Allocator& memory, const Model& model)
    : model_(model), contract_(model.contract()), arena_(memory), notices_(memory), conditioning_(memory, model),
      noise_(memory), deep_(memory), loop_(memory), ids_(memory), sample_(memory), extra_(memory), moments_(memory),
      start_latents_(memory), masked_(memory), concat_(memory), initial_(memory), decoded_(memory), images_(memory) {}

// ---- The beginning ----

Status Run::begin(Scope& scope, const RunOptions& options) {
    constexpr std::size_t most_extra = most_inputs - DeepFeatures::most - 3;
    if (contract_.denoiser.extra.size() > most_extra) {
        return scope.fail(codes::manifest_role, {"the denoiser has ", contract_.denoiser.extra.size(),
                          " extra inputs; expected at most ", most_extra});
    }
    LDM_TRY(check_request(scope, arena_, model_, options, request_));
    LDM_TRY(deep_.begin(scope, *model_.manifest, request_.variant));
    LDM_TRY(note_measured_otherwise(scope, request_, notices_));
    if (request_.to) LDM_TRY(conditioning_.read_ends(scope, request_, notices_));
    if (request_.image_is_transparent) {
        LDM_TRY(notices_.add(scope, "image", {"the image is transparent in parts; they were laid on white"}));
    }
    if (request_.mask_is_transparent) {
        LDM_TRY(notices_.add(scope, "mask", {"the mask is transparent in parts; they count as black, so the image is "
                             "kept there"}));
    }
    if (!model_.manifest->proof.passed) {
        LDM_TRY(notices_.add(scope, "package", {"the package has not passed verification; prove it with `ldm-export "
                             "verify`"}));
    }
    LDM_TRY(note_without_effect(scope, request_, notices_));
    LDM_TRY(conditioning_.begin(scope, request_, notices_));
    height_ = request_.latent_height(contract_);
    width_ = request_.latent_width(contract_);
    channels_ = positive(contract_.latent.channels);
    each_ = channels_ * height_ * width_;
    return noise_.start(scope, request_.noise_mode, request_.seeds, each_);
}

// ---- What is next ----

Status Run::next(Scope& scope, Task& out) {
    if (failed_ != nullptr) return scope.fail(failed_, {"the run has failed before; start another one"});
    out = Task();
    Status status = is_asked_ || ends_step_ ? Status() : ask_next(scope);
    if (!status.ok()) return failed(status);
    out.kind = is_asked_       ? Task::Kind::evaluate
               : ends_step_    ? Task::Kind::step
               : ends_preview_ ? Task::Kind::preview
                               : Task::Kind::done;
    ends_step_ = ends_preview_ = false;
    if (is_asked_) {
        out.component = component_;
        out.artefact = artefact_;
        out.inputs = {inputs_, input_count_};
        out.outputs = {outputs_, output_count_};
    }
    out.step = steps_done_;
    out.steps = request_.stop_after;
    out.evaluations = phase_ > Phase::noise ? signed_of(loop_.evaluations()) : 0;
    out.timestep = static_cast<double>(timestep_);
    return Status();
}

Status Run::failed(Status status) {
    failed_ = status.code();
    return status;
}

// Go on, phase by phase, to an evaluation or to the end.
Status Run::ask_next(Scope& scope) {
    while (!is_asked_ && !ends_preview_ && phase_ != Phase::done) {
        switch (phase_) {
            case Phase::text: LDM_TRY(ask_encoder_of_text(scope)); break;
            case Phase::start_image: LDM_TRY(ask_encoder_of_images(scope, request_.pixels, start_latents_)); break;
            case Phase::noise: LDM_TRY(draw_noise(scope)); break;
            case Phase::masked_image: LDM_TRY(ask_encoder_of_images(scope, request_.masked_pixels, masked_)); break;
            case Phase::denoise: LDM_TRY(ask_denoiser(scope)); break;
            case Phase::decode: LDM_TRY(ask_decoder(scope)); break;
            case Phase::done: break;
        }
    }
    return Status();
}

Status Run::ask_denoiser(Scope& scope) {
    if (steps_done_ == request_.stop_after) return begin_decoding(scope, loop_.latents());
    const DenoiserRole& role = contract_.denoiser;
    std::size_t batch = request_.batch;
    is_guided_ = request_.is_guided_at(loop_.evaluations());
    std::size_t rows = is_guided_ ? 2 * batch : batch;
    std::size_t added = concat_.size() / batch, wide = each_ + added;  // numbers of a row
    LDM_NEED(scope, sample_.resize(2 * batch * wide));
    LDM_NEED(scope, decoded_.resize(batch * each_));
    loop_.read_input(decoded_.data());  // scratch until there is something to decode
    for (std::size_t row = 0; row < rows; ++row) {
        float* into = sample_.data() + row * wide;
        std::memcpy(into, decoded_.data() + row % batch * each_, each_ * sizeof(float));
        if (added > 0) std::memcpy(into + each_, concat_.data() + row % batch * added, added * sizeof(float));
    }
    std::size_t first = conditioning_.rows() - rows;  // without guidance the prompts' alone
    std::int64_t count = signed_of(rows), h = signed_of(height_), w = signed_of(width_);
    timestep_ = static_cast<float>(loop_.row().timestep);
    ask(role.component);
    feed(role.sample, ElementType::float32, {count, signed_of(wide / height_ / width_), h, w}, sample_.data());
    feed(role.timestep, ElementType::float32, {}, &timestep_);
    feed(role.context, ElementType::float32,
         {count, signed_of(conditioning_.tokens()), signed_of(conditioning_.width())}, conditioning_.context(first));
    std::size_t place = 0;
    for (const json::Entry<ExtraRule>& entry : role.extra) {
        std::size_t width = positive(contract_.tensor(role.component, entry.key).dims[1].size);
        if (entry.value == ExtraRule::pooled_text) {
            feed(entry.key, ElementType::float32, {count, signed_of(width)}, conditioning_.pooled(first));
        } else {
            feed(entry.key, ElementType::float32, {count, signed_of(width)}, extra_.data() + place + first * width);
            place += conditioning_.rows() * width;
        }
    }
    want(role.output, {count, signed_of(channels_), h, w});
    if (deep_.are_kept()) ask_part(rows);
    return Status();
}

// With caching: all of the denoiser, and what is kept of it; or the part that reads that. Inputs that the graph does
// not have are not passed on to it.
void Run::ask_part(std::size_t rows) {
    View<Tensor> passed = deep_.next(loop_.evaluations(), rows, {inputs_, input_count_});
    std::size_t read = 0;
    for (std::size_t index = 0; index < input_count_; ++index) {
        if (deep_.reads(inputs_[index].name)) inputs_[read++] = inputs_[index];
    }
    input_count_ = read;
    artefact_ = deep_.artefact();
    for (const Tensor& each : passed) {
        if (deep_.is_whole()) {
            outputs_[output_count_++] = each;
        } else {
            inputs_[input_count_++] = each;
        }
    }
}

// latents: (B, C, h, w), of the denoiser.
Status Run::begin_decoding(Scope& scope, const float* latents) {
    LDM_NEED(scope, decoded_.resize(request_.batch * each_));
    for (std::size_t index = 0; index < decoded_.size(); ++index)
        decoded_[index] = contract_.latent.unscaled(latents[index]);
    phase_ = Phase::decode;
    place_ = 0;
    return Status();
}

Status Run::ask_decoder(Scope& scope) {
    if (place_ == request_.batch) {
        shown_ = now();
        phase_ = is_preview_ ? Phase::denoise : Phase::done;
        ends_preview_ = is_preview_;
        is_preview_ = false;
        return Status();
    }
    LDM_NEED(scope, images_.resize(request_.batch * image_bytes()));
    const CodecHalf& decoder = contract_.codec.decoder;
    ask(decoder.component);
    feed(decoder.input, ElementType::float32, {1, signed_of(channels_), signed_of(height_), signed_of(width_)},
         decoded_.data() + place_ * each_);
    want(decoder.output, {1, 3, request_.size.height, request_.size.width});
    return Status();
}

// ---- What came out ----

Status Run::give(Scope& scope, View<Tensor> outputs) {
    if (failed_ != nullptr) return scope.fail(failed_, {"the run has failed before; start another one"});
    if (!is_asked_) return scope.fail(codes::other_misuse, {"no evaluation is under way; ask for the next task first"});
    results_ = outputs;
    Status status;
    for (std::size_t index = 0; status.ok() && index < output_count_; ++index) {
        status = check_output(scope, outputs_[index]);
    }
    if (status.ok()) status = take(scope);
    results_ = {};
    return status;
}

// Take outputs that fit. A failure ends the run.
Status Run::take(Scope& scope) {
    is_asked_ = false;
    Status status;
    switch (phase_) {
        case Phase::text: status = take_text(scope); break;
        case Phase::start_image:
        case Phase::masked_image: status = take_encoded_image(); break;
        case Phase::denoise: status = take_denoiser(scope); break;
        case Phase::decode: status = take_decoder(); break;
        case Phase::noise:
        case Phase::done: break;
    }
    return status.ok() ? status : failed(status);
}

Status Run::check_output(Scope& scope, const Tensor& wanted) {
    const Tensor* found = result(wanted.name);
    if (found == nullptr || found->data == nullptr) {
        return scope.fail(codes::other_misuse,
                          {"the output ", quoted(wanted.name), " of ", component_, " was not given"});
    }
    bool fits = found->type == ElementType::float32 && found->rank == wanted.rank;
    for (std::size_t axis = 0; fits && axis < wanted.rank; ++axis) fits = found->shape[axis] == wanted.shape[axis];
    if (!fits) {
        return scope.fail(codes::engine_failed, {component_, " gave ", quoted(wanted.name),
                          " with another type or shape than its contract says; expected float32"});
    }
    bool is_kept = phase_ == Phase::denoise && wanted.name != contract_.denoiser.output;  // what reads it would tell
    if (is_kept || sampling::all_finite(static_cast<const float*>(found->data), positive(found->count()))) {
        return Status();
    }
    if (phase_ == Phase::denoise) {
        return failed(scope.fail(codes::result_not_finite, {"the model output at step ", steps_done_ + 1, " of ",
                                 request_.plan.taken(), " (timestep ", static_cast<double>(timestep_),
                                 ") holds NaN or infinity; no image is made of it"}));
    }
    return failed(scope.fail(codes::result_not_finite, {component_, " gave NaN or infinity in ", quoted(wanted.name),
                                                        "; no image is made of it"}));
}

const Tensor* Run::result(std::string_view name) const {
    for (const Tensor& tensor : results_) {
        if (tensor.name == name) return &tensor;
    }
    return nullptr;
}

Status Run::take_text(Scope& scope) {
    const Tensor* pooled = output_count_ > 1 ? result(outputs_[1].name) : nullptr;
    return conditioning_.give(scope, static_cast<const float*>(result(outputs_[0].name)->data),
                              pooled == nullptr ? nullptr : static_cast<const float*>(pooled->data));
}

Status Run::take_encoded_image() {
    std::size_t given = moments_.size() / request_.start_image_count;
    std::memcpy(moments_.data() + place_ * given, result(outputs_[0].name)->data, given * sizeof(float));
    ++place_;
    return Status();
}

Status Run::take_denoiser(Scope& scope) {
    if (deep_.is_whole()) LDM_TRY(deep_.keep(scope, results_));
    const auto* output = static_cast<const float*>(result(outputs_[0].name)->data);
    if (is_guided_) {
        sampling::guide(output, output + request_.batch * each_, request_.guidance, request_.guidance_rescale,
                        request_.batch, each_, loop_.output());
    } else {
        std::memcpy(loop_.output(), output, request_.batch * each_ * sizeof(float));
    }
    const float* noises[most_noises] = {};
    std::size_t count = 0;
    for (auto row : loop_.row().noise_rows) {
        View<float> noise;
        LDM_TRY(noise_.row(scope, static_cast<std::size_t>(row), noise));
        noises[count++] = noise.data;
    }
    LDM_TRY(loop_.advance(scope, noises));
    ends_step_ = signed_of(loop_.steps_done()) > steps_done_;
    is_within_step_ = !ends_step_;
    steps_done_ = signed_of(loop_.steps_done());
    return Status();
}

Status Run::take_decoder() {
    images::to_levels(static_cast<const float*>(result(outputs_[0].name)->data), positive(request_.size.height),
                      positive(request_.size.width), images_.data() + place_ * image_bytes());
    ++place_;
    return Status();
}

Status Run::preview(Scope& scope) {
    bool is_between = phase_ == Phase::denoise && !is_asked_ && failed_ == nullptr && loop_.evaluations() > 0;
    if (!is_between) {
        return scope.fail(codes::other_misuse, {"there is nothing to preview: ask for it after a step and before the "
                          "next evaluation"});
    }
    if (shown_.is_preview && shown_.evaluations == signed_of(loop_.evaluations())) {
        return scope.fail(codes::other_misuse, {"the preview of this evaluation is there already; look at it"});
    }
    Array<float> predicted(scope.memory);
    LDM_NEED(scope, predicted.resize(request_.batch * each_));
    loop_.predict(predicted.data());
    LDM_TRY(begin_decoding(scope, predicted.data()));
    is_preview_ = true;
    return Status();
}

bool Run::latents(const float*& out, std::int64_t shape[4]) const {
    if (steps_done_ == 0 && (phase_ < Phase::denoise || loop_.evaluations() == 0)) return false;
    out = loop_.latents();
    const std::size_t sizes[4] = {request_.batch, channels_, height_, width_};
    for (std::size_t axis = 0; axis < 4; ++axis) shape[axis] = signed_of(sizes[axis]);
    return true;
}

Status Run::describe(Scope& scope, Arena& arena, std::size_t image, View<Fact>& out) const {
    Moment so_far = now();
    so_far.is_preview = false;  // one that is still being decoded
    if (phase_ < Phase::denoise || loop_.evaluations() == 0) so_far.steps_done = request_.stop_after;  // the whole run
    bool is_shown = this->image(image) != nullptr;
    return ldm::describe(scope, arena, model_, request_, image, is_shown ? shown_ : so_far, out);
}

Moment Run::now() const { return {steps_done_, signed_of(loop_.evaluations()), is_within_step_, is_preview_}; }

std::int64_t Run::preview_step() const {
    if (image(0) == nullptr || !shown_.is_preview) return 0;
    return shown_.is_within_step ? shown_.steps_done + 1 : shown_.steps_done;
}

const std::uint8_t* Run::image(std::size_t index) const {
    bool is_whole = images_.size() == request_.batch * image_bytes() && phase_ != Phase::decode && failed_ == nullptr;
    return is_whole && index < request_.batch ? images_.data() + index * image_bytes() : nullptr;
}

// ---- The task ----

void Run::ask(std::string_view component) {
    const Way* way = request_.variant == nullptr ? nullptr : request_.variant->ways.find(component);
    component_ = component;
    artefact_ = way == nullptr ? std::string_view() : way->artefact;
    input_count_ = output_count_ = 0;
    is_asked_ = true;
}

void Run::feed(std::string_view name, ElementType type, std::initializer_list<std::int64_t> shape, const void* data) {
    put(inputs_[input_count_++], name, type, shape, data);
}

void Run::want(std::string_view name, std::initializer_list<std::int64_t> shape) {
    put(outputs_[output_count_++], name, ElementType::float32, shape, nullptr);
}

void Run::put(Tensor& tensor, std::string_view name, ElementType type, std::initializer_list<std::int64_t> shape,
              const void* data) {
    tensor = Tensor();
    tensor.name = name;
    tensor.type = type;
    for (std::int64_t size : shape) tensor.shape[tensor.rank++] = size;
    tensor.data = data;
}

}  // namespace ldm
