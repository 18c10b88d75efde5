// The handles of C++: all that they give, and whatever way they move or end. For the address sanitizer.
// Needs ONNX Runtime.
#include "ldm_runtime.hpp"

#include <memory>
#include <vector>

#include "tests/kit.h"
#include "tests/scratch.h"

namespace {

ldm::RunOptions apples(uint64_t seed = 1) {
    ldm::RunOptions options;
    *options.operator->() = apple();
    options->seed = seed;
    return options;
}

std::optional<ldm::Package> kit(const ldm::Context& context) {
    return ldm::Package::open(context, golden_path("package").c_str());
}

// Take a run to its end with the engine that is a formula.
bool finish(const ldm::Context& context, ldm::Run& run) {
    ldm::Task task;
    while (run.next(context, task) == LDM_OK && task.kind != LDM_TASK_DONE) {
        if (task.kind != LDM_TASK_EVALUATE) continue;
        Outputs outputs(task);
        if (run.give(context, outputs.tensors.data(), outputs.tensors.size()) != LDM_OK) return false;
    }
    return task.kind == LDM_TASK_DONE;
}

void a_package_tells_what_it_is() {
    ldm::Context context;
    auto package = kit(context);
    if (!CHECK(package.has_value())) return;
    CHECK(package->confirm(context) == LDM_OK && !package->name().empty() && package->identity().size() == 64);
    auto defaults = package->defaults(context);
    CHECK(defaults && defaults->steps > 0 && defaults->width > 0 && std::strlen(defaults->sampler) > 0);
    auto text = package->describe(context), json = package->describe(context, true);
    CHECK(text && json && json->front() == '{');
    auto plan = package->plan_json(context, "ddim", 3), late = package->plan_json(context, "ddim", 3, 2);
    CHECK(plan && late && late->find("\"sampler\": \"ddim\", \"steps\": 3, \"start\": 2") == 1);
    CHECK(!package->plan_json(context, "abacus") && context.code() == "request.sampler" && !context.text().empty());
    CHECK(!ldm::Package::open(context, "/nowhere") && context.code() == "package.missing");
}

void a_package_may_be_texts() {
    std::string manifest = read_file(golden_path("package/manifest.json"));
    std::string tokenizer = read_file(golden_path("package/tokenizer/tokenizer.json"));
    ldm::Context context;
    ldm_text text{tokenizer.data(), tokenizer.size()};
    auto package = ldm::Package::parse(context, manifest, &text, 1);
    if (!CHECK(package.has_value())) return;
    CHECK(!package->describe(context) && context.code() == "other.misuse");  // it has no files
    CHECK(!ldm::Package::parse(context, "{", &text, 1) && context.code() == "json.syntax");
    auto run = ldm::Run::create(context, *package, apples());
    CHECK(run && finish(context, *run));
}

void a_run_tells_what_it_made() {
    Scratch scratch;
    ldm::Context context;
    auto package = kit(context);
    auto run = ldm::Run::create(context, *package, apples(7));
    if (!CHECK(run.has_value())) return;
    CHECK(!run->image(context, 0) && !run->latents(context) && run->image_count() == 1);
    CHECK(run->seed(context, 0) == 7 && !run->seed(context, 1));
    CHECK(finish(context, *run));
    auto latents = run->latents(context);
    CHECK(latents && latents->shape[1] == 4 && latents->shape[3] == 8 && latents->data != nullptr);
    auto facts = run->metadata(context, 0);
    CHECK(facts && facts->count > 8 && std::strcmp(facts->keys[0], "prompt") == 0);
    CHECK(facts && std::strcmp(facts->values[0], "a red apple") == 0);
    CHECK(!run->metadata(context, 1));
    auto image = run->image(context, 0);
    CHECK(image && (*image)->width == 64 && (*image)->owned == nullptr);
    std::string path = scratch.at("apple.png");
    CHECK(context.check_output(path.c_str()) == LDM_OK && run->save_png(context, 0, path.c_str()) == LDM_OK);
    CHECK(context.check_output(path.c_str()) == LDM_BAD_OUTPUT && context.check_output(path.c_str(), true) == LDM_OK);
    auto read = ldm::Image::read_png(context, path.c_str());
    CHECK(read && (*read)->owned != nullptr);
    CHECK(read && std::memcmp((*read)->pixels, (*image)->pixels, 64 * 48 * 3) == 0);
    CHECK(!ldm::Image::read_png(context, "/nowhere.png") && context.code() == "request.image");
}

// Pixels are freed once, and with what holds them.
void images_move() {
    Scratch scratch;
    ldm::Context context;
    auto package = kit(context);
    auto run = ldm::Run::create(context, *package, apples());
    std::string path = scratch.at("apple.png");
    CHECK(run && finish(context, *run) && run->save_png(context, 0, path.c_str()) == LDM_OK);
    std::vector<ldm::Image> images;
    for (int index = 0; index < 5; ++index) {
        auto read = ldm::Image::read_png(context, path.c_str());
        if (CHECK(read.has_value())) images.push_back(std::move(*read));
    }
    ldm::Image moved(std::move(images[0]));
    CHECK(moved->owned != nullptr && images[0]->owned == nullptr && images[0]->width == 0);
    images[1] = std::move(moved);
    ldm::Image& same = images[2];
    images[2] = std::move(same);
    CHECK(images[1]->owned != nullptr && images[2]->owned != nullptr);
    ldm::RunOptions options = apples();
    options->images = images[1].get();
    options->image_count = 1;
    CHECK(ldm::Run::create(context, *package, options).has_value());
    images[3]->pixels = nullptr;  // what is owned is freed all the same
}

// A run keeps no context: the one that made it may move, or go.
void contexts_move_and_end_before_their_runs() {
    auto maker = std::make_unique<ldm::Context>();
    auto package = kit(*maker);
    auto run = ldm::Run::create(*maker, *package, apples());
    ldm::Context moved(std::move(*maker));
    ldm::Task task;
    CHECK(run && run->next(moved, task) == LDM_OK);
    CHECK(run->next(*maker, task) == LDM_MISUSE && maker->text().empty());  // it was moved from
    moved = ldm::Context();
    maker.reset();
    ldm::Context another;
    CHECK(finish(another, *run) && run->image(another, 0).has_value());
    ldm::Run held(std::move(*run));
    CHECK(run->next(another, task) == LDM_MISUSE && run->image_count() == 0);
    CHECK(held.next(another, task) == LDM_OK && task.kind == LDM_TASK_DONE);
}

// What is replaced is freed at once, so that a package may go after its engine was assigned to, whatever was assigned.
void packages_engines_and_runs_move() {
    ldm::Context context;
    auto first = kit(context);
    auto engine = ldm::Engine::open(context, *first);
    auto run = ldm::Run::create(context, *first, apples());
    if (!CHECK(engine && run)) return;
    {
        auto second = kit(context);
        auto other = ldm::Engine::open(context, *second);
        auto its = ldm::Run::create(context, *second, apples());
        if (!CHECK(other && its)) return;
        std::swap(*engine, *other);
        CHECK(engine->draw(context, *its) == LDM_OK && engine->draw(context, *run) == LDM_MISUSE);
        *engine = std::move(*other);
        *its = std::move(*run);
        std::swap(*first, *second);  // handles change places, packages stay where they are
        std::swap(*first, *second);
        run = std::move(its);
    }
    CHECK(engine->draw(context, *run) == LDM_OK);
    ldm::Package moved(std::move(*first));
    CHECK(first->name().empty() && !moved.name().empty());
    CHECK(ldm::Run::create(context, moved, apples()).has_value() && !ldm::Run::create(context, *first, apples()));
    engine.reset();
    run.reset();
}

}  // namespace

int main() {
    Scratch scratch;  // its cache folder
    a_package_tells_what_it_is();
    a_package_may_be_texts();
    a_run_tells_what_it_made();
    images_move();
    contexts_move_and_end_before_their_runs();
    packages_engines_and_runs_move();
    return done();
}
