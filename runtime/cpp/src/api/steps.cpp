// Runs step by step: what is next, and what came out.
#include "src/api/handles.h"

#include <cstddef>

#include "core/codes.h"

using namespace ldm;

namespace {

ldm_tensor told(const Tensor& tensor) {
    ldm_tensor out;
    std::memset(&out, 0, sizeof out);
    out.name = tensor.name.data();
    out.element_type = tensor.type == ElementType::int64   ? LDM_INT64
                       : tensor.type == ElementType::int32 ? LDM_INT32
                                                           : LDM_FLOAT32;
    out.rank = static_cast<int32_t>(tensor.rank);
    std::memcpy(out.shape, tensor.shape, sizeof out.shape);
    out.data = tensor.data;
    size_t each = tensor.type == ElementType::int64 ? 8 : 4;
    out.bytes = static_cast<size_t>(tensor.count()) * each;
    return out;
}

int32_t kind_of(Task::Kind kind) {
    switch (kind) {
        case Task::Kind::evaluate: return LDM_TASK_EVALUATE;
        case Task::Kind::step: return LDM_TASK_STEP;
        case Task::Kind::preview: return LDM_TASK_PREVIEW;
        case Task::Kind::done: break;
    }
    return LDM_TASK_DONE;
}

static_assert(Run::most_outputs <= LDM_MOST_OUTPUTS);

// A task in the memory of its run.
ldm_task told(ldm_run& run, const Task& next) {
    ldm_task out;
    ldm_task_init(&out, sizeof out);
    for (size_t index = 0; index < next.inputs.size; ++index) run.inputs[index] = told(next.inputs[index]);
    for (size_t index = 0; index < next.outputs.size; ++index) run.outputs[index] = told(next.outputs[index]);
    out.kind = kind_of(next.kind);
    out.component = next.component.empty() ? nullptr : next.component.data();
    out.artefact = next.artefact.empty() ? nullptr : next.artefact.data();
    out.inputs = run.inputs;
    out.input_count = next.inputs.size;
    out.outputs = run.outputs;
    out.output_count = next.outputs.size;
    out.step = static_cast<int32_t>(next.step);
    out.steps = static_cast<int32_t>(next.steps);
    out.evaluations = static_cast<int32_t>(next.evaluations);
    out.timestep = next.timestep;
    return out;
}

bool keeps_features(const Run& run) {
    const Variant* variant = run.request().variant;
    return variant != nullptr && variant->run.caching.has_value();
}

// Whether the bytes are those of the shape.
bool has_bytes(const ldm_tensor& given) {
    size_t bytes = given.element_type == LDM_INT64 ? 8 : 4;
    for (int32_t axis = 0; axis < given.rank; ++axis) {
        int64_t size = given.shape[axis];
        if (size < 1 || static_cast<uint64_t>(size) > SIZE_MAX / bytes) return false;
        bytes *= static_cast<size_t>(size);
    }
    return given.bytes == bytes;
}

Status take(Scope& scope, const ldm_tensor& given, size_t index, Tensor& out) {
    if (given.name == nullptr || given.data == nullptr || given.rank < 0 || given.rank > 4 ||
        given.element_type < LDM_FLOAT32 || given.element_type > LDM_INT32) {
        return api::misused(scope, {"output ", index, " has no name, no data, or a type or rank of no tensor"});
    }
    if (!has_bytes(given)) {
        return api::misused(scope, {"output ", index, ", ", quoted(given.name), ", has ", given.bytes,
                                    " bytes, which are "
                                    "not those of its shape and type"});
    }
    out = Tensor();
    out.name = given.name;
    out.type = given.element_type == LDM_INT64   ? ElementType::int64
               : given.element_type == LDM_INT32 ? ElementType::int32
                                                 : ElementType::float32;
    out.rank = static_cast<size_t>(given.rank);
    std::memcpy(out.shape, given.shape, sizeof out.shape);
    out.data = given.data;
    return Status();
}

}  // namespace

Status ldm::api::require_going(Scope& scope, const ldm_run& run) {
    if (!run.is_cancelled.load(std::memory_order_relaxed) || run.run.is_over()) return Status();
    return scope.fail(codes::run_cancelled, {"the run was cancelled after step ", run.run.steps_done(), " of ",
                      run.run.request().plan.taken()});
}

void ldm_task_init(ldm_task* task, size_t struct_size) {
    api::begin(task, struct_size, [](ldm_task& it) { it.kind = LDM_TASK_DONE; });
}

ldm_status ldm_run_next(ldm_context* context, ldm_run* run, ldm_task* task) {
    return api::called(context, run, task != nullptr, "ldm_run_next needs a run and a task", [&](Scope& scope) {
        if (!api::is_begun(task)) return api::misused(scope, {"ldm_run_next needs a task that ldm_task_init began"});
        LDM_TRY(api::require_going(scope, *run));
        if (task->struct_size < offsetof(ldm_task, artefact) + sizeof task->artefact && keeps_features(run->run)) {
            return api::misused(scope, {"ldm_run_next needs a task that has `artefact`: the variant ",
                                        run->run.request().variant->name, " takes turns with two graphs of a "
                                        "component; use the header of this version"});
        }
        Task next;
        LDM_TRY(run->run.next(scope, next));
        api::hand_out(told(*run, next), *task);
        return Status();
    });
}

ldm_status ldm_run_give(ldm_context* context, ldm_run* run, const ldm_tensor* outputs, size_t output_count) {
    return api::called(context, run, outputs != nullptr, "ldm_run_give needs a run and outputs", [&](Scope& scope) {
        LDM_TRY(api::require_going(scope, *run));
        Tensor given[LDM_MOST_OUTPUTS];  // what was asked for: giving takes no memory of its own
        size_t count = 0;
        for (size_t index = 0; index < output_count; ++index) LDM_TRY(take(scope, outputs[index], index, given[0]));
        for (const Tensor& wanted : run->run.wanted()) {
            for (size_t index = 0; index < output_count; ++index) {
                if (wanted.name != outputs[index].name) continue;
                LDM_TRY(take(scope, outputs[index], index, given[count++]));
                break;
            }
        }
        return run->run.give(scope, {given, count});
    });
}

ldm_status ldm_run_preview(ldm_context* context, ldm_run* run) {
    return api::called(context, run, true, "ldm_run_preview needs a run", [&](Scope& scope) {
        LDM_TRY(api::require_going(scope, *run));
        return run->run.preview(scope);
    });
}
