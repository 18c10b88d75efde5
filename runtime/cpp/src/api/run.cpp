// Runs: options to a request, tasks and what came out, images and how they were made.
#include "src/api/handles.h"

#include <cmath>
#include <limits>

#include "core/codes.h"
#include "src/api/options.h"
#include "src/files/atomic.h"
#include "src/png/png.h"

using namespace ldm;

namespace {

// Begin a call on a run: what is wrong with the call itself, or that the run was cancelled.
Status begin_call(Scope& scope, const ldm_run* run, bool has_outputs, const char* name) {
    scope.failure.clear();
    if (run == nullptr || !has_outputs) {
        return api::misused(scope, {name, " needs a run, and places for all that it gives"});
    }
    return Status();
}

Status require_going(Scope& scope, const ldm_run& run) {
    if (!run.is_cancelled.load(std::memory_order_relaxed)) return Status();
    return scope.fail(codes::run_cancelled, {"the run was cancelled after step ", run.run.steps_done(), " of ",
                      run.run.request().plan.taken()});
}

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

// False for what is no tensor.
bool taken(const ldm_tensor& given, Tensor& out) {
    if (given.name == nullptr || given.data == nullptr || given.rank < 0 || given.rank > 4) return false;
    if (given.element_type < LDM_FLOAT32 || given.element_type > LDM_INT32) return false;
    out = Tensor();
    out.name = given.name;
    out.type = given.element_type == LDM_INT64   ? ElementType::int64
               : given.element_type == LDM_INT32 ? ElementType::int32
                                                 : ElementType::float32;
    out.rank = static_cast<size_t>(given.rank);
    std::memcpy(out.shape, given.shape, sizeof out.shape);
    out.data = given.data;
    return true;
}

Status create(ldm_context* context, Scope& scope, ldm_run& run, const ldm_run_options& options) {
    api::TakenOptions taken(scope.memory);
    LDM_TRY(taken.read(scope, options));
    LDM_TRY(run.run.begin(scope, taken.options));
    for (const Notice& notice : run.run.notices()) {
        if (context->options.log != nullptr) context->options.log(context->options.user, LDM_LOG_NOTICE, notice.text.data());
    }
    return Status();
}

Status encode_png(Scope& scope, ldm_run& run, size_t image, Array<unsigned char>& out) {
    const std::uint8_t* levels = run.run.image(image);
    if (levels == nullptr) return api::misused(scope, {"the run has no image ", image, "; take it to its end first"});
    Arena arena(scope.memory);
    View<Fact> facts;
    LDM_TRY(run.run.describe(scope, arena, image, facts));
    Array<png::Text> texts(scope.memory);
    for (const Fact& fact : facts) LDM_NEED(scope, texts.push({fact.name, fact.value}));
    Size size = run.run.request().size;
    return png::write(scope, levels, static_cast<size_t>(size.width), static_cast<size_t>(size.height), texts.view(), out);
}

}  // namespace

ldm_status ldm_run_create(ldm_context* context, const ldm_package* package, const ldm_run_options* options, ldm_run** run) {
    if (run != nullptr) *run = nullptr;
    if (context == nullptr) return LDM_MISUSE;
    context->failure.clear();
    Scope scope = context->scope();
    ldm_run_options taken;
    if (package == nullptr || options == nullptr || run == nullptr || !api::take(options, ldm_run_options_init, taken)) {
        return api::ended(api::misused(scope, {"ldm_run_create needs a package, options that ldm_run_options_init began, and "
                                               "a place for the run"}));
    }
    auto* made = make<ldm_run>(context->memory, context->memory, package->model);
    if (made == nullptr) return api::ended(scope.out_of_memory());
    Status status = create(context, scope, *made, taken);
    if (status.ok()) {
        *run = made;
    } else {
        ldm_run_free(made);
    }
    return api::ended(status);
}

void ldm_run_free(ldm_run* run) {
    if (run == nullptr) return;
    Allocator memory = run->memory;
    destroy(memory, run);
}

void ldm_run_cancel(ldm_run* run) {
    if (run != nullptr) run->is_cancelled.store(true, std::memory_order_relaxed);
}

size_t ldm_run_image_count(const ldm_run* run) { return run == nullptr ? 0 : run->run.request().batch; }

ldm_status ldm_run_seed(ldm_context* context, const ldm_run* run, size_t image, uint64_t* seed) {
    if (context == nullptr) return LDM_MISUSE;
    Scope scope = context->scope();
    Status status = begin_call(scope, run, seed != nullptr, "ldm_run_seed");
    if (!status.ok()) return api::ended(status);
    if (image >= run->run.request().batch) {
        return api::ended(api::misused(scope, {"there is no image ", image, " of ", run->run.request().batch}));
    }
    *seed = run->run.request().seeds[image];
    return LDM_OK;
}

ldm_status ldm_run_image(ldm_context* context, const ldm_run* run, size_t image, ldm_image* out) {
    if (context == nullptr) return LDM_MISUSE;
    Scope scope = context->scope();
    Status status = begin_call(scope, run, out != nullptr, "ldm_run_image");
    if (!status.ok()) return api::ended(status);
    ldm_image found;
    ldm_image_init(&found, sizeof found);
    found.pixels = run->run.image(image);
    found.width = static_cast<int32_t>(run->run.request().size.width);
    found.height = static_cast<int32_t>(run->run.request().size.height);
    found.channels = 3;
    if (found.pixels == nullptr) {
        return api::ended(api::misused(scope, {"the run has no image ", image, "; take it to its end first"}));
    }
    if (api::hand_out(found, out)) return LDM_OK;
    return api::ended(api::misused(scope, {"ldm_run_image needs an image that ldm_image_init began"}));
}

ldm_status ldm_run_latents(ldm_context* context, const ldm_run* run, const float** latents, int64_t shape[4]) {
    if (context == nullptr) return LDM_MISUSE;
    Scope scope = context->scope();
    Status status = begin_call(scope, run, latents != nullptr && shape != nullptr, "ldm_run_latents");
    if (!status.ok()) return api::ended(status);
    if (!run->run.latents(*latents, shape)) {
        return api::ended(api::misused(scope, {"the run has no latents before its first step"}));
    }
    return LDM_OK;
}

ldm_status ldm_run_metadata(ldm_context* context, ldm_run* run, size_t image, const char* const** keys,
                            const char* const** values, size_t* count) {
    if (context == nullptr) return LDM_MISUSE;
    Scope scope = context->scope();
    Status status = begin_call(scope, run, keys != nullptr && values != nullptr && count != nullptr, "ldm_run_metadata");
    if (!status.ok()) return api::ended(status);
    if (image >= run->run.request().batch) {
        return api::ended(api::misused(scope, {"there is no image ", image, " of ", run->run.request().batch}));
    }
    View<Fact> facts;
    status = run->run.describe(scope, run->facts, image, facts);
    if (!status.ok()) return api::ended(status);
    auto** names = run->facts.make<const char*>(2 * facts.size);
    if (names == nullptr) return api::ended(scope.out_of_memory());
    for (size_t index = 0; index < facts.size; ++index) {
        names[index] = facts[index].name.data();
        names[facts.size + index] = facts[index].value.data();
    }
    *keys = names;
    *values = names + facts.size;
    *count = facts.size;
    return LDM_OK;
}

void ldm_task_init(ldm_task* task, size_t struct_size) {
    api::begin(task, struct_size, [](ldm_task& it) { it.kind = LDM_TASK_DONE; });
}

ldm_status ldm_run_next(ldm_context* context, ldm_run* run, ldm_task* task) {
    if (context == nullptr) return LDM_MISUSE;
    Scope scope = context->scope();
    Status status = begin_call(scope, run, task != nullptr, "ldm_run_next");
    if (status.ok()) status = require_going(scope, *run);
    if (!status.ok()) return api::ended(status);
    Task next;
    status = run->run.next(scope, next);
    if (!status.ok()) return api::ended(status);
    ldm_task told_task;
    ldm_task_init(&told_task, sizeof told_task);
    for (size_t index = 0; index < next.inputs.size; ++index) run->inputs[index] = told(next.inputs[index]);
    for (size_t index = 0; index < next.outputs.size; ++index) run->outputs[index] = told(next.outputs[index]);
    told_task.kind = next.kind == Task::Kind::evaluate ? LDM_TASK_EVALUATE
                     : next.kind == Task::Kind::step   ? LDM_TASK_STEP
                                                       : LDM_TASK_DONE;
    told_task.component = next.component.empty() ? nullptr : next.component.data();
    told_task.inputs = run->inputs;
    told_task.input_count = next.inputs.size;
    told_task.outputs = run->outputs;
    told_task.output_count = next.outputs.size;
    told_task.step = static_cast<int32_t>(next.step);
    told_task.steps = static_cast<int32_t>(next.steps);
    told_task.evaluations = static_cast<int32_t>(next.evaluations);
    told_task.timestep = next.timestep;
    if (api::hand_out(told_task, task)) return LDM_OK;
    return api::ended(api::misused(scope, {"ldm_run_next needs a task that ldm_task_init began"}));
}

ldm_status ldm_run_give(ldm_context* context, ldm_run* run, const ldm_tensor* outputs, size_t output_count) {
    if (context == nullptr) return LDM_MISUSE;
    Scope scope = context->scope();
    Status status = begin_call(scope, run, outputs != nullptr, "ldm_run_give");
    if (status.ok()) status = require_going(scope, *run);
    if (!status.ok()) return api::ended(status);
    Array<Tensor> given(scope.memory);
    for (size_t index = 0; index < output_count; ++index) {
        Tensor tensor;
        if (!taken(outputs[index], tensor)) {
            return api::ended(api::misused(scope, {"output ", index, " has no name, no data, or a type or rank of no tensor"}));
        }
        if (!given.push(tensor)) return api::ended(scope.out_of_memory());
    }
    return api::ended(run->run.give(scope, given.view()));
}

ldm_status ldm_run_preview(ldm_context* context, ldm_run* run) {
    if (context == nullptr) return LDM_MISUSE;
    Scope scope = context->scope();
    Status status = begin_call(scope, run, true, "ldm_run_preview");
    return api::ended(status.ok() ? run->run.preview(scope) : status);
}

ldm_status ldm_run_save_png(ldm_context* context, ldm_run* run, size_t image, const char* path, int32_t force) {
    if (context == nullptr) return LDM_MISUSE;
    Scope scope = context->scope();
    Status status = begin_call(scope, run, path != nullptr, "ldm_run_save_png");
    if (!status.ok()) return api::ended(status);
    Array<unsigned char> file(scope.memory);
    status = encode_png(scope, *run, image, file);
    if (!status.ok()) return api::ended(status);
    std::string_view content(reinterpret_cast<const char*>(file.data()), file.size());
    return api::ended(files::write_file(scope, path, content, force != 0 ? files::Existing::replace : files::Existing::keep));
}
