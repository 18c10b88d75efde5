// The beginning of a run: texts, images and noise, up to the first evaluation of the denoiser.
#include "core/run/counts.h"
#include "core/run/extra_inputs.h"
#include "core/run/run.h"
#include "core/sampling/arithmetic.h"

namespace ldm {

Status Run::ask_encoder_of_text(Scope& scope) {
    WantedWindow wanted;
    if (!conditioning_.wanted(wanted)) {
        LDM_TRY(conditioning_.finish(scope, request_));
        bool is_read = request_.start_image_count > 0 && !(request_.starts_from_noise() && contract_.inpaints());
        phase_ = is_read ? Phase::start_image : Phase::noise;
        return Status();
    }
    const TextRole& role = contract_.text[wanted.encoder];
    std::int64_t window = contract_.window();
    ask(role.component);
    if (contract_.tensor(role.component, role.input).dtype == "int32") {
        feed(role.input, ElementType::int32, {1, window}, wanted.ids);
    } else {
        LDM_NEED(scope, ids_.resize(positive(window)));
        for (std::size_t token = 0; token < ids_.size(); ++token) ids_[token] = wanted.ids[token];
        feed(role.input, ElementType::int64, {1, window}, ids_.data());
    }
    want(role.output, {1, window, contract_.tensor(role.component, role.output).dims[2].size});
    if (role.pooled) want(*role.pooled, {1, contract_.tensor(role.component, *role.pooled).dims[1].size});
    return Status();
}

// Encode one image after the other, then draw their latents from what the encoder gave.
Status Run::ask_encoder_of_images(Scope& scope, View<float> pixels, Array<float>& latents) {
    bool has_moments = contract_.encodes_moments();
    std::size_t given = has_moments ? 2 * each_ : each_;  // numbers that the encoder gives for an image
    if (place_ < request_.start_image_count) {
        LDM_NEED(scope, moments_.resize(request_.start_image_count * given));
        std::size_t values = pixels.size / request_.start_image_count;
        const CodecHalf& encoder = contract_.codec.encoder;
        ask(encoder.component);
        feed(encoder.input, ElementType::float32, {1, 3, request_.size.height, request_.size.width},
             pixels.data + place_ * values);
        want(encoder.output, {1, signed_of(given / height_ / width_), signed_of(height_), signed_of(width_)});
        return Status();
    }
    place_ = 0;
    Array<float> noise(scope.memory);
    LDM_NEED(scope, noise.resize(has_moments ? noise_.size() : 0) && latents.resize(noise_.size()));
    std::uint32_t stream = phase_ == Phase::start_image ? vae_stream : masked_stream;
    if (has_moments) LDM_TRY(noise_.stream(scope, stream, noise.data()));
    for (std::size_t image = 0; image < request_.batch; ++image) {
        const float* mean = moments_.data() + (request_.start_image_count == 1 ? 0 : image) * given;
        for (std::size_t index = 0; index < each_; ++index) {
            std::size_t number = image * each_ + index;
            latents[number] = has_moments ? contract_.latent.sampled(mean[index], mean[each_ + index], noise[number])
                                          : contract_.latent.scaled(mean[index]);
        }
    }
    if (phase_ == Phase::start_image) {
        phase_ = Phase::noise;
        return Status();
    }
    LDM_TRY(join_concat(scope));
    return begin_denoising(scope);
}

// Draw the initial noise, after the noise of the image and before that of the masked one.
Status Run::draw_noise(Scope& scope) {
    LDM_NEED(scope, initial_.resize(noise_.size()));
    if (request_.to) {
        LDM_TRY(draw_between(scope));
    } else if (request_.latents.empty()) {
        LDM_TRY(noise_.initial(scope, initial_.data()));
    } else {
        std::memcpy(initial_.data(), request_.latents.data, initial_.size() * sizeof(float));
    }
    if (request_.variation) LDM_TRY(vary(scope));
    if (!request_.masked_pixels.empty()) {
        phase_ = Phase::masked_image;
        return Status();
    }
    if (!request_.mask.empty() && request_.noise_mode.kind != NoiseMode::Kind::philox && contract_.encodes_moments()) {
        Array<float> unused(scope.memory);  // diffusers encodes the masked image here too
        LDM_NEED(scope, unused.resize(noise_.size()));
        LDM_TRY(noise_.stream(scope, masked_stream, unused.data()));
    }
    return begin_denoising(scope);
}

// The noise of one seed for each image, of a generator of its own.
Status Run::draw_other(Scope& scope, View<std::uint64_t> seeds, Array<float>& out) {
    Noise other(scope.memory);
    LDM_TRY(other.start(scope, request_.noise_mode, seeds, each_));
    LDM_NEED(scope, out.resize(other.size()));
    return other.initial(scope, out.data());
}

// The noise on the arc between the two ends of an interpolation.
Status Run::draw_between(Scope& scope) {
    Array<float> first(scope.memory), last(scope.memory);
    LDM_TRY(draw_other(scope, request_.seeds, first));
    LDM_TRY(draw_other(scope, {&request_.to->seed, 1}, last));
    sampling::slerp(first.data(), last.data(), request_.to->share, each_, initial_.data());
    return Status();
}

// Move the noise of each image towards that of another seed.
Status Run::vary(Scope& scope) {
    Array<std::uint64_t> seeds(scope.memory);
    Array<float> other(scope.memory), varied(arena_.memory());  // the run keeps it
    LDM_TRY(batch_seeds(scope, request_.variation->seed, request_.batch, seeds));
    LDM_TRY(draw_other(scope, seeds.view(), other));
    LDM_NEED(scope, varied.resize(other.size()));
    for (std::size_t image = 0; image < request_.batch; ++image) {
        std::size_t first = image * each_;
        sampling::slerp(initial_.data() + first, other.data() + first, request_.variation->strength, each_,
                        varied.data() + first);
    }
    initial_ = static_cast<Array<float>&&>(varied);
    return Status();
}

// The channels after the latents: the mask, then the latents of the masked image.
Status Run::join_concat(Scope& scope) {
    std::size_t plane = height_ * width_, joined = plane + each_;
    LDM_NEED(scope, concat_.resize(request_.batch * joined));
    for (std::size_t image = 0; image < request_.batch; ++image) {
        float* into = concat_.data() + image * joined;
        std::memcpy(into, request_.mask.data, plane * sizeof(float));
        std::memcpy(into + plane, masked_.data() + image * each_, each_ * sizeof(float));
    }
    return Status();
}

Status Run::begin_denoising(Scope& scope) {
    sampling::LoopStart start;
    start.batch = request_.batch;
    start.each = each_;
    start.noise = initial_.data();
    start.image = request_.starts_from_noise() ? nullptr : start_latents_.data();
    LDM_TRY(loop_.begin(scope, request_.plan, start));
    if (!request_.mask.empty() && request_.masked_pixels.empty()) {
        loop_.keep({request_.mask.data, height_ * width_, start_latents_.data(), initial_.data()});
    }
    LDM_TRY(make_extra_inputs(scope));
    phase_ = Phase::denoise;
    return Status();
}

// The denoiser's inputs by rule, for all rows: pooled text lies in the conditioning, the others one after the other
// here.
Status Run::make_extra_inputs(Scope& scope) {
    std::size_t rows = conditioning_.rows();
    for (const json::Entry<ExtraRule>& entry : contract_.denoiser.extra) {
        if (entry.value == ExtraRule::pooled_text) continue;
        std::size_t width = positive(contract_.tensor(contract_.denoiser.component, entry.key).dims[1].size);
        std::size_t first = extra_.size();
        LDM_NEED(scope, extra_.resize(first + rows * width));
        if (entry.value == ExtraRule::image_sizes) {
            image_sizes(request_.sizes, extra_.data() + first);
        } else {
            guidance_embedding(request_.guidance, width, extra_.data() + first);
        }
        for (std::size_t row = 1; row < rows; ++row) {
            std::memcpy(extra_.data() + first + row * width, extra_.data() + first, width * sizeof(float));
        }
    }
    return Status();
}

}  // namespace ldm
