// The conformance kit's package through the C interface, and an engine that is a formula.
#ifndef LDM_TESTS_KIT_H
#define LDM_TESTS_KIT_H

#include <cstring>
#include <string>
#include <vector>

#include "ldm_runtime.h"
#include "tests/check.h"
#include "tests/files.h"

inline ldm_run_options apple() {
    ldm_run_options options;
    ldm_run_options_init(&options, sizeof options);
    options.prompt = "a red apple";
    options.seed = 1;
    options.has_seed = 1;
    options.steps = 3;
    options.guidance = 1.0;
    options.width = 64;
    options.height = 48;
    return options;
}

// An image of that size, of 8 bits. Its pixels are the caller's.
inline ldm_image image_of(const unsigned char* pixels, int32_t channels) {
    ldm_image image;
    ldm_image_init(&image, sizeof image);
    image.width = 64;
    image.height = 48;
    image.channels = channels;
    image.pixels = pixels;
    return image;
}

struct Kit {
    std::string manifest = read_file(golden_path("package/manifest.json"));
    std::string tokenizer = read_file(golden_path("package/tokenizer/tokenizer.json"));
    ldm_context* context = nullptr;
    ldm_package* package = nullptr;
    ldm_run* run = nullptr;

    explicit Kit(const ldm_context_options* context_options = nullptr, const ldm_run_options& options = apple()) {
        CHECK(ldm_context_create(context_options, &context) == LDM_OK);
        ldm_text text{tokenizer.data(), tokenizer.size()};
        CHECK(ldm_package_parse(context, {manifest.data(), manifest.size()}, &text, 1, &package) == LDM_OK);
        CHECK(ldm_run_create(context, package, &options, &run) == LDM_OK);
    }
    ~Kit() {
        ldm_run_free(run);
        ldm_package_free(package);
        ldm_context_free(context);
    }
    Kit(const Kit&) = delete;
    Kit& operator=(const Kit&) = delete;

    // Begin another run, which is there unless it is refused, and is freed at once.
    ldm_status begin(const ldm_run_options& options) const {
        ldm_run* another = nullptr;
        ldm_status status = ldm_run_create(context, package, &options, &another);
        CHECK((another != nullptr) == (status == LDM_OK));
        ldm_run_free(another);
        return status;
    }
    bool refuses(const ldm_run_options& options, const char* code) const {
        return begin(options) == LDM_BAD_REQUEST && says(code);
    }

    // Whether the last call was refused as wrong in itself, with a sentence.
    bool says_misuse() const { return says("other.misuse"); }
    bool says(const char* code) const {
        return std::strcmp(ldm_error_code(context), code) == 0 && ldm_error_text(context)[0] != '\0';
    }
};

#define MISUSED(kit, ...) (CHECK((__VA_ARGS__) == LDM_MISUSE) && CHECK((kit).says_misuse()))

// What a task asks for, as the formula has it.
struct Outputs {
    std::vector<std::vector<float>> numbers;
    std::vector<ldm_tensor> tensors;

    explicit Outputs(const ldm_task& task) {
        for (size_t index = 0; index < task.output_count; ++index) {
            ldm_tensor tensor = task.outputs[index];
            std::vector<float> values(tensor.bytes / sizeof(float));
            const ldm_tensor& input = task.inputs[0];
            for (size_t place = 0; place < values.size(); ++place) {
                const auto* given = static_cast<const float*>(input.data);
                bool is_float = input.element_type == LDM_FLOAT32;
                float from = is_float ? given[place % (input.bytes / sizeof(float))] : 1.0f;
                values[place] = 0.3f * from + 0.01f * static_cast<float>(place % 11);
            }
            numbers.push_back(std::move(values));
            tensor.data = numbers.back().data();
            tensors.push_back(tensor);
        }
    }
    ldm_status give(ldm_context* context, ldm_run* run) const {
        return ldm_run_give(context, run, tensors.data(), tensors.size());
    }
};

// Take a run to its next task of a kind. False where it fails, or comes to its end before.
inline bool go_to(ldm_context* context, ldm_run* run, int32_t kind, ldm_task& task) {
    ldm_task_init(&task, sizeof task);
    while (ldm_run_next(context, run, &task) == LDM_OK) {
        if (task.kind == kind) return true;
        if (task.kind == LDM_TASK_DONE) return false;
        if (task.kind == LDM_TASK_EVALUATE && Outputs(task).give(context, run) != LDM_OK) return false;
    }
    return false;
}

#endif
