// Every function of the interface with each of its pointers NULL: a status, and never a crash. What was called is
// recorded, and compared with the header by tests/cpp/test_library.py.
#include "ldm_runtime.h"

#include "tests/kit.h"

#include "tests/calls.h"

namespace {

void nothing_needs_a_context_to_say_misuse() {
    ldm_context* context = nullptr;
    ldm_package* package = nullptr;
    ldm_engine* engine = nullptr;
    ldm_run* run = nullptr;
    ldm_run_options options;
    ldm_run_options_init(&options, sizeof options);
    ldm_task task;
    ldm_task_init(&task, sizeof task);
    ldm_image image;
    ldm_image_init(&image, sizeof image);
    ldm_defaults defaults;
    std::memset(&defaults, 0, sizeof defaults);
    defaults.struct_size = sizeof defaults;
    uint64_t seed;
    const float* latents;
    int64_t shape[4];
    const char* const *keys, *const *values;
    const char* json;
    size_t count;
    ldm_context_options context_options;
    ldm_context_options_init(&context_options, sizeof context_options);
    CHECK(ldm_context_create(nullptr, nullptr) == LDM_MISUSE && ldm_context_create(&context_options, nullptr) == LDM_MISUSE);
    CHECK(ldm_package_open(nullptr, "x", nullptr, &package) == LDM_MISUSE && package == nullptr);
    CHECK(ldm_package_parse(nullptr, ldm_text{"", 0}, nullptr, 0, &package) == LDM_MISUSE && package == nullptr);
    CHECK(ldm_package_confirm(nullptr, package) == LDM_MISUSE);
    CHECK(ldm_package_defaults(nullptr, package, &defaults) == LDM_MISUSE);
    CHECK(ldm_run_create(nullptr, package, &options, &run) == LDM_MISUSE && run == nullptr);
    CHECK(ldm_run_seed(nullptr, run, 0, &seed) == LDM_MISUSE);
    CHECK(ldm_run_image(nullptr, run, 0, &image) == LDM_MISUSE);
    CHECK(ldm_run_latents(nullptr, run, &latents, shape) == LDM_MISUSE);
    CHECK(ldm_run_metadata(nullptr, run, 0, &keys, &values, &count) == LDM_MISUSE);
    CHECK(ldm_run_next(nullptr, run, &task) == LDM_MISUSE);
    CHECK(ldm_run_give(nullptr, run, nullptr, 0) == LDM_MISUSE);
    CHECK(ldm_run_preview(nullptr, run) == LDM_MISUSE);
    CHECK(ldm_engine_open(nullptr, package, nullptr, &engine) == LDM_MISUSE && engine == nullptr);
    CHECK(ldm_engine_evaluate(nullptr, engine, run) == LDM_MISUSE);
    CHECK(ldm_engine_draw(nullptr, engine, run) == LDM_MISUSE);
    CHECK(ldm_run_save_png(nullptr, run, 0, "x.png", 0) == LDM_MISUSE);
    CHECK(ldm_image_read_png(nullptr, "x.png", &image) == LDM_MISUSE);
    CHECK(ldm_plan_json(nullptr, package, nullptr, 0, 0, &json) == LDM_MISUSE && json == nullptr);
    ldm_report* report = nullptr;
    CHECK(ldm_verify(nullptr, "x", nullptr, &report) == LDM_MISUSE && report == nullptr);
    CHECK(ldm_package_describe(nullptr, package, 0, &json) == LDM_MISUSE && json == nullptr);
    CHECK(ldm_check_output(nullptr, "x.png", 0) == LDM_MISUSE);
    CHECK(ldm_report_passed(nullptr) == 0 && ldm_report_failure(nullptr, 0) == nullptr);
    CHECK(std::strcmp(ldm_report_table(nullptr), "") == 0 && std::strcmp(ldm_report_json(nullptr), "") == 0);
    CHECK(std::strcmp(ldm_error_code(context), "") == 0 && std::strcmp(ldm_error_text(context), "") == 0);
    CHECK(std::strcmp(ldm_package_name(nullptr), "") == 0 && std::strcmp(ldm_package_identity(nullptr), "") == 0);
    CHECK(ldm_run_image_count(nullptr) == 0);
}

void freeing_nothing_is_legal() {
    ldm_run_free(nullptr);
    ldm_engine_free(nullptr);
    ldm_package_free(nullptr);
    ldm_context_free(nullptr);
    ldm_run_cancel(nullptr);
    ldm_image_free(nullptr);
    ldm_report_free(nullptr);
    ldm_context_options_init(nullptr, 8);
    ldm_package_options_init(nullptr, 8);
    ldm_engine_options_init(nullptr, 8);
    ldm_run_options_init(nullptr, 8);
    ldm_image_init(nullptr, 8);
    ldm_task_init(nullptr, 8);
    ldm_defaults_init(nullptr, 8);
}

void nulls_are_told() {
    Kit kit;
    ldm_context* c = kit.context;
    ldm_package* package = nullptr;
    ldm_engine* engine = nullptr;
    ldm_run* run = nullptr;
    ldm_run_options options;
    ldm_run_options_init(&options, sizeof options);
    ldm_image image;
    ldm_image_init(&image, sizeof image);
    uint64_t seed;
    const float* latents;
    int64_t shape[4];
    const char* const *keys, *const *values;
    const char* json;
    size_t count;
    ldm_task task;
    ldm_task_init(&task, sizeof task);
    MISUSED(kit, ldm_package_open(c, nullptr, nullptr, &package));
    ldm_package_options package_options;
    ldm_package_options_init(&package_options, sizeof package_options);
    MISUSED(kit, ldm_package_open(c, "x", nullptr, nullptr));
    MISUSED(kit, ldm_package_open(c, "x", &package_options, nullptr));
    MISUSED(kit, ldm_package_parse(c, ldm_text{nullptr, 0}, nullptr, 0, &package));
    MISUSED(kit, ldm_package_parse(c, ldm_text{kit.manifest.data(), kit.manifest.size()}, nullptr, 0, &package));
    ldm_text tokenizer{kit.tokenizer.data(), kit.tokenizer.size()};
    MISUSED(kit, ldm_package_parse(c, ldm_text{kit.manifest.data(), kit.manifest.size()}, &tokenizer, 1, nullptr));
    MISUSED(kit, ldm_package_confirm(c, nullptr));
    ldm_report* report = nullptr;
    MISUSED(kit, ldm_verify(c, nullptr, nullptr, &report));
    ldm_engine_options engine_options;
    ldm_engine_options_init(&engine_options, sizeof engine_options);
    MISUSED(kit, ldm_verify(c, "x", nullptr, nullptr));
    MISUSED(kit, ldm_verify(c, "x", &engine_options, nullptr));
    const char* text = nullptr;
    MISUSED(kit, ldm_package_describe(c, nullptr, 0, &text));
    MISUSED(kit, ldm_package_describe(c, kit.package, 0, nullptr));
    MISUSED(kit, ldm_package_describe(c, kit.package, 1, &text));  // it was given as text
    MISUSED(kit, ldm_check_output(c, nullptr, 0));
    ldm_defaults defaults;
    ldm_defaults_init(&defaults, sizeof defaults);
    MISUSED(kit, ldm_package_defaults(c, nullptr, &defaults));
    MISUSED(kit, ldm_package_defaults(c, kit.package, nullptr));
    MISUSED(kit, ldm_run_create(c, nullptr, &options, &run));
    MISUSED(kit, ldm_run_create(c, kit.package, nullptr, &run));
    MISUSED(kit, ldm_run_create(c, kit.package, &options, nullptr));
    MISUSED(kit, ldm_run_seed(c, nullptr, 0, &seed));
    MISUSED(kit, ldm_run_seed(c, kit.run, 0, nullptr));
    MISUSED(kit, ldm_run_seed(c, kit.run, 7, &seed));
    MISUSED(kit, ldm_run_image(c, nullptr, 0, &image));
    MISUSED(kit, ldm_run_image(c, kit.run, 0, nullptr));
    MISUSED(kit, ldm_run_image(c, kit.run, 0, &image));
    MISUSED(kit, ldm_run_latents(c, nullptr, &latents, shape));
    MISUSED(kit, ldm_run_latents(c, kit.run, nullptr, shape));
    MISUSED(kit, ldm_run_latents(c, kit.run, &latents, nullptr));
    MISUSED(kit, ldm_run_latents(c, kit.run, &latents, shape));
    MISUSED(kit, ldm_run_metadata(c, nullptr, 0, &keys, &values, &count));
    MISUSED(kit, ldm_run_metadata(c, kit.run, 0, nullptr, &values, &count));
    MISUSED(kit, ldm_run_metadata(c, kit.run, 0, &keys, nullptr, &count));
    MISUSED(kit, ldm_run_metadata(c, kit.run, 0, &keys, &values, nullptr));
    MISUSED(kit, ldm_run_metadata(c, kit.run, 3, &keys, &values, &count));
    MISUSED(kit, ldm_run_next(c, kit.run, nullptr));
    MISUSED(kit, ldm_run_next(c, nullptr, &task));
    ldm_tensor output{};
    MISUSED(kit, ldm_run_give(c, nullptr, &output, 1));
    MISUSED(kit, ldm_run_give(c, kit.run, nullptr, 1));
    MISUSED(kit, ldm_run_preview(c, nullptr));
    MISUSED(kit, ldm_run_preview(c, kit.run));
    MISUSED(kit, ldm_engine_open(c, nullptr, nullptr, &engine));
    MISUSED(kit, ldm_engine_open(c, kit.package, nullptr, &engine));  // it was given as text
    MISUSED(kit, ldm_engine_open(c, kit.package, &engine_options, nullptr));
    auto* no_engine = reinterpret_cast<ldm_engine*>(&kit);  // a call without a run does not look at it
    MISUSED(kit, ldm_engine_evaluate(c, no_engine, nullptr));
    MISUSED(kit, ldm_engine_draw(c, no_engine, nullptr));
    MISUSED(kit, ldm_engine_evaluate(c, nullptr, kit.run));
    MISUSED(kit, ldm_run_save_png(c, nullptr, 0, "x.png", 0));
    MISUSED(kit, ldm_run_save_png(c, kit.run, 0, nullptr, 0));
    MISUSED(kit, ldm_run_save_png(c, kit.run, 0, "nothing.png", 0));
    MISUSED(kit, ldm_image_read_png(c, nullptr, &image));
    MISUSED(kit, ldm_image_read_png(c, "x.png", nullptr));
    MISUSED(kit, ldm_plan_json(c, nullptr, nullptr, 0, 0, &json));
    MISUSED(kit, ldm_plan_json(c, kit.package, nullptr, 0, 0, nullptr));
    MISUSED(kit, ldm_plan_json(c, kit.package, "ddim", 0, 0, nullptr));
    MISUSED(kit, ldm_engine_draw(c, nullptr, kit.run));
}

}  // namespace

// With an argument: prints the calls that were made.
int main(int count, char**) {
    nothing_needs_a_context_to_say_misuse();
    freeing_nothing_is_legal();
    nulls_are_told();
    for (const std::string& call : recorded_calls) {
        if (count > 1) std::printf("%s\n", call.c_str());
    }
    return done();
}
