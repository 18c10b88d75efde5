#include "core/sampling/solvers/pndm.h"

#include <algorithm>
#include <cmath>

#include "core/codes.h"

namespace ldm::sampling {

namespace {

// Equal steps; weights of the slopes, the latest first.
Numbers adams_bashforth(std::size_t order) {
    switch (order) {
        case 1: return {1.0};
        case 2: return {3.0 / 2.0, -1.0 / 2.0};
        case 3: return {23.0 / 12.0, -16.0 / 12.0, 5.0 / 12.0};
        default: return {55.0 / 24.0, -59.0 / 24.0, 37.0 / 24.0, -9.0 / 24.0};
    }
}

// A trained level. Before the first timestep comes full signal, or the first timestep's once more.
Level level_at(const Problem& problem, double timestep) { return level_of_bar(timestep, problem.bar_before(timestep)); }

// Go from timestep t to `end` with the model output that stands for the whole way (equation 9).
Form transfer(const Problem& problem, const Form& x, const Form& output, double t, double end) {
    Level now = level_at(problem, t), after = level_at(problem, end);
    Form eps = noise_prediction(problem.schedule.prediction_type, now, x, output);
    double divisor = now.alpha * (now.alpha * after.sigma + now.sigma * after.alpha);
    return after.alpha / now.alpha * x - (after.alpha * after.alpha - now.alpha * now.alpha) / divisor * eps;
}

// Write three Runge-Kutta steps of four rows, from the first of the timesteps to the fourth.
Status write_prk(const Problem& problem, View<double> timesteps, double half, Rows& rows) {
    static constexpr double weights[] = {1.0 / 6.0, 1.0 / 3.0, 1.0 / 3.0, 1.0 / 6.0};
    for (std::size_t step = 0; step < 3; ++step) {
        double t = timesteps[step], t_next = timesteps[step + 1], middle = t_next + half;
        const double evaluations[] = {t, middle, middle, t_next};
        const double ends[] = {t - half, middle, middle - half, t_next};  // where each row leaves x
        for (std::size_t row = 0; row < 4; ++row) {
            bool first = evaluations[row] == t;
            Reading read = rows.read(level_at(problem, evaluations[row]));
            const Forms& history = read.history;  // e1, e2, e3, where the step began, the sum
            Form begun = first ? read.x : history[3];
            Form summed = first ? weights[row] * read.output : history[4] + weights[row] * read.output;
            Form x = transfer(problem, begun, row == 3 ? summed : read.output, t, ends[row]);
            Forms past = first ? Forms{read.output, history[0], history[1]} : history.first(3);
            LDM_TRY(rows.write(read, level_at(problem, ends[row]), x, past.with({begun, summed}),
                               evaluations[row] == t_next));
        }
    }
    return Status();
}

// Write Adams-Bashforth steps of up to order 4; without outputs to begin with, the second row repeats a step.
Status write_plms(const Problem& problem, View<double> timesteps, double stride, std::size_t outputs, Rows& rows) {
    std::size_t known = outputs;
    for (std::size_t index = 0; index < timesteps.size; ++index) {
        double evaluated = timesteps[index], t = evaluated, end = evaluated - stride;
        Reading read = rows.read(level_at(problem, evaluated));
        Form begun = read.x, used;
        Forms past = Forms{read.output}.with(read.history, 3);  // the slopes, the latest first
        if (outputs == 0 && index == 1) {
            begun = read.history[3], t = evaluated + stride, end = evaluated;
            used = 0.5 * (read.output + read.history[0]);
            past = read.history;
        } else {
            known = std::min(known + 1, std::size_t{4});
            used = weighted_sum(adams_bashforth(known), past);
        }
        Form x = transfer(problem, begun, used, t, end);
        bool is_repeated = outputs == 0 && index == 0 && timesteps.size > 1;
        LDM_TRY(rows.write(read, level_at(problem, end), x, past.first(3).with({begun}), !is_repeated));
    }
    return Status();
}

}  // namespace

Status solve_pndm(Scope& scope, const Problem& problem, const PndmOptions& options, Rows& rows) {
    Array<double> timesteps(scope.memory);
    LDM_TRY(integer_timesteps(scope, problem.schedule, problem.spacing, problem.steps, false, 0, timesteps));
    std::int64_t stride = problem.schedule.num_train_timesteps / static_cast<std::int64_t>(problem.steps);
    auto step = static_cast<double>(stride);
    if (options.skip_prk_steps) {
        rows.keep(4);  // three outputs, the latest first; x where a step began
        Array<double> repeated(scope.memory);  // the second timestep twice
        std::size_t begun = std::min(problem.steps, std::size_t{2});
        LDM_NEED(scope, repeated.append(timesteps.data(), begun));
        LDM_NEED(scope, repeated.append(timesteps.data() + 1, problem.steps - 1));
        View<double> taken{repeated.data() + problem.start, repeated.size() - problem.start};
        return write_plms(problem, taken, step, 0, rows);
    }
    if (problem.steps < 4 || problem.start > 0) {
        return scope.fail(codes::request_sampler,
                          {"sampler 'pndm': its Runge-Kutta start needs 4 steps or more, from the first one on; got ",
                           problem.steps, " from step ", problem.start + 1, "; set skip_prk_steps=true"});
    }
    rows.keep(5);  // the same, and a Runge-Kutta sum
    LDM_TRY(write_prk(problem, timesteps.view(), static_cast<double>(stride / 2), rows));
    return write_plms(problem, {timesteps.data() + 3, problem.steps - 3}, step, 3, rows);
}

}  // namespace ldm::sampling
