// Sampling plans as JSON, as `ldm-export plan --json` writes them.
#include "src/api/handles.h"

#include "core/text/numbers.h"
#include "src/files/text.h"

using namespace ldm;

namespace {

class PlanText {
public:
    explicit PlanText(Allocator& memory) : text_(memory) {}

    void put(const sampling::Plan& plan) {
        text_.put("{\"sampler\": ");
        text_.quoted(plan.sampler.canonical().view());
        text_.put(", \"steps\": ");
        text_.number(plan.steps);
        text_.put(", \"start\": ");
        text_.number(plan.start);
        text_.put(", \"identity\": ");
        text_.quoted(plan.identity.hex().view());
        text_.put(", \"history\": ");
        text_.number(plan.history);
        text_.put(", \"initial_scale\": ");
        real(plan.initial_scale);
        text_.put(", \"hook\": ");
        hook(plan.hook);
        text_.put(", \"rows\": [");
        for (std::size_t index = 0; index < plan.rows.size; ++index) {
            if (index > 0) text_.put(", ");
            row(plan.rows[index]);
        }
        text_.put("]}");
    }
    const files::Text& text() const { return text_; }

private:
    void real(double value) { text_.put(numbers::shortest(value).view()); }

    template <typename... Numbers>
    void reals(Numbers... numbers) {
        const char* between = "[";
        ((text_.put(between), real(numbers), between = ", "), ...);
        text_.put("]");
    }

    void hook(const std::optional<sampling::Hook>& hook) {
        if (!hook) return text_.put("null");
        text_.put("{\"kind\": ");
        text_.quoted(hook->kind == sampling::Hook::Kind::clip ? "clip" : "threshold");
        text_.put(", \"limit\": ");
        real(hook->limit);
        text_.put(", \"ratio\": ");
        real(hook->ratio);
        text_.put("}");
    }

    void row(const sampling::PlanRow& row) {
        text_.put("{\"timestep\": ");
        real(row.timestep);
        text_.put(", \"input_scale\": ");
        real(row.input_scale);
        text_.put(", \"levels\": ");
        reals(row.alpha, row.sigma, row.alpha_next, row.sigma_next);
        text_.put(", \"data\": ");
        reals(row.data_x, row.data_output);
        text_.put(", \"matrix\": [");
        for (std::size_t line = 0; line < row.lines(); ++line) {
            text_.put(line == 0 ? "[" : ", [");
            for (std::size_t column = 0; column < row.columns; ++column) {
                if (column > 0) text_.put(", ");
                real(row.line(line)[column]);
            }
            text_.put("]");
        }
        text_.put("], \"noise_rows\": [");
        for (std::size_t index = 0; index < row.noise_rows.size(); ++index) {
            if (index > 0) text_.put(", ");
            text_.number(row.noise_rows[index]);
        }
        text_.put(row.ends_step ? "], \"ends_step\": true}" : "], \"ends_step\": false}");
    }

    files::Text text_;
};

Status compile(Scope& scope, const Model& model, const char* sampler_text, int32_t steps, int32_t start, Array<char>& out) {
    const Defaults& defaults = model.contract().defaults;
    sampling::Sampler sampler;
    LDM_TRY(sampling::read_sampler(scope, sampler_text == nullptr ? defaults.sampler : sampler_text, sampler));
    Arena arena(scope.memory);
    sampling::Plan plan;
    LDM_TRY(sampling::compile_plan(scope, arena, model.contract().schedule, sampler, steps == 0 ? defaults.steps : steps, start, plan));
    PlanText text(scope.memory);
    text.put(plan);
    out.shrink(0);
    LDM_NEED(scope, text.text().fits() && out.append(text.text().view().data(), text.text().view().size()) && out.push('\0'));
    return Status();
}

}  // namespace

ldm_status ldm_plan_json(ldm_context* context, const ldm_package* package, const char* sampler, int32_t steps, int32_t start,
                         const char** json) {
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
