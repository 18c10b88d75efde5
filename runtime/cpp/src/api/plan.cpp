// Sampling plans as JSON, as `ldm-export plan --json` writes them.
#include "src/api/handles.h"

#include "core/json/plain.h"
#include "core/json/write.h"

using namespace ldm;

namespace {

constexpr std::string_view kinds[] = {"clip", "threshold"};

struct HookText {
    std::string_view kind;
    double limit = 0.0, ratio = 0.0;
};

struct RowText {
    double timestep = 0.0, input_scale = 0.0;
    View<double> levels, data;
    View<View<double>> matrix;
    View<std::int64_t> noise_rows;
    bool ends_step = false;
};

struct PlanText {
    std::string_view sampler;
    std::int64_t steps = 0, start = 0;
    std::string_view identity;
    std::int64_t history = 0;
    double initial_scale = 0.0;
    std::optional<HookText> hook;
    View<RowText> rows;
};

template <typename Visitor>
void fields(Visitor& visit, HookText& it) {
    visit("kind", it.kind);
    visit("limit", it.limit);
    visit("ratio", it.ratio);
}

template <typename Visitor>
void fields(Visitor& visit, RowText& it) {
    visit("timestep", it.timestep);
    visit("input_scale", it.input_scale);
    visit("levels", it.levels);
    visit("data", it.data);
    visit("matrix", it.matrix);
    visit("noise_rows", it.noise_rows);
    visit("ends_step", it.ends_step);
}

template <typename Visitor>
void fields(Visitor& visit, PlanText& it) {
    visit("sampler", it.sampler);
    visit("steps", it.steps);
    visit("start", it.start);
    visit("identity", it.identity);
    visit("history", it.history);
    visit("initial_scale", it.initial_scale);
    visit("hook", it.hook);
    visit("rows", it.rows);
}

template <typename T>
Status keep(Scope& scope, Arena& arena, std::initializer_list<T> values, View<T>& out) {
    LDM_NEED(scope, arena.copy(values.begin(), values.size(), out));
    return Status();
}

Status describe(Scope& scope, Arena& arena, const sampling::PlanRow& row, RowText& out) {
    out.timestep = row.timestep;
    out.input_scale = row.input_scale;
    LDM_TRY(keep(scope, arena, {row.alpha, row.sigma, row.alpha_next, row.sigma_next}, out.levels));
    LDM_TRY(keep(scope, arena, {row.data_x, row.data_output}, out.data));
    auto* lines = arena.make<View<double>>(row.lines());
    auto* noise_rows = arena.make<std::int64_t>(row.noise_rows.size());
    LDM_NEED(scope, lines != nullptr && noise_rows != nullptr);
    for (std::size_t line = 0; line < row.lines(); ++line) lines[line] = {row.line(line), row.columns};
    for (std::size_t index = 0; index < row.noise_rows.size(); ++index) {
        noise_rows[index] = static_cast<std::int64_t>(row.noise_rows[index]);
    }
    out.matrix = {lines, row.lines()};
    out.noise_rows = {noise_rows, row.noise_rows.size()};
    out.ends_step = row.ends_step;
    return Status();
}

Status put(Scope& scope, Arena& arena, const sampling::Plan& plan, Array<char>& out) {
    auto canonical = plan.sampler.canonical();
    Digest::Hex identity = plan.identity.hex();
    PlanText text;
    text.sampler = canonical.view();
    text.steps = plan.steps;
    text.start = plan.start;
    text.identity = identity.view();
    text.history = static_cast<std::int64_t>(plan.history);
    text.initial_scale = plan.initial_scale;
    if (const auto& hook = plan.hook) {
        text.hook = HookText{kinds[static_cast<std::size_t>(hook->kind)], hook->limit, hook->ratio};
    }
    auto* rows = arena.make<RowText>(plan.rows.size);
    LDM_NEED(scope, rows != nullptr);
    text.rows = {rows, plan.rows.size};
    for (const sampling::PlanRow& row : plan.rows) LDM_TRY(describe(scope, arena, row, *rows++));
    json::Reader reader{scope, arena};
    json::Value value;
    LDM_TRY(json::plain_whole(reader, text, value));
    out.shrink(0);
    LDM_NEED(scope, json::write(value, {}, scope.memory, out) && out.push('\0'));
    return Status();
}

Status compile(Scope& scope, const Model& model, const char* sampler_text, int32_t steps, int32_t start,
               Array<char>& out) {
    const Defaults& defaults = model.contract().defaults;
    sampling::Sampler sampler;
    LDM_TRY(sampling::read_sampler(scope, sampler_text == nullptr ? defaults.sampler : sampler_text, sampler));
    Arena arena(scope.memory);
    sampling::Plan plan;
    LDM_TRY(sampling::compile_plan(scope, arena, model.contract().schedule, sampler,
                                   steps == 0 ? defaults.steps : steps, start, plan));
    return put(scope, arena, plan, out);
}

}  // namespace

ldm_status ldm_plan_json(ldm_context* context, const ldm_package* package, const char* sampler, int32_t steps,
                         int32_t start, const char** json) {
    if (json != nullptr) *json = nullptr;
    return api::called(context, [&](Scope& scope) {
        if (package == nullptr || json == nullptr) {
            return api::misused(scope, {"ldm_plan_json needs a package and a place for the text"});
        }
        LDM_TRY(compile(scope, package->model, sampler, steps, start, context->plan));
        *json = context->plan.data();
        return Status();
    });
}
