#include "core/sampling/schedule.h"

#include <algorithm>
#include <cmath>

#include "core/codes.h"
#include "core/json/plain.h"

namespace ldm::sampling {

template <typename Visitor>
void fields(Visitor& visit, FlowSchedule& it) {
    visit("num_train_timesteps", it.num_train_timesteps);
    visit("shift", it.shift);
    visit("shift_terminal", it.shift_terminal);
}

namespace {

constexpr std::string_view beta_schedules[] = {"linear", "scaled_linear", "squaredcos_cap_v2"};
constexpr std::string_view predictions[] = {"epsilon", "v_prediction", "sample", "flow_prediction"};
constexpr std::string_view spacings[] = {"leading", "linspace", "trailing"};
constexpr std::size_t predictions_of_noise = 3;  // the last one is that of flows alone
constexpr std::int64_t least_timesteps = 2, most_timesteps = 100'000;
constexpr double smallest_beta = 1e-8;
constexpr double smallest_signal = 1e-30;  // of alphas_cumprod before any rescaling; divisions by it stay finite
constexpr double pi = 3.141592653589793;

// A noise schedule as JSON has it, its names not yet looked up.
struct NoiseFields {
    NoiseSchedule numbers;
    std::string_view beta_schedule, prediction_type;
    std::optional<std::string_view> timestep_spacing;
};

template <typename Visitor>
void fields(Visitor& visit, NoiseFields& it) {
    visit("num_train_timesteps", it.numbers.num_train_timesteps);
    visit("beta_start", it.numbers.beta_start);
    visit("beta_end", it.numbers.beta_end);
    visit("beta_schedule", it.beta_schedule);
    visit("prediction_type", it.prediction_type);
    visit("timestep_spacing", it.timestep_spacing);
    visit("steps_offset", it.numbers.steps_offset);
    visit("set_alpha_to_one", it.numbers.set_alpha_to_one);
    visit("rescale_betas_zero_snr", it.numbers.rescale_betas_zero_snr);
}

// The checks of one schedule's fields.
struct Checks {
    Scope& scope;
    const json::Where& where;

    Status refuse(std::string_view name, std::initializer_list<Piece> what) const {
        return json::fail(scope, json::Where(where, name), codes::schedule_invalid, what);
    }
    Status between(std::string_view name, std::int64_t value, std::int64_t low, std::int64_t high) const {
        if (value >= low && value <= high) return Status();
        return refuse(name, {"is ", json::shown(value), "; expected an integer from ", low, " to ", high});
    }
    Status between(std::string_view name, double value, double low, double high) const {
        if (value >= low && value <= high) return Status();
        return refuse(name, {"is ", exactly(value), "; expected a number from ", low, " to ", high});
    }
    Status beta(std::string_view name, double value) const {
        if (value >= smallest_beta && value < 1.0) return Status();
        return refuse(name, {"is ", exactly(value), "; expected a number from ", smallest_beta, " to less than 1"});
    }
    template <typename Choice>
    Status choice(std::string_view name, std::string_view text, View<std::string_view> names, Choice& out) const {
        const std::string_view* found = std::find(names.begin(), names.end(), text);
        if (found == names.end()) {
            Status status = refuse(name, {"is ", quoted(text), "; expected one of "});
            for (const std::string_view& each : names) scope.failure.add({&each == names.begin() ? "" : ", ", each});
            return status;
        }
        out = static_cast<Choice>(found - names.begin());
        return Status();
    }
};

// The beta of a timestep, before any rescaling to zero terminal SNR.
double beta_at(const NoiseSchedule& schedule, std::int64_t timestep) {
    auto index = static_cast<double>(timestep), count = static_cast<double>(schedule.num_train_timesteps);
    if (schedule.beta_schedule == BetaSchedule::squaredcos_cap_v2) {
        auto bar = [count](double i) {
            double root = std::cos((i / count + 0.008) / 1.008 * pi / 2.0);
            return root * root;
        };
        return std::min(1.0 - bar(index + 1.0) / bar(index), 0.999);
    }
    if (schedule.beta_schedule == BetaSchedule::linear) {
        return schedule.beta_start + index * ((schedule.beta_end - schedule.beta_start) / (count - 1.0));
    }
    double start = std::sqrt(schedule.beta_start), end = std::sqrt(schedule.beta_end);
    double root = start + index * ((end - start) / (count - 1.0));
    return root * root;
}

Status check(const Checks& checks, const NoiseFields& fields, NoiseSchedule& out) {
    out = fields.numbers;
    LDM_TRY(checks.between("num_train_timesteps", out.num_train_timesteps, least_timesteps, most_timesteps));
    LDM_TRY(checks.between("steps_offset", out.steps_offset, 0, out.num_train_timesteps - 1));
    LDM_TRY(checks.choice("beta_schedule", fields.beta_schedule, {beta_schedules, 3}, out.beta_schedule));
    LDM_TRY(checks.choice("prediction_type", fields.prediction_type, {predictions, predictions_of_noise},
                          out.prediction_type));
    if (fields.timestep_spacing) {
        LDM_TRY(
            checks.choice("timestep_spacing", *fields.timestep_spacing, {spacings, 3}, out.timestep_spacing.emplace()));
    }
    LDM_TRY(checks.beta("beta_start", out.beta_start));
    LDM_TRY(checks.beta("beta_end", out.beta_end));
    if (out.beta_start > out.beta_end) {
        return checks.refuse("beta_start",
                             {"is ", exactly(out.beta_start), ", above beta_end ", exactly(out.beta_end)});
    }
    double signal = 1.0;
    for (std::int64_t t = 0; t < out.num_train_timesteps; ++t) signal *= 1.0 - beta_at(out, t);
    if (signal >= smallest_signal) return Status();
    return checks.refuse("num_train_timesteps", {"is ", out.num_train_timesteps, ", which to beta_end ",
                         exactly(out.beta_end), " leave a signal of ", signal, "; expected ", smallest_signal,
                         " or more: use fewer or smaller betas"});
}

Status check(const Checks& checks, const FlowSchedule& schedule) {
    LDM_TRY(checks.between("num_train_timesteps", schedule.num_train_timesteps, least_timesteps, most_timesteps));
    LDM_TRY(checks.between("shift", schedule.shift, 1e-3, 1e3));
    return schedule.shift_terminal ? checks.between("shift_terminal", *schedule.shift_terminal, 0.0, 0.999) : Status();
}

}  // namespace

std::string_view name_of(BetaSchedule value) { return beta_schedules[static_cast<int>(value)]; }
std::string_view name_of(Prediction value) { return predictions[static_cast<int>(value)]; }
std::string_view name_of(Spacing value) { return spacings[static_cast<int>(value)]; }

Status read(json::Reader& reader, const json::Value& value, const json::Where& where, Schedule& out) {
    Checks checks{reader.scope, where};
    out.is_flow = json::shared_keys<FlowSchedule>(value) > json::shared_keys<NoiseFields>(value);
    if (out.is_flow) {
        LDM_TRY(json::read(reader, value, where, out.flow));
        return check(checks, out.flow);
    }
    NoiseFields fields;
    LDM_TRY(json::read(reader, value, where, fields));
    return check(checks, fields, out.noise);
}

Status plain(json::Reader& reader, const Schedule& schedule, json::Value& out) {
    if (schedule.is_flow) return json::plain(reader, schedule.flow, out);
    const NoiseSchedule& noise = schedule.noise;
    NoiseFields fields{noise, name_of(noise.beta_schedule), name_of(noise.prediction_type), std::nullopt};
    if (noise.timestep_spacing) fields.timestep_spacing = name_of(*noise.timestep_spacing);
    return json::plain(reader, fields, out);
}

Status alphas_cumprod(Scope& scope, const NoiseSchedule& schedule, Array<double>& out) {
    auto count = static_cast<std::size_t>(schedule.num_train_timesteps);
    LDM_NEED(scope, out.resize(count));
    double product = 1.0;
    for (std::size_t t = 0; t < count; ++t) out[t] = product *= 1.0 - beta_at(schedule, static_cast<std::int64_t>(t));
    if (!schedule.rescale_betas_zero_snr) return Status();
    double first = std::sqrt(out[0]), last = std::sqrt(out[count - 1]);
    for (double& bar : out) {
        double root = (std::sqrt(bar) - last) * (first / (first - last));
        bar = root * root;
    }
    return Status();
}

}  // namespace ldm::sampling
