// The one sampling loop, without its evaluations: the twin of ldm_runtime.sampling.loop. The host scales, evaluates the
// model and guides; the loop multiplies by the plan's row.
//
//     Loop loop(memory);
//     LDM_TRY(loop.begin(scope, plan, {batch, each, noise}));
//     while (!loop.is_done()) {
//         loop.read_input(input);  // for the model, at loop.row().timestep
//         …                        // its output, guided, into loop.output()
//         …                        // unit-variance noise for each of loop.row().noise_rows
//         LDM_TRY(loop.advance(scope, noises));
//         …                        // loop.latents(); loop.steps_done() of plan.taken()
//     }
//
// Threads may run loops of one plan at the same time.
#ifndef LDM_CORE_SAMPLING_LOOP_H
#define LDM_CORE_SAMPLING_LOOP_H

#include <cstddef>

#include "core/memory.h"
#include "core/sampling/plan.h"
#include "core/status.h"

namespace ldm::sampling {

// What a loop starts from: a batch of images of `each` numbers (C * h * w).
struct LoopStart {
    std::size_t batch = 0, each = 0;
    const float* noise = nullptr;  // of unit variance; the plan scales it
    const float* image = nullptr;  // an image's latents to start from, noised to the level of the first row; or null
};

// Inpainting: after each row the image's own latents come back where the mask is 0, with the noise of the next row's
// level. The arrays must live as long as the loop.
struct Keeping {
    const float* mask = nullptr;  // (h * w), the same for all images and channels
    std::size_t plane = 0;        // h * w
    const float* image = nullptr;
    const float* noise = nullptr;
};

class Loop {
public:
    explicit Loop(Allocator& memory) : numbers_(memory) {}

    // Once. The plan must live as long as the loop; the start is copied. result.not-finite for noise or an image that
    // holds NaN or infinity.
    Status begin(Scope& scope, const Plan& plan, const LoopStart& start);
    void keep(const Keeping& keeping) { keeping_ = keeping; }

    // The row to run, until none is left.
    bool is_done() const { return index_ == plan_->rows.size; }
    const PlanRow& row() const { return plan_->rows[index_]; }
    void read_input(float* out) const;  // what the model sees: batch * each numbers

    // Where the model's output for the row goes: batch * each numbers, guided.
    float* output() { return at(output_); }

    // Take the output, and a noise for each of the row's noise_rows, and go to the next row. result.not-finite names
    // the step where the output or the latents hold NaN or infinity; the loop is of no use then.
    Status advance(Scope& scope, const float* const* noises);

    std::size_t size() const { return size_; }  // of a batch: batch * each
    std::size_t evaluations() const { return index_; }
    std::size_t steps_done() const { return steps_done_; }
    const float* latents() const { return at(state_[0]); }

    // Of the row before, after an `advance` and up to the next one.
    const PlanRow& last_row() const { return plan_->rows[index_ - 1]; }
    void predict(float* out) const;  // the clean latents x0 that the model predicts there

private:
    static constexpr std::size_t most_lines = 1 + most_history, most_columns = most_lines + 4;
    using Slot = std::size_t;  // one of the tensors that the loop owns
    static constexpr Slot no_slot = static_cast<Slot>(-1);
    struct Columns;

    float* at(Slot slot) { return numbers_.data() + slot * size_; }
    const float* at(Slot slot) const { return numbers_.data() + slot * size_; }
    Slot free_slot(const Slot* others, std::size_t count) const;
    Slot line(const float* coefficients, const Columns& columns, const Slot* taken, std::size_t count, bool may_move);
    void keep_outside();
    Status check_finite(Scope& scope, const float* values, const char* what);

    const Plan* plan_ = nullptr;
    std::size_t batch_ = 0, each_ = 0, size_ = 0, slots_ = 0;
    Array<float> numbers_;     // the slots, and a scratch tensor
    Slot state_[most_lines] = {};  // x and the history
    Slot output_ = 0;
    Slot before_ = no_slot, last_output_ = no_slot;  // x and output of the row before
    Keeping keeping_;
    std::size_t index_ = 0, steps_done_ = 0;
};

}  // namespace ldm::sampling

#endif
