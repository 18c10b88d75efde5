// Draws one image in each of several threads, which share a package and an engine: threads PACKAGE PROMPT FOLDER COUNT.
// Each thread has a context of its own; the images are those that it draws alone.

#include <cstdio>
#include <cstdlib>
#include <string>
#include <thread>
#include <vector>

#include "ldm_runtime.hpp"

namespace {

void complain(const ldm::Context& context) {
    std::fprintf(stderr, "%s: %s\n", context.code().data(), context.text().data());
}

void draw(const ldm::Package& package, const ldm::Engine& engine, const char* prompt, uint64_t seed,
          const std::string& path, bool& done) {
    ldm::Context context;
    ldm::RunOptions options;
    options->prompt = prompt;
    options->seed = seed;
    options->has_seed = 1;
    auto run = ldm::Run::create(context, package, options);
    done = run && engine.draw(context, *run) == LDM_OK && run->save_png(context, 0, path.c_str(), true) == LDM_OK;
    if (!done) complain(context);
}

}  // namespace

int main(int argc, char** argv) {
    int count = argc == 5 ? std::atoi(argv[4]) : 0;
    if (count < 1 || count > 64) {
        std::fprintf(stderr, "usage: %s PACKAGE PROMPT FOLDER COUNT (1 to 64)\n", argv[0]);
        return 2;
    }
    ldm::Context context;
    auto package = ldm::Package::open(context, argv[1]);
    if (!package) return complain(context), 1;
    ldm::EngineOptions engine_options;
    engine_options->threads = 1;  // of an operator: the images are what runs at once
    auto engine = ldm::Engine::open(context, *package, engine_options);
    if (!engine) return complain(context), 1;

    struct Image {
        std::string path;
        bool done = false;
    };
    std::vector<Image> images(static_cast<size_t>(count));
    std::vector<std::thread> threads;
    for (size_t index = 0; index < images.size(); ++index) {
        images[index].path = std::string(argv[3]) + "/seed-" + std::to_string(index) + ".png";
        threads.emplace_back(
            [&, index] { draw(*package, *engine, argv[2], index, images[index].path, images[index].done); });
    }
    for (std::thread& thread : threads) thread.join();
    bool all = true;
    for (const Image& image : images) all = all && image.done;
    return all ? 0 : 1;
}
