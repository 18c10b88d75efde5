// Memory that runs out, at each allocation of a whole drawing: a status, and nothing is leaked.
// Needs ONNX Runtime.
#include "ldm_runtime.h"

#include "tests/failing_allocator.h"
#include "tests/kit.h"
#include "tests/scratch.h"

namespace {

// Everything that a host calls, from the context to what is told of an image. folder: of the package; NULL: it is given
// as text. draws: with ONNX Runtime; else the host's engine is a formula.
ldm_status draw_with(const ldm_context_options& options, const Kit& texts, const char* folder, bool draws) {
    ldm_context* context = nullptr;
    ldm_package* package = nullptr;
    ldm_engine* engine = nullptr;
    ldm_run* run = nullptr;
    ldm_text tokenizer{texts.tokenizer.data(), texts.tokenizer.size()};
    ldm_run_options apples = apple();
    apples.steps = 2;
    ldm_task task;
    const char *const *keys, *const *values, *json;
    size_t count;
    ldm_status status = ldm_context_create(&options, &context);
    if (status == LDM_OK && folder != nullptr) status = ldm_package_open(context, folder, nullptr, &package);
    if (status == LDM_OK && folder == nullptr) {
        status = ldm_package_parse(context, {texts.manifest.data(), texts.manifest.size()}, &tokenizer, 1, &package);
    }
    if (status == LDM_OK) status = ldm_package_confirm(context, package);
    if (status == LDM_OK) status = ldm_run_create(context, package, &apples, &run);
    if (status == LDM_OK && draws) status = ldm_engine_open(context, package, nullptr, &engine);
    if (status == LDM_OK && draws) status = ldm_engine_draw(context, engine, run);
    ldm_task_init(&task, sizeof task);
    for (task.kind = LDM_TASK_STEP; status == LDM_OK && task.kind != LDM_TASK_DONE;) {
        status = ldm_run_next(context, run, &task);
        if (status == LDM_OK && task.kind == LDM_TASK_EVALUATE) status = Outputs(task).give(context, run);
        if (status == LDM_OK && task.kind == LDM_TASK_STEP && task.step == 1) status = ldm_run_preview(context, run);
    }
    if (status == LDM_OK) status = ldm_run_metadata(context, run, 0, &keys, &values, &count);
    if (status == LDM_OK) status = ldm_plan_json(context, package, nullptr, 0, 0, &json);
    if (status != LDM_OK && context != nullptr) CHECK(std::strcmp(ldm_error_code(context), "other.memory") == 0);
    ldm_run_free(run);
    ldm_engine_free(engine);
    ldm_package_free(package);
    ldm_context_free(context);
    return status;
}

// The first allocation fails, then the second, and so on, each in a drawing of its own: load, prompt, plan, two steps
// and what is told of it.
void any_allocation_may_fail(const char* folder, bool draws) {
    Kit texts;
    ldm_status status = LDM_NO_MEMORY;
    for (long long allowed = 0; status != LDM_OK; ++allowed) {
        FailingAllocator failing;
        failing.allowed = allowed;
        ldm_context_options options;
        ldm_context_options_init(&options, sizeof options);
        options.allocate = FailingAllocator::allocate;
        options.release = FailingAllocator::release;
        options.memory_user = &failing;
        status = draw_with(options, texts, folder, draws);
        bool is_told = status == LDM_NO_MEMORY && failing.made == allowed && failing.was_refused;
        if (!CHECK((status == LDM_OK ? !failing.was_refused : is_told) && failing.alive == 0)) return;
    }
}

}  // namespace

int main() {
    Scratch scratch;  // its cache folder
    std::string folder = golden_path("package");
    any_allocation_may_fail(nullptr, false);
    any_allocation_may_fail(folder.c_str(), false);
    any_allocation_may_fail(folder.c_str(), true);
    return done();
}
