// A run: from a request to images, one evaluation of a component at a time. It never opens a file, runs a graph or
// starts a thread: the host asks what is next, runs that component however it likes, and gives back what came out.
//
//     Run run(memory, model);
//     LDM_TRY(run.begin(scope, options));
//     Task task;
//     while (true) {
//         LDM_TRY(run.next(scope, task));
//         if (task.kind == Task::Kind::done) break;
//         if (task.kind != Task::Kind::evaluate) continue;   // look, preview, or stop
//         ... evaluate task.component on task.inputs ...
//         LDM_TRY(run.give(scope, outputs));
//     }
//     run.image(0)                                           // (height, width, 3)
//
// The order of what it does is that of diffusers' pipelines, whose generators give one number after the other: text
// encoders, the latents of the image to start from, the initial noise, the latents of the masked image, the rows of the
// plan, the decoder.
#ifndef LDM_CORE_RUN_RUN_H
#define LDM_CORE_RUN_RUN_H

#include <cstdint>
#include <string_view>

#include "core/memory.h"
#include "core/noise/noise.h"
#include "core/notices.h"
#include "core/run/conditioning.h"
#include "core/run/deep_features.h"
#include "core/run/metadata.h"
#include "core/run/model.h"
#include "core/run/options.h"
#include "core/run/request.h"
#include "core/run/tensor.h"
#include "core/sampling/loop.h"
#include "core/status.h"

namespace ldm {

// What a run needs next. It lasts until the next call of `next` or `give`.
struct Task {
    enum class Kind { evaluate, step, preview, done } kind = Kind::done;
    std::string_view component;
    std::string_view artefact;   // of it, that the variant says; "": any that is the component's own
    View<Tensor> inputs;
    View<Tensor> outputs;        // that are needed, without data
    std::int64_t step = 0;       // sampling steps that are done
    std::int64_t steps = 0;      // of the run
    std::int64_t evaluations = 0;  // of the denoiser so far
    double timestep = 0.0;       // at which it was evaluated last
};

class Run {
public:
    static constexpr std::size_t most_inputs = 16 + DeepFeatures::most;  // of a task
    static constexpr std::size_t most_outputs = 1 + DeepFeatures::most;

    Run(Allocator& memory, const Model& model);

    // Check the options, compile the plan and read the prompts. Codes: request.*.
    Status begin(Scope& scope, const RunOptions& options);
    // Say what is needed next. Asked twice, it says an evaluation again, but a step once.
    Status next(Scope& scope, Task& out);
    // Take the outputs of the last evaluation. engine.failed for another type or shape, result.not-finite.
    Status give(Scope& scope, View<Tensor> outputs);
    // Decode the image that the model predicts now, after an evaluation of the denoiser and before the next task: the
    // next ones do, up to a task of kind `preview`, after which the run goes on.
    Status preview(Scope& scope);

    const Request& request() const { return request_; }
    View<Notice> notices() const { return notices_.all(); }
    // After the last step, or in between: float32 (B, C, h, w). False before the first one.
    bool latents(const float*& out, std::int64_t shape[4]) const;
    // How image `image` was made, in the arena: the one that there is, else what is drawn so far.
    Status describe(Scope& scope, Arena& arena, std::size_t image, View<Fact>& out) const;
    // Of the last `done` or `preview`: (height, width, 3); null before one.
    const std::uint8_t* image(std::size_t index) const;
    // The step, from 1, after or within which the preview was asked for that `image` has; 0: none.
    std::int64_t preview_step() const;
    // Whether an evaluation is under way, whose outputs are to be given.
    bool is_asking() const { return is_asked_; }
    // What is to be given next; none where nothing is asked for.
    View<Tensor> wanted() const { return {outputs_, is_asked_ ? output_count_ : 0}; }
    // Whether it came to its end, or failed.
    bool is_over() const { return phase_ == Phase::done || failed_ != nullptr; }
    // How far it is, as in a task.
    std::int64_t steps_done() const { return steps_done_; }

private:
    enum class Phase { text, start_image, noise, masked_image, denoise, decode, done };
    static constexpr std::size_t most_noises = 8;

    Status ask_next(Scope& scope);
    Status ask_encoder_of_text(Scope& scope);
    Status ask_encoder_of_images(Scope& scope, View<float> pixels, Array<float>& latents);
    Status ask_denoiser(Scope& scope);
    Status ask_decoder(Scope& scope);

    Status draw_noise(Scope& scope);
    Status draw_other(Scope& scope, View<std::uint64_t> seeds, Array<float>& out);
    Status draw_between(Scope& scope);
    Status vary(Scope& scope);
    Status join_concat(Scope& scope);
    Status make_extra_inputs(Scope& scope);
    Status begin_denoising(Scope& scope);
    Status begin_decoding(Scope& scope, const float* latents);

    Status take(Scope& scope);
    Status check_output(Scope& scope, const Tensor& wanted);
    Status take_text(Scope& scope);
    Status take_encoded_image();
    Status take_denoiser(Scope& scope);
    Status take_decoder();
    Status failed(Status status);

    void ask(std::string_view component);
    void ask_part(std::size_t rows);
    void feed(std::string_view name, ElementType type, std::initializer_list<std::int64_t> shape, const void* data);
    void want(std::string_view name, std::initializer_list<std::int64_t> shape);
    static void put(Tensor& tensor, std::string_view name, ElementType type, std::initializer_list<std::int64_t> shape,
                    const void* data);
    const Tensor* result(std::string_view name) const;
    Moment now() const;
    std::size_t image_bytes() const { return static_cast<std::size_t>(request_.size.width * request_.size.height * 3); }

    const Model& model_;
    const Contract& contract_;
    Arena arena_;
    Request request_;
    Notices notices_;
    Conditioning conditioning_;
    Noise noise_;
    DeepFeatures deep_;
    sampling::Loop loop_;

    Phase phase_ = Phase::text;
    bool is_asked_ = false;       // an evaluation whose outputs are not given yet
    bool ends_step_ = false;      // a step that is to be told
    bool is_within_step_ = false; // the last evaluation of the denoiser ended none
    bool is_preview_ = false;     // what is being decoded
    bool ends_preview_ = false;   // one that is to be told
    bool is_guided_ = false;      // the evaluation of the denoiser that is under way
    const char* failed_ = nullptr;  // the code of the failure that ended it
    std::size_t place_ = 0;       // of an image within the phase
    std::int64_t steps_done_ = 0;
    std::size_t channels_ = 0, height_ = 0, width_ = 0, each_ = 0;  // of latents; each_: numbers of an image's

    Tensor inputs_[most_inputs], outputs_[most_outputs];
    std::size_t input_count_ = 0, output_count_ = 0;
    View<Tensor> results_;        // during `give`
    std::string_view component_, artefact_;

    Array<std::int64_t> ids_;     // of a window, for encoders that read int64
    Array<float> sample_;         // (rows, channels, h, w): the denoiser's input
    Array<float> extra_;          // the denoiser's other inputs, one after the other
    Array<float> moments_;        // of images as they are encoded
    Array<float> start_latents_;  // (B, C, h, w): latents of the image to start from
    Array<float> masked_;         // (B, C, h, w): latents of the masked image, for a denoiser that reads them
    Array<float> concat_;         // (B, 1 + C, h, w)
    Array<float> initial_;        // (B, C, h, w): noise of unit variance
    Array<float> decoded_;        // (B, C, h, w): latents of what is being decoded, unscaled
    Array<std::uint8_t> images_;  // (B, height, width, 3)
    Moment shown_;                // what they are of
    float timestep_ = 0.0f;
};

}  // namespace ldm

#endif
