// The run as a state machine, with an engine that is a formula: what it asks for and in which order, misuse, previews,
// cancelling by the host, and every allocation failing once.
#include "core/run/run.h"

#include <cmath>
#include <vector>

#include "core/codes.h"
#include "tests/failing_allocator.h"
#include "tests/files.h"

using namespace ldm;

namespace {

// The kit's package as texts.
struct Texts {
    std::string manifest = read_file(golden_path("package/manifest.json"));
    std::string tokenizer = read_file(golden_path("package/tokenizer/tokenizer.json"));
};

const Texts& texts() {
    static const Texts all;
    return all;
}

struct Opened {
    Arena arena;
    Manifest manifest;
    Model model;

    explicit Opened(Allocator& memory) : arena(memory) {}
    Status read(Scope& scope) {
        LDM_TRY(read_manifest(scope, arena, texts().manifest, manifest));
        std::vector<Document> tokenizers(manifest.contract.text.size, Document{texts().tokenizer, "tokenizer.json"});
        return make_model(scope, arena, manifest, "", {tokenizers.data(), tokenizers.size()}, model);
    }
};

bool is(Status status, std::string_view code) { return !status.ok() && std::string_view(status.code()) == code; }

// Outputs that follow from the inputs, of the size that is asked for.
struct Formula {
    std::vector<std::vector<float>> numbers;
    std::vector<Tensor> outputs;

    View<Tensor> evaluate(const Task& task) {
        numbers.assign(task.outputs.size, {});
        outputs.assign(task.outputs.begin(), task.outputs.end());
        for (std::size_t index = 0; index < outputs.size(); ++index) {
            auto count = static_cast<std::size_t>(outputs[index].count());
            numbers[index].resize(count);
            const Tensor& input = task.inputs[0];
            for (std::size_t place = 0; place < count; ++place) {
                auto from = place % static_cast<std::size_t>(input.count());
                double value = input.type == ElementType::float32 ? static_cast<const float*>(input.data)[from]
                                                                  : static_cast<double>(from) * 0.01;
                numbers[index][place] = static_cast<float>(0.3 * value + 0.001 * static_cast<double>(place % 11));
            }
            outputs[index].data = numbers[index].data();
        }
        return {outputs.data(), outputs.size()};
    }
};

std::string_view prompt = "a red apple";
std::string_view negative = "blue";
std::uint64_t seed = 5;

RunOptions plain_options() {
    RunOptions options;
    options.prompts = View<std::string_view>{&prompt, 1};
    options.negative = negative;
    options.seed = seed;
    options.steps = 2;
    options.size = Size{64, 48};
    options.sampler = "euler_ancestral";
    return options;
}

// Take a run to its end. `order`: a letter for each task, the components' first letters, s for a step.
Status draw(Scope& scope, Run& run, std::string* order = nullptr) {
    Formula formula;
    Task task;
    while (true) {
        LDM_TRY(run.next(scope, task));
        if (order != nullptr) {
            *order += task.kind == Task::Kind::evaluate ? task.component.substr(0, 5)
                      : task.kind == Task::Kind::step   ? "step"
                                                        : "";
            *order += ' ';
        }
        if (task.kind == Task::Kind::done) return Status();
        if (task.kind == Task::Kind::evaluate) LDM_TRY(run.give(scope, formula.evaluate(task)));
    }
}

struct Fixture {
    Allocator memory = system_allocator();
    Failure failure;
    Scope scope{memory, failure};
    Opened opened{memory};

    Fixture() {
        if (!CHECK(opened.read(scope).ok())) std::fprintf(stderr, "  %s\n", failure.text);
    }
};

void tasks_come_in_order() {
    Fixture its;
    Run run(its.memory, its.opened.model);
    std::string order;
    CHECK(run.image(0) == nullptr);
    if (!CHECK(run.begin(its.scope, plain_options()).ok() && draw(its.scope, run, &order).ok())) {
        std::fprintf(stderr, "  %s\n", its.failure.text);
    }
    if (!CHECK(order == "text_ text_ unet step unet step vae_d  ")) std::fprintf(stderr, "  '%s'\n", order.c_str());
    CHECK(run.image(0) != nullptr && run.image(1) == nullptr && run.steps_done() == 2);
}

void an_evaluation_is_asked_again_until_it_is_given() {
    Fixture its;
    Run run(its.memory, its.opened.model);
    Task first, second;
    CHECK(run.begin(its.scope, plain_options()).ok());
    CHECK(run.next(its.scope, first).ok() && run.next(its.scope, second).ok());
    CHECK(first.kind == Task::Kind::evaluate && first.component == second.component);
    CHECK(is(run.give(its.scope, {}), codes::other_misuse));
    Formula formula;
    View<Tensor> outputs = formula.evaluate(second);
    formula.outputs[0].rank = 1;
    CHECK(is(run.give(its.scope, outputs), codes::engine_failed));
    formula.outputs[0].rank = 3;
    CHECK(run.give(its.scope, outputs).ok());
    CHECK(is(run.give(its.scope, outputs), codes::other_misuse));
    CHECK(is(run.preview(its.scope), codes::other_misuse));
}

void a_failed_run_has_no_image() {
    Fixture its;
    Run run(its.memory, its.opened.model);
    CHECK(run.begin(its.scope, plain_options()).ok());
    Formula formula;
    Task task;
    while (run.next(its.scope, task).ok() && task.kind != Task::Kind::preview) {
        if (task.kind == Task::Kind::evaluate) CHECK(run.give(its.scope, formula.evaluate(task)).ok());
        if (task.kind == Task::Kind::step) CHECK(run.preview(its.scope).ok());
    }
    CHECK(run.image(0) != nullptr && !run.is_over() && !run.is_asking());
    CHECK(run.next(its.scope, task).ok() && task.kind == Task::Kind::evaluate && run.is_asking());
    View<Tensor> outputs = formula.evaluate(task);
    formula.numbers[0][0] = std::nanf("");
    CHECK(is(run.give(its.scope, outputs), codes::result_not_finite));
    CHECK(run.image(0) == nullptr && run.is_over());
}

void what_is_not_finite_ends_the_run() {
    Fixture its;
    Run run(its.memory, its.opened.model);
    CHECK(run.begin(its.scope, plain_options()).ok());
    Formula formula;
    Task task;
    for (int turn = 0; turn < 3; ++turn) {
        CHECK(run.next(its.scope, task).ok());
        View<Tensor> outputs = formula.evaluate(task);
        if (turn == 2) formula.numbers[0][3] = std::nanf("");
        Status status = run.give(its.scope, outputs);
        CHECK(turn < 2 ? status.ok() : is(status, codes::result_not_finite));
    }
    CHECK(is(run.next(its.scope, task), codes::result_not_finite));
    CHECK(run.image(0) == nullptr);
}

void a_preview_changes_nothing() {
    Fixture its;
    Run looked(its.memory, its.opened.model), plain(its.memory, its.opened.model);
    CHECK(looked.begin(its.scope, plain_options()).ok() && plain.begin(its.scope, plain_options()).ok());
    CHECK(draw(its.scope, plain).ok());
    Formula formula;
    Task task;
    int steps = 0, previews = 0;
    while (looked.next(its.scope, task).ok() && task.kind != Task::Kind::done) {
        if (task.kind == Task::Kind::evaluate) CHECK(looked.give(its.scope, formula.evaluate(task)).ok());
        if (task.kind == Task::Kind::preview) previews += looked.image(0) != nullptr && task.step == steps;
        if (task.kind == Task::Kind::step) CHECK(looked.preview(its.scope).ok());
        steps += task.kind == Task::Kind::step;
    }
    CHECK(previews == 2 && steps == 2 && looked.is_over());
    CHECK(is(looked.preview(its.scope), codes::other_misuse));
    std::size_t bytes = 64 * 48 * 3;
    CHECK(looked.image(0) != nullptr && std::memcmp(looked.image(0), plain.image(0), bytes) == 0);
}

void a_batch_equals_its_singles() {
    Fixture its;
    RunOptions both = plain_options();
    both.count = 2;
    both.guidance = 1.0;
    Run batch(its.memory, its.opened.model);
    CHECK(batch.begin(its.scope, both).ok() && draw(its.scope, batch).ok());
    RunOptions second = plain_options();
    second.guidance = 1.0;
    std::uint64_t next = seed + 1;
    second.seed = next;
    Run single(its.memory, its.opened.model);
    CHECK(single.begin(its.scope, second).ok() && draw(its.scope, single).ok());
    CHECK(batch.request().seeds[1] == next);
}

void refused(const char* what, const RunOptions& options, const char* code) {
    Fixture its;
    Run run(its.memory, its.opened.model);
    Status status = run.begin(its.scope, options);
    if (!CHECK(status.code() != nullptr && std::string_view(status.code()) == code)) {
        std::fprintf(stderr, "  %s: %s (%s)\n", what, status.ok() ? "accepted" : status.code(), its.failure.text);
    }
}

void options_are_checked() {
    RunOptions options = plain_options();
    options.guidance = -1.0;
    refused("guidance", options, codes::request_invalid);
    options = plain_options();
    options.steps = 0;
    refused("no steps", options, codes::request_invalid);
    options = plain_options();
    options.size = Size{63, 48};
    refused("a size off the grid", options, codes::request_size);
    options = plain_options();
    options.count = 1000;
    refused("too many images", options, codes::request_batch);
    options = plain_options();
    options.sampler = "eular";
    refused("a sampler", options, codes::request_sampler);
    options = plain_options();
    options.noise = "white";
    refused("a noise", options, codes::request_noise);
    options = plain_options();
    options.strength = 0.5;
    refused("a strength without an image", options, codes::request_image);
    options = plain_options();
    options.original_size = Size{64, 64};
    refused("sizes for a model that reads none", options, codes::request_size);
    options = plain_options();
    options.prompts.reset();
    refused("no prompt", options, codes::request_invalid);
    std::string_view bad = "\xff";
    options = plain_options();
    options.prompts = View<std::string_view>{&bad, 1};
    refused("a prompt that is not UTF-8", options, codes::request_prompt);
    std::string_view heavy = "(red:11)";
    options = plain_options();
    options.prompts = View<std::string_view>{&heavy, 1};
    options.syntax = "weighted";
    refused("a weight", options, codes::request_prompt);
}

Status load_and_draw(Scope& scope, const RunOptions& options) {
    Opened opened(scope.memory);
    LDM_TRY(opened.read(scope));
    Run run(scope.memory, opened.model);
    LDM_TRY(run.begin(scope, options));
    return draw(scope, run);
}

void every_allocation_may_fail() {
    check_every_allocation("load, prompt, plan and two steps", [](Scope& scope) {
        return load_and_draw(scope, plain_options());
    });
    Fixture its;
    check_every_allocation("a run", [&](Scope& scope) {
        Run run(scope.memory, its.opened.model);
        LDM_TRY(run.begin(scope, plain_options()));
        return draw(scope, run);
    });
    std::vector<unsigned char> pixels(64 * 48 * 3, 100), white(64 * 48, 255);
    for (std::size_t index = 0; index < white.size() / 2; ++index) white[index] = 0;
    images::Samples image, mask;
    image.width = mask.width = 64;
    image.height = mask.height = 48;
    image.channels = 3;
    mask.channels = 1;
    image.data = pixels.data();
    mask.data = white.data();
    RunOptions inpainting = plain_options();
    inpainting.start_images = View<images::Samples>{&image, 1};
    inpainting.mask = &mask;
    inpainting.variation = Variation{9, 0.3};
    inpainting.syntax = "weighted";
    inpainting.noise = "torch";
    check_every_allocation("inpainting", [&](Scope& scope) {
        Run run(scope.memory, its.opened.model);
        LDM_TRY(run.begin(scope, inpainting));
        LDM_TRY(draw(scope, run));
        Arena arena(scope.memory);
        View<Fact> facts;
        return run.describe(scope, arena, 0, facts);
    });
    RunOptions between = plain_options();
    between.to = OtherEnd{"green tree", 7, 0.25};
    check_every_allocation("interpolation", [&](Scope& scope) {
        Run run(scope.memory, its.opened.model);
        LDM_TRY(run.begin(scope, between));
        return draw(scope, run);
    });
}

}  // namespace

int main() {
    tasks_come_in_order();
    an_evaluation_is_asked_again_until_it_is_given();
    what_is_not_finite_ends_the_run();
    a_failed_run_has_no_image();
    a_preview_changes_nothing();
    a_batch_equals_its_singles();
    options_are_checked();
    every_allocation_may_fail();
    return done();
}
