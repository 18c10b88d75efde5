// Engines: ONNX Runtime on the components of a package.
#include "src/api/handles.h"

#include "core/codes.h"
#include "src/engines/components.h"

using namespace ldm;

struct ldm_engine {
    Allocator memory;
    ldm_package* package;
    engines::Components components;

    ldm_engine(Allocator given, ldm_package* its) : memory(given), package(its), components(memory, *its->opened) {}
};

namespace {

// Open every component but the encoder of images, which is opened when an image is given.
Status open_components(Scope& scope, ldm_engine& engine) {
    const Contract& contract = engine.package->model.contract();
    for (const json::Entry<ComponentContract>& component : contract.components) {
        if (component.key != contract.codec.encoder.component) LDM_TRY(engine.components.open(scope, component.key));
    }
    return Status();
}

Status read_settings(Scope& scope, const ldm_engine_options& options, engines::Settings& out) {
    if (options.library != nullptr) out.library = options.library;
    if (options.provider != nullptr) out.provider = options.provider;
    out.threads = options.threads;
    out.options = {options.provider_keys, options.provider_values, options.provider_option_count};
    bool is_usable = options.provider_option_count == 0 || (options.provider_keys != nullptr && options.provider_values != nullptr);
    for (size_t index = 0; is_usable && index < options.provider_option_count; ++index) {
        is_usable = options.provider_keys[index] != nullptr && options.provider_values[index] != nullptr;
    }
    return is_usable ? Status() : api::misused(scope, {"each option of a provider needs a key and a value"});
}

Status open(Scope& scope, ldm_engine& engine, const ldm_engine_options& options) {
    engines::Settings settings;
    LDM_TRY(read_settings(scope, options, settings));
    Status status = engine.components.start(scope, settings);
    if (status.ok()) status = open_components(scope, engine);
    Failure engines_reason = scope.failure;
    LDM_TRY(engine.package->opened->confirm(scope));  // a damaged file is a better explanation than what an engine made of it
    scope.failure = engines_reason;
    return status;
}

void log_notices(ldm_context* context, ldm_engine& engine) {
    std::string_view notice;
    for (size_t index = 0; context->options.log != nullptr && engine.components.notice(index, notice); ++index) {
        context->options.log(context->options.user, LDM_LOG_NOTICE, notice.data());
    }
}

engines::Tensor fed(const ldm_tensor& tensor) {
    engines::Tensor out;
    out.name = tensor.name;
    out.type = static_cast<engines::ElementType>(tensor.element_type);
    out.rank = static_cast<size_t>(tensor.rank);
    for (size_t axis = 0; axis < out.rank; ++axis) out.shape[axis] = tensor.shape[axis];
    out.data = tensor.data;
    out.bytes = tensor.bytes;
    return out;
}

Status evaluate(Scope& scope, ldm_engine& engine, const ldm_task& task, engines::Results& results) {
    Array<engines::Tensor> feeds(scope.memory);
    for (size_t index = 0; index < task.input_count; ++index) LDM_NEED(scope, feeds.push(fed(task.inputs[index])));
    return engine.components.run(scope, task.component, feeds.view(), results);
}

// What the task asks for, of what came out. The element type of another is one that no task asks for.
Status pick(Scope& scope, const ldm_task& task, const engines::Results& results, Array<ldm_tensor>& out) {
    for (size_t index = 0; index < task.output_count; ++index) {
        const engines::Tensor* found = results.find(task.outputs[index].name);
        if (found == nullptr || found->type != engines::ElementType::float32 || found->rank > 4) {
            return scope.fail(codes::engine_failed, {task.component, " gave no float32 output ", quoted(task.outputs[index].name)});
        }
        ldm_tensor tensor = task.outputs[index];
        tensor.rank = static_cast<int32_t>(found->rank);
        for (size_t axis = 0; axis < found->rank; ++axis) tensor.shape[axis] = found->shape[axis];
        tensor.data = found->data;
        tensor.bytes = found->bytes;
        LDM_NEED(scope, out.push(tensor));
    }
    return Status();
}

// The memory that is not needed any more in this run: of the text encoders once they are done, of the denoiser before
// the decoder.
void rest(ldm_engine& engine, const ldm_task& task) {
    const Contract& contract = engine.package->model.contract();
    if (task.component == contract.denoiser.component && task.evaluations == 0) {
        for (const TextRole& role : contract.text) engine.components.rest(role.component);
    } else if (task.component == contract.codec.decoder.component && task.step == task.steps) {
        engine.components.rest(contract.denoiser.component);
    }
}

}  // namespace

void ldm_engine_options_init(ldm_engine_options* options, size_t struct_size) {
    api::begin(options, struct_size, [](ldm_engine_options&) {});
}

ldm_status ldm_engine_open(ldm_context* context, ldm_package* package, const ldm_engine_options* options,
                           ldm_engine** engine) {
    if (engine != nullptr) *engine = nullptr;
    if (context == nullptr) return LDM_MISUSE;
    context->failure.clear();
    Scope scope = context->scope();
    ldm_engine_options taken;
    if (package == nullptr || engine == nullptr || !api::take(options, ldm_engine_options_init, taken)) {
        return api::ended(api::misused(scope, {"ldm_engine_open needs a package, a place for the engine, and options that "
                                               "ldm_engine_options_init began"}));
    }
    if (package->opened == nullptr) {
        return api::ended(api::misused(scope, {"a package that was given as text has no graphs to run; open its folder, or "
                                               "drive its runs with ldm_run_next"}));
    }
    auto* made = make<ldm_engine>(context->memory, context->memory, package);
    if (made == nullptr) return api::ended(scope.out_of_memory());
    Status status = open(scope, *made, taken);
    if (status.ok()) {
        *engine = made;
        log_notices(context, *made);
    } else {
        ldm_engine_free(made);
    }
    return api::ended(status);
}

void ldm_engine_free(ldm_engine* engine) {
    if (engine == nullptr) return;
    Allocator memory = engine->memory;
    destroy(memory, engine);
}

ldm_status ldm_engine_evaluate(ldm_context* context, ldm_engine* engine, ldm_run* run, const ldm_task* task) {
    if (context == nullptr) return LDM_MISUSE;
    context->failure.clear();
    Scope scope = context->scope();
    if (engine == nullptr || run == nullptr || task == nullptr || task->struct_size < sizeof *task ||
        task->kind != LDM_TASK_EVALUATE) {
        return api::ended(api::misused(scope, {"ldm_engine_evaluate needs an engine, a run and its task of kind "
                                               "LDM_TASK_EVALUATE"}));
    }
    rest(*engine, *task);
    engines::Results results(scope.memory);
    Array<ldm_tensor> outputs(scope.memory);
    Status status = evaluate(scope, *engine, *task, results);
    if (status.ok()) status = pick(scope, *task, results, outputs);
    return status.ok() ? ldm_run_give(context, run, outputs.data(), outputs.size()) : api::ended(status);
}

ldm_status ldm_engine_draw(ldm_context* context, ldm_engine* engine, ldm_run* run) {
    ldm_task task;
    ldm_task_init(&task, sizeof task);
    while (true) {
        ldm_status status = ldm_run_next(context, run, &task);
        if (status != LDM_OK || task.kind == LDM_TASK_DONE) return status;
        if (task.kind == LDM_TASK_EVALUATE) {
            status = ldm_engine_evaluate(context, engine, run, &task);
            if (status != LDM_OK) return status;
        } else if (context->options.progress != nullptr) {
            ldm_progress progress{sizeof(ldm_progress), task.step, task.steps, task.evaluations, task.timestep};
            if (context->options.progress(context->options.user, run, &progress) != 0) ldm_run_cancel(run);
        }
    }
}
