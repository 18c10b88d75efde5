#include "core/sampling/plan.h"

#include "core/codes.h"
#include "core/text/numbers.h"

namespace ldm::sampling {

namespace {

template <typename Can>
void add_samplers(Failure& failure, Can can) {
    const char* between = "";
    for (const Solver& each : solvers()) {
        if (!can(each)) continue;
        failure.add({between, each.name});
        between = ", ";
    }
}

void add_predictions(Failure& failure, const Solver& solver) {
    const char* between = "";
    for (Prediction each :
         {Prediction::epsilon, Prediction::v_prediction, Prediction::sample, Prediction::flow_prediction}) {
        if (!solver.takes(each)) continue;
        failure.add({between, name_of(each)});
        between = " or ";
    }
}

Status check_between(Scope& scope, std::string_view name, std::int64_t value, std::int64_t low, std::int64_t high) {
    if (value >= low && value <= high) return Status();
    return scope.fail(codes::request_invalid, {name, " is ", value, "; expected an integer from ", low, " to ", high});
}

// Make the rows of a plan; its steps and start are in range.
Status solve(Scope& scope, const Schedule& schedule, const Sampler& sampler, std::int64_t steps, std::int64_t start,
             Rows& rows) {
    Spacing spacing = sampler.solver->spacing.value_or(Spacing::linspace);
    if (sampler.solver->spacing && !schedule.is_flow) spacing = schedule.noise.timestep_spacing.value_or(spacing);
    Array<double> bars(scope.memory), training(scope.memory);
    if (!schedule.is_flow) {
        LDM_TRY(alphas_cumprod(scope, schedule.noise, bars));
        LDM_TRY(training_ratios(scope, schedule.noise, bars.view(), training));
    }
    auto first = static_cast<std::size_t>(start), count = static_cast<std::size_t>(steps);
    bool hooked = sampler.hook().has_value();
    Problem problem{schedule.noise, schedule.flow, spacing, count, first, hooked, bars.view(), training.view()};
    return sampler.solver->solve(scope, problem, sampler.options, rows);
}

// Hashes lines `name=value`, which come sorted by name: numbers as %.17g, as any language can.
class Identity {
public:
    void line(std::string_view name, std::string_view value) {
        hash_.update(name);
        hash_.update("=");
        hash_.update(value);
        hash_.update("\n");
    }
    void line(std::string_view name, double value) { line(name, numbers::exact(value).view()); }
    void line(std::string_view name, std::int64_t value) { line(name, static_cast<double>(value)); }  // below 2^53
    void line(std::string_view name, bool value) { line(name, value ? "true" : "false"); }
    void line(std::string_view name, const char* value) { line(name, std::string_view(value)); }
    Digest finish() { return hash_.finish(); }

private:
    Sha256 hash_;
};

Digest identity_of(const Plan& plan, const FlowSchedule& schedule) {
    Identity identity;
    identity.line("num_train_timesteps", schedule.num_train_timesteps);
    identity.line("sampler", plan.sampler.canonical().view());
    identity.line("shift", schedule.shift);
    if (schedule.shift_terminal) {
        identity.line("shift_terminal", *schedule.shift_terminal);
    } else {
        identity.line("shift_terminal", "none");
    }
    identity.line("start", plan.start);
    identity.line("steps", plan.steps);
    return identity.finish();
}

Digest identity_of(const Plan& plan, const NoiseSchedule& schedule) {
    Identity identity;
    identity.line("beta_end", schedule.beta_end);
    identity.line("beta_schedule", name_of(schedule.beta_schedule));
    identity.line("beta_start", schedule.beta_start);
    identity.line("num_train_timesteps", schedule.num_train_timesteps);
    identity.line("prediction_type", name_of(schedule.prediction_type));
    identity.line("rescale_betas_zero_snr", schedule.rescale_betas_zero_snr);
    identity.line("sampler", plan.sampler.canonical().view());
    identity.line("set_alpha_to_one", schedule.set_alpha_to_one);
    identity.line("start", plan.start);
    identity.line("steps", plan.steps);
    identity.line("steps_offset", schedule.steps_offset);
    identity.line("timestep_spacing", schedule.timestep_spacing ? name_of(*schedule.timestep_spacing) : "none");
    return identity.finish();
}

}  // namespace

Status check_sampler(Scope& scope, const Schedule& schedule, const Sampler& sampler) {
    const Solver& solver = *sampler.solver;
    Prediction prediction = schedule.prediction_type();
    if (!solver.takes(prediction)) {
        scope.failure.set(codes::request_sampler, {"sampler ", quoted(solver.name), " does not take models with ",
                          quoted(name_of(prediction)), " prediction, only with "});
        add_predictions(scope.failure, solver);
        scope.failure.add({"; use one of "});
        add_samplers(scope.failure, [=](const Solver& each) { return each.takes(prediction); });
        return Status(codes::request_sampler);
    }
    if (!schedule.is_flow && schedule.noise.rescale_betas_zero_snr && !solver.zero_snr) {
        scope.failure.set(codes::request_sampler, {"sampler ", quoted(solver.name),
                          " does not take a schedule with zero terminal SNR (rescale_betas_zero_snr); use one of "});
        add_samplers(scope.failure, [](const Solver& each) { return each.zero_snr; });
        return Status(codes::request_sampler);
    }
    return Status();
}

Status compile_plan(Scope& scope, Arena& arena, const Schedule& schedule, const Sampler& sampler, std::int64_t steps,
                    std::int64_t start, Plan& out) {
    LDM_TRY(check_sampler(scope, schedule, sampler));
    LDM_TRY(check_between(scope, "steps", steps, 1, schedule.num_train_timesteps()));
    LDM_TRY(check_between(scope, "start", start, 0, steps - 1));
    Rows rows(scope, arena, schedule.prediction_type(), sampler.hook().has_value(), false);
    LDM_TRY(solve(scope, schedule, sampler, steps, start, rows));
    out.sampler = sampler;
    out.steps = steps;
    out.start = start;
    out.history = rows.history();
    out.initial_scale = rows.initial_scale;
    out.hook = sampler.hook();
    out.identity = schedule.is_flow ? identity_of(out, schedule.flow) : identity_of(out, schedule.noise);
    LDM_NEED(scope, arena.copy(rows.rows().data(), rows.rows().size(), out.rows));
    return Status();
}

Status check_steps(Scope& scope, const Schedule& schedule, const Sampler& sampler, std::int64_t steps) {
    LDM_TRY(check_sampler(scope, schedule, sampler));
    LDM_TRY(check_between(scope, "steps", steps, 1, schedule.num_train_timesteps()));
    Arena arena(scope.memory);
    Rows rows(scope, arena, schedule.prediction_type(), sampler.hook().has_value(), true);
    Status status = solve(scope, schedule, sampler, steps, 0, rows);
    return status.code() == Rows::begun ? Status() : status;
}

}  // namespace ldm::sampling
