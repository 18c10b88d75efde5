// Draws an image, shows a preview every few steps, and stops when enough is seen:
//     preview PACKAGE PROMPT FOLDER [LAST_STEP]
// writes FOLDER/preview-05.ppm, … and FOLDER/image.ppm. With LAST_STEP it cancels the run after that step.

#include <cstdio>
#include <cstdlib>
#include <string>

#include "ldm_runtime.hpp"

namespace {

constexpr int every = 5;  // steps

int complain(const ldm::Context& context) {
    std::fprintf(stderr, "%s: %s\n", context.code().data(), context.text().data());
    return 1;
}

// The simplest format there is: a header, then RGB. Where it cannot be written, it says so.
bool save(const ldm_image& image, const std::string& path) {
    std::FILE* file = std::fopen(path.c_str(), "wb");
    if (file == nullptr) {
        std::perror(path.c_str());
        return false;
    }
    std::fprintf(file, "P6\n%d %d\n255\n", static_cast<int>(image.width), static_cast<int>(image.height));
    size_t bytes = static_cast<size_t>(image.width) * static_cast<size_t>(image.height) * 3;
    bool is_whole = std::fwrite(image.pixels, 1, bytes, file) == bytes;
    is_whole = std::fclose(file) == 0 && is_whole;
    if (!is_whole) std::perror(path.c_str());
    return is_whole;
}

// Take a run to what comes next to look at: a step that is done, a preview, or the end.
ldm_status go_on(const ldm::Context& context, const ldm::Engine& engine, ldm::Run& run, ldm::Task& task) {
    while (true) {
        ldm_status status = run.next(context, task);
        if (status != LDM_OK || task.kind != LDM_TASK_EVALUATE) return status;
        status = engine.evaluate(context, run);
        if (status != LDM_OK) return status;
    }
}

}  // namespace

int main(int argc, char** argv) {
    if (argc != 4 && argc != 5) {
        std::fprintf(stderr, "usage: %s PACKAGE PROMPT FOLDER [LAST_STEP]\n", argv[0]);
        return 2;
    }
    std::string folder = argv[3];
    int last = argc == 5 ? std::atoi(argv[4]) : 0;
    ldm::Context context;
    auto package = ldm::Package::open(context, argv[1]);
    if (!package) return complain(context);
    auto engine = ldm::Engine::open(context, *package);
    if (!engine) return complain(context);
    ldm::RunOptions options;
    options->prompt = argv[2];
    options->seed = 1;
    options->has_seed = 1;
    auto run = ldm::Run::create(context, *package, options);
    if (!run) return complain(context);

    ldm::Task task;
    ldm_status status;
    while ((status = go_on(context, *engine, *run, task)) == LDM_OK && task.kind == LDM_TASK_STEP) {
        std::printf("step %d of %d\n", static_cast<int>(task.step), static_cast<int>(task.steps));
        if (task.step == last) run->cancel();
        if (task.step % every != 0 || task.step == task.steps || task.step == last) continue;
        int step = static_cast<int>(task.step);
        if (run->preview(context) != LDM_OK || go_on(context, *engine, *run, task) != LDM_OK) return complain(context);
        char name[32];
        std::snprintf(name, sizeof name, "/preview-%02d.ppm", step);
        auto preview = run->image(context, 0);
        if (!preview) return complain(context);
        if (!save(**preview, folder + name)) return 1;
    }
    if (status == LDM_CANCELLED) {
        std::printf("cancelled after step %d\n", last);
        return 0;
    }
    if (status != LDM_OK) return complain(context);
    auto image = run->image(context, 0);
    if (!image) return complain(context);
    return save(**image, folder + "/image.ppm") ? 0 : 1;
}
