#include "core/sampling/loop.h"

#include <algorithm>

#include "core/codes.h"
#include "core/sampling/arithmetic.h"

namespace ldm::sampling {

// The columns of a row: x, history, output, with a hook the clipped x0, and noise.
struct Loop::Columns {
    const float* values[most_columns];
    Slot slots[most_columns];  // no_slot for what the loop does not own
    std::size_t size = 0;

    void push(const float* tensor, Slot slot) {
        values[size] = tensor;
        slots[size++] = slot;
    }
};

Status Loop::begin(Scope& scope, const Plan& plan, const LoopStart& start) {
    plan_ = &plan;
    batch_ = start.batch;
    each_ = start.each;
    // The state before and after a row, the output and the clipped x0 of one; then a scratch tensor.
    slots_ = 2 * (1 + plan.history) + 2;
    std::size_t most = static_cast<std::size_t>(-1) / 8 / (slots_ + 1);
    LDM_NEED(scope, each_ == 0 || batch_ <= most / each_);
    size_ = batch_ * each_;
    LDM_NEED(scope, numbers_.resize((slots_ + 1) * size_));  // zeros: the history
    for (Slot slot = 0; slot < 1 + plan.history; ++slot) state_[slot] = slot;
    output_ = 1 + plan.history;
    if (start.image == nullptr) {
        scale(start.noise, plan.initial_scale, size_, at(state_[0]));
    } else {
        noised(plan.rows[0], start.image, start.noise, size_, at(state_[0]));
    }
    if (all_finite(at(state_[0]), size_)) return Status();
    return scope.fail(codes::result_not_finite, {"the initial noise holds NaN or infinity; no image is made of it"});
}

void Loop::read_input(float* out) const { scale(latents(), row().input_scale, size_, out); }

void Loop::predict(float* out) const { data_prediction(last_row(), at(before_), at(last_output_), size_, out); }

// A slot that is none of the state's, nor of others.
Loop::Slot Loop::free_slot(const Slot* others, std::size_t count) const {
    Slot slot = 0;
    auto is_taken = [&] {
        return std::find(state_, state_ + 1 + plan_->history, slot) != state_ + 1 + plan_->history ||
               std::find(others, others + count, slot) != others + count;
    };
    while (is_taken()) ++slot;
    return slot;
}

// One line of a row's matrix: the slot of its sum. A tensor that only moves is not copied.
Loop::Slot Loop::line(const float* coefficients, const Columns& columns, const Slot* taken, std::size_t count,
                      bool may_move) {
    std::size_t used = 0, last = 0;
    for (std::size_t column = 0; column < columns.size; ++column) {
        if (coefficients[column] == 0.0f) continue;
        last = column;
        ++used;
    }
    bool is_moved = used == 1 && coefficients[last] == 1.0f && columns.slots[last] != no_slot;
    if (is_moved && may_move) return columns.slots[last];
    Slot slot = free_slot(taken, count);
    weighted_sum(coefficients, columns.values, columns.size, size_, at(slot));
    return slot;
}

Status Loop::advance(Scope& scope, const float* const* noises) {
    const PlanRow& its = row();
    LDM_TRY(check_finite(scope, at(output_), "the model output at"));

    Slot taken[2 + most_lines] = {output_};
    std::size_t count = 1;
    Columns columns;
    for (std::size_t slot = 0; slot < 1 + plan_->history; ++slot) columns.push(at(state_[slot]), state_[slot]);
    columns.push(at(output_), output_);
    if (plan_->hook) {
        Slot clipped = free_slot(taken, count);
        data_prediction(its, latents(), at(output_), size_, at(clipped));
        clip(*plan_->hook, batch_, each_, at(clipped), at(slots_));
        columns.push(at(clipped), clipped);
        taken[count++] = clipped;
    }
    for (std::size_t each = 0; each < its.noise_rows.size(); ++each) columns.push(noises[each], no_slot);

    Slot next[most_lines] = {};
    for (std::size_t each = 0; each < its.lines(); ++each) {
        float coefficients[most_columns];
        for (std::size_t column = 0; column < columns.size; ++column) {
            coefficients[column] = static_cast<float>(its.line(each)[column]);
        }
        bool may_move = each > 0 || keeping_.mask == nullptr;
        next[each] = line(coefficients, columns, taken, count, may_move);
        taken[count++] = next[each];
    }
    before_ = state_[0];
    last_output_ = output_;
    std::copy(next, next + its.lines(), state_);
    const Slot held[] = {before_, last_output_};
    output_ = free_slot(held, 2);
    if (keeping_.mask != nullptr) keep_outside();
    LDM_TRY(check_finite(scope, latents(), "the latent after"));
    ++index_;
    steps_done_ += its.ends_step;
    return Status();
}

// x has a slot of its own then. The next row's output is not there yet, so its slot is free.
void Loop::keep_outside() {
    const float* kept = keeping_.image;
    if (index_ + 1 < plan_->rows.size) {
        noised(plan_->rows[index_ + 1], keeping_.image, keeping_.noise, size_, at(output_));
        kept = at(output_);
    }
    lay_over(kept, keeping_.mask, keeping_.plane, size_, at(state_[0]));
}

Status Loop::check_finite(Scope& scope, const float* values, const char* what) {
    if (all_finite(values, size_)) return Status();
    return scope.fail(codes::result_not_finite, {what, " step ", steps_done_ + 1, " of ", plan_->taken(), " (timestep ",
                      row().timestep, ") holds NaN or infinity; no image is made of it"});
}

}  // namespace ldm::sampling
