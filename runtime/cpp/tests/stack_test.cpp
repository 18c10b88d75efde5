// A thread of the stack that the header promises is enough for: everything the library does, and refusing.
// Needs ONNX Runtime.
#include "ldm_runtime.h"

#include <pthread.h>

#include <cstdlib>
#include <string>

#include "tests/check.h"
#include "tests/files.h"
#include "tests/sanitizers.h"
#include "tests/scratch.h"

namespace {

const std::string builtin = golden_path("../../runtime/ldm_runtime/builtin");

struct Work {
    Scratch scratch;
    std::string out;
};

// Each call in turn, good and refused.
void* work(void* given) {
    Work& its = *static_cast<Work*>(given);
    ldm_context* context = nullptr;
    ldm_package *package = nullptr, *missing = nullptr;
    ldm_engine* engine = nullptr;
    ldm_report* report = nullptr;
    ldm_run *run = nullptr, *refused = nullptr, *again = nullptr;
    const char* text = nullptr;
    CHECK(ldm_context_create(nullptr, &context) == LDM_OK);
    CHECK(ldm_package_open(context, "/nowhere", nullptr, &missing) == LDM_BAD_PACKAGE);
    CHECK(ldm_package_open(context, builtin.c_str(), nullptr, &package) == LDM_OK);
    CHECK(ldm_package_describe(context, package, 1, &text) == LDM_OK);
    CHECK(ldm_plan_json(context, package, "dpmsolver:order=3", 50, 0, &text) == LDM_OK);
    CHECK(ldm_engine_open(context, package, nullptr, &engine) == LDM_OK);
    ldm_run_options options;
    ldm_run_options_init(&options, sizeof options);
    options.prompt = "(red apple:1.2) BREAK 3d style, caf\u00e9";
    options.syntax = "weighted";
    options.steps = 2;
    CHECK(ldm_run_create(context, package, &options, &run) == LDM_OK);
    CHECK(ldm_engine_draw(context, engine, run) == LDM_OK);
    CHECK(ldm_run_save_png(context, run, 0, its.out.c_str(), 1) == LDM_OK);
    ldm_image image;
    ldm_image_init(&image, sizeof image);
    CHECK(ldm_image_read_png(context, its.out.c_str(), &image) == LDM_OK);
    options.images = &image;
    options.image_count = 1;
    CHECK(ldm_run_create(context, package, &options, &again) == LDM_OK);
    CHECK(ldm_engine_draw(context, engine, again) == LDM_OK);
    options.sampler = "none";
    CHECK(ldm_run_create(context, package, &options, &refused) == LDM_BAD_REQUEST);
    ldm_image_free(&image);
    ldm_run_free(run);
    ldm_run_free(again);
    ldm_engine_free(engine);
    ldm_package_free(package);
    CHECK(ldm_verify(context, builtin.c_str(), nullptr, &report) == LDM_OK && ldm_report_passed(report));
    ldm_report_free(report);
    ldm_context_free(context);
    return nullptr;
}

}  // namespace

int main(int argc, char** argv) {
    std::size_t promised = is_sanitized ? 2048 : 256;  // frames are several times as large with a sanitizer
    std::size_t kilobytes = argc > 1 ? std::strtoull(argv[1], nullptr, 10) : promised;
    Work its;
    its.out = its.scratch.folder("out") + "/image.png";
    pthread_attr_t attributes;
    pthread_t thread;
    CHECK(pthread_attr_init(&attributes) == 0 && pthread_attr_setstacksize(&attributes, kilobytes * 1024) == 0);
    if (!CHECK(pthread_create(&thread, &attributes, work, &its) == 0)) return done();
    pthread_join(thread, nullptr);
    pthread_attr_destroy(&attributes);
    return done();
}
