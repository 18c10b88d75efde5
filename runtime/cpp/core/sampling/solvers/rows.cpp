#include "core/sampling/solvers/rows.h"

#include <algorithm>

#include "core/codes.h"

namespace ldm::sampling {

namespace {

// (a, b) of x0 = a * x + b * model output, where scale * x is alpha * x0 + sigma * eps.
void set_data_weights(Prediction prediction, const Level& level, double scale, double& a, double& b) {
    double alpha = level.alpha, sigma = level.sigma;
    switch (prediction) {
        case Prediction::epsilon: a = scale / alpha, b = -sigma / alpha; break;
        case Prediction::v_prediction: a = alpha * scale, b = -sigma; break;
        case Prediction::flow_prediction: a = scale, b = -sigma; break;  // the output is eps - x0, alpha is 1 - sigma
        case Prediction::sample: a = 0.0, b = 1.0; break;
    }
}

}  // namespace

Form noise_prediction(Prediction prediction, const Level& level, const Form& latent, const Form& output) {
    switch (prediction) {
        case Prediction::epsilon: return output;
        case Prediction::v_prediction: return level.alpha * output + level.sigma * latent;
        case Prediction::flow_prediction: return latent + level.alpha * output;
        case Prediction::sample: break;
    }
    return (latent - level.alpha * output) / level.sigma;
}

Reading Rows::read(const Level& level, double scale) {
    Reading read;
    read.level = level;
    read.scale = scale;
    read.x = Form::of(x_symbol);
    read.output = Form::of(output_symbol);
    for (std::size_t slot = 0; slot < history_; ++slot) read.history.push(Form::of(history_symbol + slot));
    set_data_weights(prediction_, level, scale, read.data_x, read.data_output);
    read.x0 = hooked_ ? Form::of(clipped_symbol) : read.data_x * read.x + read.data_output * read.output;
    read.eps = noise_prediction(prediction_, level, scale * read.x, read.output);
    read.hooked = hooked_;
    return read;
}

Status Rows::write(const Reading& reading, const Level& after, const Form& x, const Forms& history, bool ends_step) {
    const Level& level = reading.level;
    if (level.alpha == 0.0 && prediction_ == Prediction::epsilon) {
        return scope_.fail(codes::request_sampler,
                           {"this sampler cannot start at zero signal with epsilon prediction (alpha is 0); use another"
                            " sampler, or a schedule without rescale_betas_zero_snr"});
    }
    PlanRow row;
    row.timestep = level.timestep;
    row.input_scale = reading.scale;
    row.alpha = level.alpha;
    row.sigma = level.sigma;
    row.alpha_next = after.alpha;
    row.sigma_next = after.sigma;
    row.data_x = reading.data_x;
    row.data_output = reading.data_output;
    row.ends_step = ends_step;
    LDM_TRY(fill(row, x, history));
    auto is_finite = [](double number) { return std::isfinite(number); };
    const double others[] = {level.timestep, level.alpha, level.sigma, after.alpha, after.sigma, row.data_x,
                             row.data_output};
    if (!std::all_of(row.matrix.begin(), row.matrix.end(), is_finite) ||
        !std::all_of(std::begin(others), std::end(others), is_finite)) {
        return scope_.fail(
            codes::request_sampler,
            {"this sampler cannot take the step from timestep ", level.timestep, " (alpha ", level.alpha, ", sigma ",
             level.sigma, ") to alpha ", after.alpha, ", sigma ", after.sigma,
             ": it would divide by zero, since noise levels meet or the last one is 0; use fewer steps or"
             " other options of it, or another sampler"});
    }
    LDM_NEED(scope_, rows_.push(row));
    return only_first_ ? Status(begun) : Status();
}

// The matrix of a row, whose columns are the symbols that every row has, and the noises that a line reads.
Status Rows::fill(PlanRow& row, const Form& x, const Forms& history) {
    Few<Form, 1 + most_history> lines{x};
    for (std::size_t slot = 0; slot < history_; ++slot) lines.push(slot < history.size() ? history[slot] : Form());
    std::size_t symbols[symbol_count] = {}, count = 0;
    for (std::size_t symbol = 0; symbol < symbol_count; ++symbol) {
        bool is_noise = symbol >= noise_before_symbol;
        auto reads = [symbol](const Form& line) { return line.weights[symbol] != 0.0; };
        bool is_read = std::any_of(lines.begin(), lines.end(), reads);
        if (symbol >= history_symbol + history_ && symbol < output_symbol) continue;
        if ((symbol == clipped_symbol && !hooked_) || (is_noise && !is_read)) continue;
        symbols[count++] = symbol;
        if (is_noise) row.noise_rows.push(rows_.size() - (symbol == noise_before_symbol));
    }
    double* matrix = arena_.make<double>(lines.size() * count);
    LDM_NEED(scope_, matrix != nullptr);
    row.matrix = {matrix, lines.size() * count};
    row.columns = count;
    for (const Form& line : lines) {
        for (std::size_t each = 0; each < count; ++each) *matrix++ = line.weights[symbols[each]] + 0.0;  // no -0
    }
    return Status();
}

}  // namespace ldm::sampling
