// The rule of threads: a context for each, packages and engines shared, a run cancelled from elsewhere. For the thread
// sanitizer.
// Needs ONNX Runtime.
#include "ldm_runtime.hpp"

#include <atomic>
#include <thread>

#include "tests/kit.h"
#include "tests/scratch.h"

namespace {

constexpr size_t thread_count = 4;

template <typename Work>
void in_threads(Work work) {
    std::vector<std::thread> threads;
    for (size_t index = 0; index < thread_count; ++index) threads.emplace_back([&, index] { work(index); });
    for (std::thread& thread : threads) thread.join();
}

ldm::RunOptions options_of(uint64_t seed) {
    ldm::RunOptions options;
    *options.operator->() = apple();
    options->seed = seed;
    return options;
}

std::string pixels_of(const ldm::Context& context, const ldm::Run& run) {
    auto image = run.image(context, 0);
    return image ? std::string(static_cast<const char*>((*image)->pixels), 64 * 48 * 3) : std::string();
}

// Each thread draws what it draws alone; its contexts come and go.
void threads_share_a_package_and_an_engine() {
    ldm::Context context;
    auto package = ldm::Package::open(context, golden_path("package").c_str());
    if (!CHECK(package.has_value())) return;
    auto engine = ldm::Engine::open(context, *package);
    if (!CHECK(engine.has_value())) return;
    std::string alone[thread_count], together[thread_count];
    for (size_t index = 0; index < thread_count; ++index) {
        auto run = ldm::Run::create(context, *package, options_of(index));
        CHECK(run && engine->draw(context, *run) == LDM_OK);
        alone[index] = pixels_of(context, *run);
    }
    in_threads([&](size_t index) {
        for (int turn = 0; turn < 3; ++turn) {
            ldm::Context own;
            auto run = ldm::Run::create(own, *package, options_of(index));
            if (run && engine->draw(own, *run) == LDM_OK) together[index] = pixels_of(own, *run);
            (void)package->confirm(own);
        }
    });
    for (size_t index = 0; index < thread_count; ++index)
        CHECK(!alone[index].empty() && together[index] == alone[index]);
}

void threads_share_a_package_without_an_engine() {
    Kit kit;
    std::atomic<int> drawn{0};
    in_threads([&](size_t index) {
        ldm::Context own;
        ldm_run* run = nullptr;
        ldm_task task;
        ldm::RunOptions options = options_of(index);
        if (ldm_run_create(own.get(), kit.package, options.get(), &run) == LDM_OK &&
            go_to(own.get(), run, LDM_TASK_DONE, task)) {
            ++drawn;
        }
        ldm_run_free(run);
    });
    CHECK(drawn == static_cast<int>(thread_count));
}

// One thread draws, the others cancel it; it ends at a time that is left to chance, and never in between.
void a_run_is_cancelled_from_another_thread() {
    for (int turn = 0; turn < 20; ++turn) {
        Kit kit;
        std::atomic<bool> goes{false};
        std::thread drawing([&] {
            ldm_task task;
            goes = true;
            bool is_done = go_to(kit.context, kit.run, LDM_TASK_DONE, task);
            CHECK(is_done || kit.says("run.cancelled"));
            ldm_status status = ldm_run_next(kit.context, kit.run, &task);
            CHECK(status == (is_done ? LDM_OK : LDM_CANCELLED));
        });
        std::thread cancelling([&] {
            while (!goes) std::this_thread::yield();
            ldm_run_cancel(kit.run);
        });
        drawing.join();
        cancelling.join();
    }
}

}  // namespace

int main() {
    Scratch scratch;  // its cache folder
    threads_share_a_package_and_an_engine();
    threads_share_a_package_without_an_engine();
    a_run_is_cancelled_from_another_thread();
    return done();
}
