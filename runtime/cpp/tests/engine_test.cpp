// The library's engine on runs, through the C interface: whose runs it takes, previews, progress, what it tells.
// Needs ONNX Runtime.
#include "src/api/engine.h"

#include <cmath>
#include <vector>

#include "tests/failing_allocator.h"
#include "tests/handles.h"
#include "tests/scratch.h"

namespace {

// What a context's callbacks saw.
struct Seen {
    ldm_context* context = nullptr;
    std::vector<std::string> logged;
    std::vector<int> steps;
    int previews = 0;
    std::vector<int> preview_steps;
    int asks_for_preview_at = 0, saves_at = 0;
    std::string saved;
    int cancels_at = 0;

    static void log(void* user, ldm_log_level level, const char* text) {
        if (level == LDM_LOG_NOTICE) static_cast<Seen*>(user)->logged.emplace_back(text);
    }
    static int progress(void* user, ldm_run* run, const ldm_progress* progress) {
        auto* seen = static_cast<Seen*>(user);
        CHECK(progress->struct_size == sizeof(ldm_progress) && progress->timestep > 0.0);
        CHECK(1 <= progress->step && progress->step <= progress->steps);
        seen->steps.push_back(progress->step);
        ldm_image image;
        ldm_image_init(&image, sizeof image);
        seen->previews += ldm_run_image(seen->context, run, 0, &image) == LDM_OK;
        seen->preview_steps.push_back(progress->preview_step);
        if (progress->step == seen->saves_at) {
            CHECK(ldm_run_save_png(seen->context, run, 0, seen->saved.c_str(), 1) == LDM_OK);
        }
        if (progress->step == seen->asks_for_preview_at) {
            bool is_there = progress->preview_step == progress->step;
            CHECK(ldm_run_preview(seen->context, run) == (is_there ? LDM_MISUSE : LDM_OK));
        }
        return progress->step == seen->cancels_at;
    }
};

struct Listening {
    Seen seen;
};

struct Fixture : Listening, Handles {  // what listens is freed last
    explicit Fixture(const ldm_run_options& options = apple()) {
        ldm_context_options callbacks = telling(Seen::log, &seen);
        callbacks.progress = Seen::progress;
        CHECK(open(&callbacks, nullptr) && start(nullptr) && begin(options));
        seen.context = context;
    }

    std::string pixels() const {
        ldm_image image;
        ldm_image_init(&image, sizeof image);
        CHECK(ldm_run_image(context, run, 0, &image) == LDM_OK);
        return {static_cast<const char*>(image.pixels), 64 * 48 * 3};
    }
};

void it_evaluates_what_a_run_asks_for() {
    Fixture its;
    ldm_task task;
    ldm_task_init(&task, sizeof task);
    MISUSED(its, ldm_engine_evaluate(its.context, its.engine, its.run));  // nothing yet
    while (ldm_run_next(its.context, its.run, &task) == LDM_OK && task.kind != LDM_TASK_DONE) {
        if (task.kind == LDM_TASK_STEP) MISUSED(its, ldm_engine_evaluate(its.context, its.engine, its.run));
        if (task.kind == LDM_TASK_EVALUATE) CHECK(ldm_engine_evaluate(its.context, its.engine, its.run) == LDM_OK);
    }
    CHECK(task.kind == LDM_TASK_DONE);
    MISUSED(its, ldm_engine_evaluate(its.context, its.engine, its.run));
    Fixture drawn;
    CHECK(drawn.draw() == LDM_OK && drawn.pixels() == its.pixels());
    CHECK(drawn.draw() == LDM_OK);  // it is done
    CHECK(drawn.seen.steps == std::vector<int>({1, 2, 3}));
}

void runs_of_another_package_are_refused() {
    Fixture its, other;
    MISUSED(its, ldm_engine_draw(its.context, its.engine, other.run));
    ldm_task task;
    ldm_task_init(&task, sizeof task);
    CHECK(ldm_run_next(its.context, other.run, &task) == LDM_OK && task.kind == LDM_TASK_EVALUATE);
    MISUSED(its, ldm_engine_evaluate(its.context, its.engine, other.run));
    CHECK(ldm_engine_draw(its.context, other.engine, other.run) == LDM_OK);
}

// A preview that the progress function asks for is there when it is called next, and the run is drawn to its end.
void previews_do_not_end_it() {
    Fixture plain, looked;
    CHECK(plain.draw() == LDM_OK && plain.seen.previews == 0);
    looked.seen.asks_for_preview_at = 1;
    CHECK(looked.draw() == LDM_OK);
    CHECK(looked.seen.steps == std::vector<int>({1, 2, 3}) && looked.seen.previews == 2);
    CHECK(looked.seen.preview_steps == std::vector<int>({0, 1, 1}));  // a host sees which is new
    CHECK(looked.pixels() == plain.pixels());
}

// No step follows the last one, so that its preview is told by itself; asking for it again is refused, and no failure
// of the call that draws.
void the_preview_of_the_last_step_is_told() {
    Fixture plain, looked;
    CHECK(plain.draw() == LDM_OK);
    looked.seen.asks_for_preview_at = 3;
    CHECK(looked.draw() == LDM_OK);
    CHECK(*ldm_error_code(looked.context) == '\0');
    CHECK(looked.seen.steps == std::vector<int>({1, 2, 3, 3}));
    CHECK(looked.seen.preview_steps == std::vector<int>({0, 0, 0, 3}));
    CHECK(looked.pixels() == plain.pixels());
}

// One that is asked for within the first step is of step 1: 0 would say that there is none.
void a_preview_within_a_step_is_of_that_step() {
    ldm_run_options heun = apple();
    heun.sampler = "heun";
    Fixture its(heun);
    ldm_task task;
    ldm_task_init(&task, sizeof task);
    while (CHECK(ldm_run_next(its.context, its.run, &task) == LDM_OK)) {
        CHECK(task.kind == LDM_TASK_EVALUATE && ldm_engine_evaluate(its.context, its.engine, its.run) == LDM_OK);
        if (std::strcmp(task.component, "unet") == 0) break;
    }
    CHECK(ldm_run_preview(its.context, its.run) == LDM_OK);
    CHECK(its.draw() == LDM_OK);
    CHECK(its.seen.steps == std::vector<int>({1, 2, 3}));
    CHECK(its.seen.preview_steps == std::vector<int>({1, 1, 1}));
}

// A preview is saved as what it is, also after later steps.
void a_saved_preview_says_that_it_is_one() {
    Scratch scratch;
    Fixture its;
    its.seen.asks_for_preview_at = 1;
    its.seen.saves_at = 3;
    its.seen.saved = scratch.at("preview.png");
    CHECK(its.draw() == LDM_OK);
    std::string file = read_file(its.seen.saved);
    CHECK(file.find("preview after") != std::string::npos && file.find("stopped after") == std::string::npos);
    CHECK(ldm_run_save_png(its.context, its.run, 0, its.seen.saved.c_str(), 1) == LDM_OK);
    CHECK(read_file(its.seen.saved).find("preview after") == std::string::npos);
}

void the_progress_function_may_end_it() {
    Fixture its;
    its.seen.cancels_at = 2;
    CHECK(its.draw() == LDM_CANCELLED);
    CHECK(its.seen.steps == std::vector<int>({1, 2}));
    CHECK(ldm_engine_evaluate(its.context, its.engine, its.run) == LDM_CANCELLED);
}

// The encoder of images is opened when it is needed: what there is to tell of it comes then, to a context that listens.
void notices_come_with_what_they_are_about() {
    std::vector<unsigned char> pixels(64 * 48 * 3, 100);
    ldm_image image = image_of(pixels.data(), 3);
    ldm_run_options options = apple();
    options.images = &image;
    options.image_count = 1;
    Fixture its(options);
    ldm::Scope scope = its.context->scope();
    ldm::engines::Settings settings;
    settings.large_weights = 0;
    settings.memory_left = 1;  // too little to keep weights in, which is told
    ldm_engine engine(ldm::system_allocator(), its.package);
    CHECK(engine.components->start(scope, settings).ok());
    its.seen.logged.clear();
    ldm_context* silent = nullptr;
    CHECK(ldm_context_create(nullptr, &silent) == LDM_OK);
    ldm_task task;
    ldm_task_init(&task, sizeof task);
    CHECK(ldm_run_next(silent, its.run, &task) == LDM_OK && ldm_engine_evaluate(silent, &engine, its.run) == LDM_OK);
    ldm_context_free(silent);
    CHECK(ldm_engine_draw(its.context, &engine, its.run) == LDM_OK);
    CHECK(its.seen.logged.size() == 4 && its.seen.logged[0].find("text_encoder has ") == 0);
    CHECK(its.seen.logged.size() == 4 && its.seen.logged[1].find("vae_encoder has ") == 0);
}

// What a developer is told of a run, in order; each detail may be answered with a call that shares the package.
struct Details {
    std::vector<std::string> all;
    ldm_context* other = nullptr;
    ldm_package* package = nullptr;

    Details() { CHECK(ldm_context_create(nullptr, &other) == LDM_OK); }
    ~Details() { ldm_context_free(other); }
    Details(const Details&) = delete;
    Details& operator=(const Details&) = delete;

    static void log(void* user, ldm_log_level level, const char* text) {
        auto* its = static_cast<Details*>(user);
        if (level == LDM_LOG_DETAIL) its->all.emplace_back(text);
        if (its->package != nullptr) CHECK(ldm_package_confirm(its->other, its->package) == LDM_OK);
    }
    // How many begin so and hold that.
    size_t count(const std::string& beginning, const std::string& part) const {
        size_t found = 0;
        for (const std::string& each : all) found += each.find(beginning) == 0 && each.find(part) != std::string::npos;
        return found;
    }
};

void details_are_told_of_each_step() {
    for (int maps = 0; maps < 2; ++maps) {
        Details details;
        Handles its;
        ldm_context_options callbacks = telling(Details::log, &details);
        ldm_package_options full;
        ldm_package_options_init(&full, sizeof full);
        full.check = LDM_CHECK_FULL;
        const std::string folder = golden_path("package");
        if (!CHECK(its.open(&callbacks, &full))) return;
        CHECK(details.count("package: " + folder + " is ", " files, ") == 1 && details.count("package: ", " s") == 1);
        CHECK(details.count("package: unet has 172 weights, ", "unet/model.safetensors") == 1);
        details.package = its.package;
        ldm_engine_options options = engine_options();
        options.maps_weights = maps;
        options.threads = 2 * maps;
        CHECK(its.start(&options));
        CHECK(details.count("engine: ONNX Runtime 1.", " loaded from ") == 1);
        std::string how = maps == 1 ? ", threads 2, 0 MB of weights mapped, opened in "
                                    : ", threads of its choice, 0 MB of weights copied, opened in ";
        CHECK(details.count("engine: unet: " + folder + "/unet/", how) == 1);
        CHECK(details.count("engine: unet: ", " on ort, ") == 1);
        CHECK(details.count("engine: vae_decoder: ", how) == 1 && details.count("engine: vae_encoder: ", "") == 0);
        CHECK(details.count("package: of ", " files of " + folder + " the hashes of ") == 1);
        CHECK(details.count("package: of ", " are right, 0 remembered and ") == 1);
        CHECK(its.begin(apple()) && its.draw() == LDM_OK);
        CHECK(details.count("engine: unet evaluated in ", " s") == 3);
    }
}

// Nobody is told that hashes are right which nobody looked at.
void what_was_checked_is_what_is_told() {
    Details details;
    Handles its;
    ldm_context_options callbacks = telling(Details::log, &details);
    ldm_package_options sizes;
    ldm_package_options_init(&sizes, sizeof sizes);
    sizes.check = LDM_CHECK_SIZE;
    CHECK(its.open(&callbacks, &sizes) && ldm_package_confirm(its.context, its.package) == LDM_OK);
    CHECK(details.count("package: of ",
                        " the hashes of 0 are right, 0 remembered and 0 computed; no file has changed") == 1);
}

void options_of_a_provider_are_pairs() {
    Fixture its;
    const char *texts[] = {"device_id", nullptr}, *numbers[] = {"0", "1"};
    for (int turn = 0; turn < 4; ++turn) {
        ldm_engine_options options = engine_options();
        options.provider = "cuda";
        options.provider_keys = turn == 0 ? texts : turn == 2 ? nullptr : numbers;
        options.provider_values = turn == 1 ? texts : turn == 3 ? nullptr : numbers;
        options.provider_option_count = 2;
        ldm_engine* engine = nullptr;
        MISUSED(its, ldm_engine_open(its.context, its.package, &options, &engine));
        CHECK(engine == nullptr);
    }
}

// Draw with weights that are copied or mapped, and return the latents.
std::vector<float> drawn_with(Handles& its, int maps, const FailingAllocator& counting) {
    ldm_engine_options options = engine_options();
    CHECK(options.maps_weights == 0);
    options.maps_weights = maps;
    CHECK(its.start(&options));
    long long before = counting.alive;
    CHECK(its.begin(apple()) && its.draw() == LDM_OK);
    const float* latents = nullptr;
    int64_t shape[4];
    if (!CHECK(ldm_run_latents(its.context, its.run, &latents, shape) == LDM_OK)) return {};
    std::vector<float> drawn(latents, latents + shape[0] * shape[1] * shape[2] * shape[3]);
    its.free_run();
    CHECK((counting.alive < before) == (maps == 1));
    its.free_engine();
    return drawn;
}

// The same latents but for rounding; what is done with gives its memory back.
void weights_stay_in_their_files() {
    FailingAllocator counting;
    ldm_context_options memory;
    ldm_context_options_init(&memory, sizeof memory);
    memory.allocate = counting.allocator().allocate;
    memory.release = counting.allocator().release;
    memory.memory_user = counting.allocator().user;
    {
        Handles its;
        if (!CHECK(its.open(&memory, nullptr))) return;
        const std::vector<float> copied = drawn_with(its, 0, counting), mapped = drawn_with(its, 1, counting);
        CHECK(copied.size() == mapped.size() && !copied.empty());
        for (size_t index = 0; index < copied.size(); ++index) {
            CHECK(std::fabs(copied[index] - mapped[index]) <= 1e-4f);
        }
        ldm_engine_options options = engine_options();
        options.maps_weights = 2;
        CHECK(ldm_engine_open(its.context, its.package, &options, &its.engine) == LDM_BAD_REQUEST);
        CHECK(std::string(ldm_error_text(its.context)) == "maps_weights is 2; expected 0 or 1");
    }
    CHECK(counting.alive == 0);
}

}  // namespace

int main() {
    Scratch scratch;  // its cache folder
    it_evaluates_what_a_run_asks_for();
    runs_of_another_package_are_refused();
    previews_do_not_end_it();
    the_preview_of_the_last_step_is_told();
    a_preview_within_a_step_is_of_that_step();
    a_saved_preview_says_that_it_is_one();
    the_progress_function_may_end_it();
    notices_come_with_what_they_are_about();
    details_are_told_of_each_step();
    what_was_checked_is_what_is_told();
    options_of_a_provider_are_pairs();
    weights_stay_in_their_files();
    return done();
}
