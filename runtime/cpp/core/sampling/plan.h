// Compile (schedule, sampler, steps) to a sampling plan: a table of float64 numbers that one loop runs.
//
// Every sampler here is linear in the latent, the model outputs and the noise, with coefficients that do not depend on
// the data. A row of the plan is one model evaluation; its matrix maps
//     [x, history…, model output, noise…]  ->  [x, history…]
// What is not linear, clipping the predicted image x0, is a hook of the loop: such a plan's matrices read the clipped
// x0 too, as a column after the model output.
//
//     Sampler sampler;
//     Plan plan;
//     LDM_TRY(read_sampler(scope, "dpmpp_2m_karras", sampler));
//     LDM_TRY(compile_plan(scope, arena, schedule, sampler, 20, 0, plan));
#ifndef LDM_CORE_SAMPLING_PLAN_H
#define LDM_CORE_SAMPLING_PLAN_H

#include <cstdint>
#include <optional>

#include "core/memory.h"
#include "core/sampling/sampler.h"
#include "core/sampling/schedule.h"
#include "core/sampling/solvers/options.h"
#include "core/sampling/solvers/rows.h"
#include "core/sha256.h"
#include "core/status.h"

namespace ldm::sampling {

// All a sampling loop needs; the rows live in an arena. It starts from x = initial_scale * noise, history = zeros. A
// plan that starts late, for image to image, starts from `noised` latents instead.
struct Plan {
    Sampler sampler;
    std::int64_t steps = 0;  // as asked for; rows, the model evaluations, may be more
    std::int64_t start = 0;  // steps that are left out at the beginning
    std::size_t history = 0;
    double initial_scale = 1.0;
    std::optional<Hook> hook;
    View<PlanRow> rows;
    Digest identity;  // SHA-256 of the inputs: schedule, sampler, steps, start

    // The number of sampling steps from `start` on. Each is one or more rows.
    std::int64_t taken() const { return steps - start; }
};

// Refuse a sampler that cannot walk the schedule: request.sampler.
Status check_sampler(Scope& scope, const Schedule& schedule, const Sampler& sampler);

// Compile the plan of `steps` steps, from step `start` (counted from 0) on. request.sampler for what the sampler or the
// schedule cannot do; request.invalid for steps or a start out of range.
Status compile_plan(Scope& scope, Arena& arena, const Schedule& schedule, const Sampler& sampler, std::int64_t steps,
                    std::int64_t start, Plan& out);

// Refuse steps that no plan of a sampler has on a schedule, in a fraction of a plan's time: noise levels and options
// are checked as compile_plan does, but no row after the first one is made.
Status check_steps(Scope& scope, const Schedule& schedule, const Sampler& sampler, std::int64_t steps);

}  // namespace ldm::sampling

#endif
