// The functions of the interface with values that are wrong in themselves: a status, and never a crash.
#include "ldm_runtime.h"

#include "tests/kit.h"

namespace {

void memory_functions_come_together() {
    ldm_context_options options;
    ldm_context_options_init(&options, sizeof options);
    options.allocate = [](void*, size_t) -> void* { return nullptr; };  // without its release
    ldm_context* context = nullptr;
    CHECK(ldm_context_create(&options, &context) == LDM_MISUSE && context == nullptr);
    options.release = [](void*, void*, size_t) {};
    CHECK(ldm_context_create(&options, &context) == LDM_NO_MEMORY && context == nullptr);
}

// Numbers that are no option's: a status, whatever they are.
void values_out_of_range_are_refused() {
    Kit kit;
    ldm_package* package = nullptr;
    const char* json = nullptr;
    using Field = int32_t ldm_run_options::*;
    const Field fields[] = {&ldm_run_options::count, &ldm_run_options::steps, &ldm_run_options::width,
                            &ldm_run_options::height, &ldm_run_options::stop_after};
    for (Field field : fields) {
        for (int32_t value : {INT32_MIN, -1, INT32_MAX}) {
            ldm_run_options options = apple();
            options.*field = value;
            CHECK(kit.begin(options) == LDM_BAD_REQUEST);
            CHECK(std::strncmp(ldm_error_code(kit.context), "request.", 8) == 0);
        }
    }
    for (int32_t value : {INT32_MIN, -1, INT32_MAX}) {
        CHECK(ldm_plan_json(kit.context, kit.package, nullptr, value, 0, &json) == LDM_BAD_REQUEST && json == nullptr);
        CHECK(ldm_plan_json(kit.context, kit.package, nullptr, 4, value, &json) == LDM_BAD_REQUEST && json == nullptr);
    }
    ldm_package_options package_options;
    ldm_package_options_init(&package_options, sizeof package_options);
    package_options.check = 3;
    MISUSED(kit, ldm_package_open(kit.context, golden_path("package").c_str(), &package_options, &package));
    CHECK(std::strcmp(ldm_status_name(static_cast<ldm_status>(15)), "unknown status") == 0);
}

void what_contradicts_itself_is_refused() {
    Kit kit;
    const char* texts[] = {"a red apple"};
    uint64_t seeds[] = {1};
    for (int turn = 0; turn < 12; ++turn) {
        ldm_run_options options = apple();
        if (turn == 0) options.prompts = texts, options.prompt_count = 1;
        if (turn == 1) options.negative = texts[0], options.negatives = texts;
        if (turn == 2) options.prompt_count = 1, options.prompt = nullptr;
        if (turn == 3) options.image_count = 1;
        if (turn == 4) options.seeds = seeds, options.seed_count = 1;  // beside a seed
        if (turn == 5) options.seed = 0, options.has_seed = 0, options.seeds = seeds;  // of none
        if (turn == 7) options.seed_count = 3;                         // of no seeds
        if (turn == 8) options.has_seed = 0;  // what would be drawn is not the image of the seed
        if (turn == 9) options.variation_strength = 0.5;
        ldm_image image;
        ldm_image_init(&image, sizeof image);
        if (turn == 11) options.images = &image;  // none of them
        if (turn == 10) options.variation_seed = 7;
        if (turn == 6) options.prompt_embeds = reinterpret_cast<const float*>(seeds);
        CHECK(kit.begin(options) == LDM_BAD_REQUEST);
        CHECK(std::strncmp(ldm_error_code(kit.context), "request.", 8) == 0);
    }
}

void nulls_within_arrays_are_told() {
    Kit kit;
    const char* texts[] = {"a red apple", nullptr};
    ldm_run_options options = apple();
    options.prompt = nullptr;
    options.prompts = texts;
    options.prompt_count = 2;
    MISUSED(kit, kit.begin(options));
    const char* prompts[] = {"a red apple", "a green tree"};
    options.prompts = prompts;
    options.negatives = texts;
    MISUSED(kit, kit.begin(options));
    unsigned char pixels[64 * 48] = {};
    ldm_image images[] = {image_of(pixels, 1), image_of(pixels, 1)};
    images[1].pixels = nullptr;
    options.negatives = nullptr;
    options.images = images;
    options.image_count = 2;
    MISUSED(kit, kit.begin(options));
    images[1].pixels = pixels;
    CHECK(kit.begin(options) == LDM_OK);
    options.mask = &images[1];
    images[1].pixels = nullptr;
    options.image_count = 1;
    MISUSED(kit, kit.begin(options));
    images[1].pixels = pixels;
    images[1].pixel_type = 3;
    CHECK(kit.refuses(options, "request.image"));
    ldm_text text{nullptr, 8};
    ldm_package* package = nullptr;
    MISUSED(kit, ldm_package_parse(kit.context, {kit.manifest.data(), kit.manifest.size()}, &text, 1, &package));
    CHECK(package == nullptr);
}

// Arrays of numbers come with their counts: a wrong one is refused, and not read over.
void counts_of_numbers_are_checked() {
    Kit kit;
    std::vector<float> numbers(4 * 6 * 8, 0.5f);
    ldm_run_options options = apple();
    options.latents = numbers.data();
    for (size_t count : {size_t{0}, numbers.size() - 1, numbers.size() + 1, SIZE_MAX}) {
        options.latents_count = count;
        CHECK(kit.refuses(options, "request.array"));
    }
    options.latents_count = numbers.size();
    CHECK(kit.begin(options) == LDM_OK);
    options.width = options.height = 0;
    CHECK(kit.refuses(options, "request.size"));

    options = apple();
    options.prompt = nullptr;
    options.prompt_embeds = numbers.data();
    options.embeds_count = 1;
    options.embeds_tokens = 12;
    for (size_t width : {size_t{0}, size_t{5}, size_t{7}, SIZE_MAX}) {
        options.embeds_width = width;
        CHECK(kit.refuses(options, "request.array"));
    }
    options.embeds_width = 6;
    CHECK(kit.begin(options) == LDM_OK);
    options.prompt_embeds = nullptr;
    options.pooled_prompt_embeds = numbers.data();
    options.prompt = "a red apple";
    CHECK(kit.refuses(options, "request.array"));
}

// A count beside an array that is not there was meant for one that was forgotten.
void a_count_without_its_array_is_refused() {
    Kit kit;
    auto refused = [&](void (*fill)(ldm_run_options& options), const char* code, std::string_view sentence) {
        ldm_run_options options = apple();
        fill(options);
        CHECK(kit.refuses(options, code));
        CHECK(std::string_view(ldm_error_text(kit.context)) == sentence);
    };
    refused([](ldm_run_options& its) { its.prompt_count = 2; }, "request.invalid",
            "prompt_count is 2, but prompts is NULL; give prompts, or leave prompt_count 0");
    refused([](ldm_run_options& its) { its.seed_count = 2; }, "request.invalid",
            "seed_count is 2, but seeds is NULL; give seeds, or leave seed_count 0");
    refused([](ldm_run_options& its) { its.image_count = 2; }, "request.image",
            "image_count is 2, but images is NULL; give images, or leave image_count 0");
    refused([](ldm_run_options& its) { its.latents_count = 2; }, "request.array",
            "latents_count is 2, but latents is NULL; give latents, or leave latents_count 0");
    refused([](ldm_run_options& its) { its.embeds_count = 2; }, "request.array",
            "embeds_count is 2, but prompt_embeds is NULL; give prompt_embeds, or leave embeds_count 0");
    refused([](ldm_run_options& its) { its.embeds_tokens = 2; }, "request.array",
            "embeds_tokens is 2, but prompt_embeds is NULL; give prompt_embeds, or leave embeds_tokens 0");
    refused([](ldm_run_options& its) { its.embeds_width = 2; }, "request.array",
            "embeds_width is 2, but prompt_embeds is NULL; give prompt_embeds, or leave embeds_width 0");
    refused([](ldm_run_options& its) { its.pooled_width = 2; }, "request.array",
            "pooled_width is 2, but pooled_prompt_embeds is NULL; give pooled_prompt_embeds, or leave pooled_width 0");
}

// Advice that is followed leads to a run, not to the next refusal.
void a_seed_beside_seeds_is_refused_as_what_it_is() {
    Kit kit;
    const uint64_t seeds[] = {5};
    ldm_run_options options = apple();
    options.seeds = seeds;
    options.seed_count = 1;
    for (int32_t has_seed : {0, 1}) {
        options.has_seed = has_seed;
        CHECK(kit.begin(options) == LDM_BAD_REQUEST);
        CHECK(std::string_view(ldm_error_text(kit.context)) == "both seed and seeds were given; give one of them");
    }
    options.seed = 0;
    options.has_seed = 0;
    CHECK(kit.begin(options) == LDM_OK);
}

// The system would take it for the current folder.
void an_empty_path_is_refused() {
    Kit kit;
    ldm_package* package = nullptr;
    ldm_report* report = nullptr;
    ldm_image image;
    ldm_image_init(&image, sizeof image);
    auto refused = [&](ldm_status status) {
        CHECK(status == LDM_BAD_REQUEST && kit.says("request.path"));
        CHECK(std::string_view(ldm_error_text(kit.context)) == "path is ''; expected a path");
    };
    refused(ldm_package_open(kit.context, "", nullptr, &package));
    refused(ldm_verify(kit.context, "", nullptr, &report));
    refused(ldm_image_read_png(kit.context, "", &image));
    refused(ldm_check_output(kit.context, "", 0));
    refused(ldm_run_save_png(kit.context, kit.run, 0, "", 0));
    ldm_engine_options options;
    ldm_engine_options_init(&options, sizeof options);
    options.library = "";
    CHECK(ldm_verify(kit.context, golden_path("package").c_str(), &options, &report) == LDM_BAD_REQUEST);
    CHECK(std::string_view(ldm_error_text(kit.context)) == "library is ''; expected a path");
    CHECK(package == nullptr && report == nullptr && image.pixels == nullptr);
}

void outputs_of_another_kind_are_refused() {
    Kit kit;
    ldm_task task;
    ldm_task_init(&task, sizeof task);
    CHECK(ldm_run_next(kit.context, kit.run, &task) == LDM_OK && task.kind == LDM_TASK_EVALUATE);
    ldm_tensor output = task.outputs[0];
    MISUSED(kit, ldm_run_give(kit.context, kit.run, &output, 1));  // no data
    std::string numbers(output.bytes, '\0');
    output.data = numbers.data();
    output.rank = 9;
    MISUSED(kit, ldm_run_give(kit.context, kit.run, &output, 1));
    output.rank = task.outputs[0].rank;
    for (size_t bytes : {size_t{0}, output.bytes - 4, output.bytes + 4}) {
        output.bytes = bytes;
        MISUSED(kit, ldm_run_give(kit.context, kit.run, &output, 1));
    }
    output.bytes = task.outputs[0].bytes;
    for (int64_t size : {int64_t{-1}, int64_t{0}, INT64_MAX}) {
        output.shape[1] = size;
        MISUSED(kit, ldm_run_give(kit.context, kit.run, &output, 1));
    }
    output.shape[1] = task.outputs[0].shape[1];
    int no_type = 42;
    std::memcpy(&output.element_type, &no_type, sizeof no_type);
    MISUSED(kit, ldm_run_give(kit.context, kit.run, &output, 1));
    output.element_type = LDM_FLOAT32;
    output.name = "another";
    MISUSED(kit, ldm_run_give(kit.context, kit.run, &output, 1));
    output.name = task.outputs[0].name;
    output.shape[1] *= 2;
    output.shape[2] /= 2;
    CHECK(ldm_run_give(kit.context, kit.run, &output, 1) == LDM_ENGINE_FAILED);
    output.shape[1] /= 2;
    output.shape[2] *= 2;
    CHECK(ldm_run_give(kit.context, kit.run, &output, 1) == LDM_OK);
}

// What a run keeps is not in the memory of the context that it was driven with.
void contexts_may_go_before_what_they_made() {
    Kit kit;
    ldm_run_options options;
    ldm_run_options_init(&options, sizeof options);
    options.prompt = "a red apple";
    options.has_variation = 1;
    options.variation_seed = 7;
    options.variation_strength = 0.5;
    ldm_run* run = nullptr;
    ldm_task task;
    ldm_task_init(&task, sizeof task);
    task.kind = LDM_TASK_EVALUATE;
    while (task.kind != LDM_TASK_DONE) {
        ldm_context* passing = nullptr;
        CHECK(ldm_context_create(nullptr, &passing) == LDM_OK);
        if (run == nullptr) CHECK(ldm_run_create(passing, kit.package, &options, &run) == LDM_OK);
        if (!CHECK(ldm_run_next(passing, run, &task) == LDM_OK)) task.kind = LDM_TASK_DONE;
        if (task.kind == LDM_TASK_EVALUATE) {
            ldm_tensor output = task.outputs[0];
            std::string numbers(output.bytes, '\0');
            output.data = numbers.data();
            CHECK(ldm_run_give(passing, run, &output, 1) == LDM_OK);
        }
        ldm_context_free(passing);
    }
    ldm_run_free(run);
}

}  // namespace

int main() {
    memory_functions_come_together();
    values_out_of_range_are_refused();
    what_contradicts_itself_is_refused();
    nulls_within_arrays_are_told();
    counts_of_numbers_are_checked();
    a_count_without_its_array_is_refused();
    a_seed_beside_seeds_is_refused_as_what_it_is();
    an_empty_path_is_refused();
    outputs_of_another_kind_are_refused();
    contexts_may_go_before_what_they_made();
    CHECK(std::strcmp(ldm_status_name(LDM_CANCELLED), "LDM_CANCELLED") == 0);
    CHECK(ldm_abi_version() == LDM_ABI_VERSION && ldm_version()[0] != '\0');
    return done();
}
