// Between a run and the engines: what a task asks for is evaluated, and comes back as the run takes it.
#ifndef LDM_ENGINES_TASKS_H
#define LDM_ENGINES_TASKS_H

#include "core/run/run.h"
#include "src/engines/components.h"

namespace ldm::engines {

// Evaluate a task of a run with the components' variant. results: hold what came out, for as long as `out` is used.
// out: the outputs that the task asks for. Codes: those of Components::run; engine.failed where one is missing or not
// float32.
Status evaluate(Scope& scope, Components& components, const Task& task, Results& results, Array<ldm::Tensor>& out);

}  // namespace ldm::engines

#endif
