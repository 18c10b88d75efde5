// Every function of the interface with each of its pointers NULL: a status, and never a crash. What was called is
// recorded, and compared with the header by tests/cpp/test_library.py.
#include "ldm_runtime.h"

#include "tests/kit.h"

#include "tests/calls.h"

namespace {

// What calls are given beside what is NULL, and where they would put something.
struct Places {
    ldm_package* package = nullptr;
    ldm_engine* engine = nullptr;
    ldm_run* run = nullptr;
    ldm_report* report = nullptr;
    ldm_context_options context_options;
    ldm_package_options package_options;
    ldm_engine_options engine_options;
    ldm_run_options options;
    ldm_task task;
    ldm_image image;
    ldm_defaults defaults;
    uint64_t seed = 0;
    const float* latents = nullptr;
    int64_t shape[4] = {};
    const char *const *keys = nullptr, *const *values = nullptr;
    const char* json = nullptr;
    size_t count = 0;

    Places() {
        ldm_context_options_init(&context_options, sizeof context_options);
        ldm_package_options_init(&package_options, sizeof package_options);
        ldm_engine_options_init(&engine_options, sizeof engine_options);
        ldm_run_options_init(&options, sizeof options);
        ldm_task_init(&task, sizeof task);
        ldm_image_init(&image, sizeof image);
        ldm_defaults_init(&defaults, sizeof defaults);
    }
};

void nothing_needs_a_context_to_say_misuse() {
    Places its;
    CHECK(ldm_context_create(nullptr, nullptr) == LDM_MISUSE &&
          ldm_context_create(&its.context_options, nullptr) == LDM_MISUSE);
    CHECK(ldm_package_open(nullptr, "x", nullptr, &its.package) == LDM_MISUSE && its.package == nullptr);
    CHECK(ldm_package_parse(nullptr, ldm_text{"", 0}, nullptr, 0, &its.package) == LDM_MISUSE);
    CHECK(its.package == nullptr);
    CHECK(ldm_package_confirm(nullptr, its.package) == LDM_MISUSE);
    CHECK(ldm_package_defaults(nullptr, its.package, &its.defaults) == LDM_MISUSE);
    CHECK(ldm_run_create(nullptr, its.package, &its.options, &its.run) == LDM_MISUSE && its.run == nullptr);
    CHECK(ldm_run_seed(nullptr, its.run, 0, &its.seed) == LDM_MISUSE);
    CHECK(ldm_run_image(nullptr, its.run, 0, &its.image) == LDM_MISUSE);
    CHECK(ldm_run_latents(nullptr, its.run, &its.latents, its.shape) == LDM_MISUSE);
    CHECK(ldm_run_metadata(nullptr, its.run, 0, &its.keys, &its.values, &its.count) == LDM_MISUSE);
    CHECK(ldm_run_next(nullptr, its.run, &its.task) == LDM_MISUSE);
    CHECK(ldm_run_give(nullptr, its.run, nullptr, 0) == LDM_MISUSE);
    CHECK(ldm_run_preview(nullptr, its.run) == LDM_MISUSE);
    CHECK(ldm_engine_open(nullptr, its.package, nullptr, &its.engine) == LDM_MISUSE && its.engine == nullptr);
    CHECK(ldm_engine_evaluate(nullptr, its.engine, its.run) == LDM_MISUSE);
    CHECK(ldm_engine_draw(nullptr, its.engine, its.run) == LDM_MISUSE);
    CHECK(ldm_run_save_png(nullptr, its.run, 0, "x.png", 0) == LDM_MISUSE);
    CHECK(ldm_image_read_png(nullptr, "x.png", &its.image) == LDM_MISUSE);
    CHECK(ldm_plan_json(nullptr, its.package, nullptr, 0, 0, &its.json) == LDM_MISUSE && its.json == nullptr);
    CHECK(ldm_verify(nullptr, "x", nullptr, &its.report) == LDM_MISUSE && its.report == nullptr);
    CHECK(ldm_package_describe(nullptr, its.package, 0, &its.json) == LDM_MISUSE && its.json == nullptr);
    CHECK(ldm_check_output(nullptr, "x.png", 0) == LDM_MISUSE);
    CHECK(ldm_report_passed(nullptr) == 0 && ldm_report_failure(nullptr, 0) == nullptr);
    CHECK(std::strcmp(ldm_report_table(nullptr), "") == 0 && std::strcmp(ldm_report_json(nullptr), "") == 0);
    CHECK(std::strcmp(ldm_error_code(nullptr), "") == 0 && std::strcmp(ldm_error_text(nullptr), "") == 0);
    CHECK(std::strcmp(ldm_package_name(nullptr), "") == 0 && std::strcmp(ldm_package_identity(nullptr), "") == 0);
    CHECK(ldm_run_image_count(nullptr) == 0 && ldm_engine_variant(nullptr) == nullptr);
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
    Places its;
    Kit kit;
    ldm_context* c = kit.context;
    MISUSED(kit, ldm_package_open(c, nullptr, nullptr, &its.package));
    MISUSED(kit, ldm_package_open(c, "x", nullptr, nullptr));
    MISUSED(kit, ldm_package_open(c, "x", &its.package_options, nullptr));
    MISUSED(kit, ldm_package_parse(c, ldm_text{nullptr, 0}, nullptr, 0, &its.package));
    MISUSED(kit, ldm_package_parse(c, ldm_text{kit.manifest.data(), kit.manifest.size()}, nullptr, 0, &its.package));
    ldm_text tokenizer{kit.tokenizer.data(), kit.tokenizer.size()};
    MISUSED(kit, ldm_package_parse(c, ldm_text{kit.manifest.data(), kit.manifest.size()}, &tokenizer, 1, nullptr));
    MISUSED(kit, ldm_package_confirm(c, nullptr));
    MISUSED(kit, ldm_verify(c, nullptr, nullptr, &its.report));
    MISUSED(kit, ldm_verify(c, "x", nullptr, nullptr));
    MISUSED(kit, ldm_verify(c, "x", &its.engine_options, nullptr));
    MISUSED(kit, ldm_package_describe(c, nullptr, 0, &its.json));
    MISUSED(kit, ldm_package_describe(c, kit.package, 0, nullptr));
    MISUSED(kit, ldm_package_describe(c, kit.package, 1, &its.json));  // it was given as text
    MISUSED(kit, ldm_check_output(c, nullptr, 0));
    MISUSED(kit, ldm_package_defaults(c, nullptr, &its.defaults));
    MISUSED(kit, ldm_package_defaults(c, kit.package, nullptr));
    MISUSED(kit, ldm_run_create(c, nullptr, &its.options, &its.run));
    MISUSED(kit, ldm_run_create(c, kit.package, nullptr, &its.run));
    MISUSED(kit, ldm_run_create(c, kit.package, &its.options, nullptr));
    MISUSED(kit, ldm_run_seed(c, nullptr, 0, &its.seed));
    MISUSED(kit, ldm_run_seed(c, kit.run, 0, nullptr));
    MISUSED(kit, ldm_run_seed(c, kit.run, 7, &its.seed));
    MISUSED(kit, ldm_run_image(c, nullptr, 0, &its.image));
    MISUSED(kit, ldm_run_image(c, kit.run, 0, nullptr));
    MISUSED(kit, ldm_run_image(c, kit.run, 0, &its.image));
    MISUSED(kit, ldm_run_latents(c, nullptr, &its.latents, its.shape));
    MISUSED(kit, ldm_run_latents(c, kit.run, nullptr, its.shape));
    MISUSED(kit, ldm_run_latents(c, kit.run, &its.latents, nullptr));
    MISUSED(kit, ldm_run_latents(c, kit.run, &its.latents, its.shape));
    MISUSED(kit, ldm_run_metadata(c, nullptr, 0, &its.keys, &its.values, &its.count));
    MISUSED(kit, ldm_run_metadata(c, kit.run, 0, nullptr, &its.values, &its.count));
    MISUSED(kit, ldm_run_metadata(c, kit.run, 0, &its.keys, nullptr, &its.count));
    MISUSED(kit, ldm_run_metadata(c, kit.run, 0, &its.keys, &its.values, nullptr));
    MISUSED(kit, ldm_run_metadata(c, kit.run, 3, &its.keys, &its.values, &its.count));
    MISUSED(kit, ldm_run_next(c, kit.run, nullptr));
    MISUSED(kit, ldm_run_next(c, nullptr, &its.task));
    ldm_tensor output{};
    MISUSED(kit, ldm_run_give(c, nullptr, &output, 1));
    MISUSED(kit, ldm_run_give(c, kit.run, nullptr, 1));
    MISUSED(kit, ldm_run_preview(c, nullptr));
    MISUSED(kit, ldm_run_preview(c, kit.run));
    MISUSED(kit, ldm_engine_open(c, nullptr, nullptr, &its.engine));
    MISUSED(kit, ldm_engine_open(c, kit.package, nullptr, &its.engine));  // it was given as text
    MISUSED(kit, ldm_engine_open(c, kit.package, &its.engine_options, nullptr));
    auto* no_engine = reinterpret_cast<ldm_engine*>(&kit);  // a call without a run does not look at it
    MISUSED(kit, ldm_engine_evaluate(c, no_engine, nullptr));
    MISUSED(kit, ldm_engine_draw(c, no_engine, nullptr));
    MISUSED(kit, ldm_engine_evaluate(c, nullptr, kit.run));
    MISUSED(kit, ldm_run_save_png(c, nullptr, 0, "x.png", 0));
    MISUSED(kit, ldm_run_save_png(c, kit.run, 0, nullptr, 0));
    MISUSED(kit, ldm_run_save_png(c, kit.run, 0, "nothing.png", 0));
    MISUSED(kit, ldm_image_read_png(c, nullptr, &its.image));
    MISUSED(kit, ldm_image_read_png(c, "x.png", nullptr));
    MISUSED(kit, ldm_plan_json(c, nullptr, nullptr, 0, 0, &its.json));
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
