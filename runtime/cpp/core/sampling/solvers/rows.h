// Rows of a sampling plan, and how a solver makes them out of linear forms.
#ifndef LDM_CORE_SAMPLING_SOLVERS_ROWS_H
#define LDM_CORE_SAMPLING_SOLVERS_ROWS_H

#include <cmath>
#include <cstdint>
#include <limits>

#include "core/memory.h"
#include "core/sampling/schedule.h"
#include "core/sampling/solvers/few.h"
#include "core/sampling/solvers/forms.h"
#include "core/status.h"

namespace ldm::sampling {

inline constexpr double infinity = std::numeric_limits<double>::infinity();
inline constexpr double no_timestep = std::numeric_limits<double>::quiet_NaN();  // of levels that no model sees

// A noise level: x = alpha * x0 + sigma * eps. timestep: what the model is told there.
struct Level {
    double timestep = no_timestep;
    double alpha = 0.0;
    double sigma = 0.0;

    // sigma / alpha; infinite without signal.
    double ratio() const { return alpha > 0.0 ? sigma / alpha : infinity; }
    // ln(alpha / sigma), the lambda of DPM-Solver; infinite without noise.
    double log_snr() const { return sigma > 0.0 ? -std::log(ratio()) : infinity; }
};

using Levels = Array<Level>;
using Nodes = Few<Level, most_history + 1>;

// The variance-preserving level with sigma / alpha = ratio.
inline Level level_of_ratio(double timestep, double ratio) {
    double alpha = 1.0 / std::sqrt(ratio * ratio + 1.0);
    return {timestep, alpha, ratio * alpha};
}

// The variance-preserving level with alphas_cumprod = bar.
inline Level level_of_bar(double timestep, double bar) { return {timestep, std::sqrt(bar), std::sqrt(1.0 - bar)}; }

// `count` levels back from the i-th, the latest first.
inline Nodes levels_before(const Levels& levels, std::size_t i, std::size_t count) {
    Nodes nodes;
    for (std::size_t k = 0; k < count; ++k) nodes.push(levels[i - k]);
    return nodes;
}

// One model evaluation; alpha, sigma: the noise level at `timestep`; _next: after the row. Lives in the plan's arena.
struct PlanRow {
    double timestep = 0.0;
    double input_scale = 1.0;  // the model sees input_scale * x
    double alpha = 0.0, sigma = 0.0;
    double alpha_next = 0.0, sigma_next = 0.0;
    double data_x = 0.0, data_output = 0.0;  // the predicted image is x0 = data_x * x + data_output * output
    // (1 + history, columns): the lines make the next x and history; the columns are x, history, output, with a hook
    // the clipped x0, and one noise for each of noise_rows.
    View<double> matrix;
    std::size_t columns = 0;
    Few<std::size_t, 2> noise_rows;  // plan rows whose noise stream is read
    bool ends_step = true;           // x is now where the sampling step leads; false: the step has more evaluations

    std::size_t lines() const { return columns == 0 ? 0 : matrix.size / columns; }
    const double* line(std::size_t index) const { return matrix.data + index * columns; }
};

// What a row reads, as linear forms. x0: clipped, where the plan has a hook; eps: of the raw output.
struct Reading {
    Level level;
    double scale = 1.0;
    Form x;
    Forms history;
    Form output;
    Form x0;
    Form eps;
    double data_x = 0.0, data_output = 0.0;
    bool hooked = false;

    // eps; with a hook, that of the clipped x0.
    Form eps_of_x0() const { return hooked ? (scale * x - level.alpha * x0) / level.sigma : eps; }
};

// The rows of a plan in the making: `read` at a noise level, compute with forms, `write`.
//
// The state is x and `history` more tensors, zeros at the start. hooked: x0 comes clipped from the loop, as a column of
// its own.
//
// Where Python's arithmetic fails, by dividing by zero or an overflow, a number here is infinite or NaN. It spreads to
// the row's numbers, and `write` refuses them.
class Rows {
public:
    Rows(Scope& scope, Arena& arena, Prediction prediction, bool hooked, bool only_first)
        : scope_(scope), arena_(arena), rows_(scope.memory), prediction_(prediction), hooked_(hooked),
          only_first_(only_first) {}

    // Once, before the first row.
    void keep(std::size_t history) { history_ = history; }

    // scale: the model sees scale * x, the variance-preserving latent. What cannot be read is refused by `write`.
    Reading read(const Level& level, double scale = 1.0);

    // The symbol of unit-variance noise: of the row being made, or of the row before it.
    Form noise(std::size_t rows_ago = 0) const { return Form::of(rows_ago == 0 ? noise_symbol : noise_before_symbol); }

    // Add the row that leaves x and the history; history slots that are not given become zeros. ends_step: false for an
    // evaluation inside of a sampling step. request.sampler for numbers that are not finite; `begun` where only the
    // first row was wanted.
    Status write(const Reading& reading, const Level& after, const Form& x, const Forms& history = {},
                 bool ends_step = true);

    std::size_t history() const { return history_; }
    const Array<PlanRow>& rows() const { return rows_; }

    static constexpr char begun[] = "the first row is made";  // the code of that status: one address
    double initial_scale = 1.0;  // of the noise that the plan starts from

private:
    Status fill(PlanRow& row, const Form& x, const Forms& history);

    Scope& scope_;
    Arena& arena_;
    Array<PlanRow> rows_;
    Prediction prediction_;
    bool hooked_;
    bool only_first_;
    std::size_t history_ = 0;
};

// eps of latent = alpha * x0 + sigma * eps, from the model's output there.
Form noise_prediction(Prediction prediction, const Level& level, const Form& latent, const Form& output);

}  // namespace ldm::sampling

#endif
