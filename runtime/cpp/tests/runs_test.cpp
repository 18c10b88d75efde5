// Runs of the conformance kit through the C interface: latents after every evaluation and the image.
// Needs ONNX Runtime.
#include "ldm_runtime.hpp"

#include <cmath>
#include <vector>

#include "tests/check.h"
#include "tests/files.h"
#include "tests/onnxruntime.h"

namespace {

double relative_rms(const float* found, const float* expected, std::size_t count) {
    double error = 0.0, size = 0.0;
    for (std::size_t index = 0; index < count; ++index) {
        double other = expected[index], difference = found[index] - other;
        error += difference * difference;
        size += other * other;
    }
    return std::sqrt(error / size);
}

// An image of the kit, (height, width[, 3]) of 8 bits.
ldm_image image_of(const GoldenTensors& tensors, std::string_view name) {
    const ldm::json::Value& shape = *tensors.header.find(name)->find("shape");
    ldm_image image;
    ldm_image_init(&image, sizeof image);
    image.height = static_cast<int32_t>(shape.items[0].integer);
    image.width = static_cast<int32_t>(shape.items[1].integer);
    image.channels = shape.items.size == 3 ? 3 : 1;
    image.pixels = tensors.tensor<unsigned char>(name).data;
    return image;
}

struct Case {
    const ldm::json::Value& value;
    ldm::RunOptions options;
    ldm_image image, mask;

    Case(const ldm::json::Value& its, const GoldenTensors& tensors)
        : value(its), image(image_of(tensors, "image")), mask(image_of(tensors, "mask")) {
        ldm_run_options& it = *options.operator->();
        it.prompt = text("prompt");
        it.negative = text("negative");
        it.sampler = text("sampler");
        it.syntax = text("syntax");
        it.noise = text("noise");
        it.seed = std::strtoull(text("seed"), nullptr, 10);
        it.has_seed = 1;
        it.steps = static_cast<int32_t>(value.find("steps")->integer);
        it.guidance = value.find("guidance")->real;
        it.guidance_rescale = value.find("guidance_rescale")->real;
        it.guidance_from = value.find("guidance_interval")->items[0].real;
        it.guidance_to = value.find("guidance_interval")->items[1].real;
        it.width = 64;
        it.height = 48;
        const ldm::json::Value& variation = *value.find("variation");
        if (variation.kind == ldm::json::Kind::list) {
            it.has_variation = 1;
            it.variation_seed = std::strtoull(variation.items[0].text.data(), nullptr, 10);
            it.variation_strength = variation.items[1].real;
        }
        const ldm::json::Value& to = *value.find("to");
        if (to.kind == ldm::json::Kind::list) {
            it.to_prompt = to.items[0].text.data();
            it.to_seed = std::strtoull(to.items[1].text.data(), nullptr, 10);
            it.share = to.items[2].real;
        }
        if (value.find("strength")->kind == ldm::json::Kind::null) return;
        it.strength = value.find("strength")->real;
        it.images = &image;
        it.image_count = 1;
        if (value.find("mask")->boolean) it.mask = &mask;
    }

    const char* text(std::string_view name) const { return value.find(name)->text.data(); }
};

void draw(const ldm::Context& context, const ldm::Package& package, const ldm::Engine& engine, const Case& its,
          const GoldenTensors& tensors) {
    std::string name(its.value.find("tensors")->text);
    ldm::View<float> expected = tensors.tensor<float>(name + "/latents");
    constexpr std::size_t each = 4 * 6 * 8;
    auto run = ldm::Run::create(context, package, its.options);
    if (!CHECK(run.has_value())) {
        std::fprintf(stderr, "  %s: %s\n", name.c_str(), context.text().data());
        return;
    }
    ldm::Task task;
    std::size_t rows = 0;
    double worst = 0.0;
    while (run->next(context, task) == LDM_OK && task.kind != LDM_TASK_DONE) {
        if (task.kind != LDM_TASK_EVALUATE) continue;
        bool is_denoiser = std::string_view(task.component) == "unet";
        if (engine.evaluate(context, *run) != LDM_OK) break;
        auto latents = run->latents(context);
        if (!is_denoiser || !latents) continue;
        if (rows * each < expected.size)
            worst = std::fmax(worst, relative_rms(latents->data, &expected[rows * each], each));
        ++rows;
    }
    auto image = run->image(context, 0);
    if (!CHECK(image.has_value()) || !CHECK(rows * each == expected.size) || !CHECK(worst <= 1e-5)) {
        std::fprintf(stderr, "  %s, %s: %zu rows, relative RMS %g: %s\n", name.c_str(), its.text("sampler"), rows,
                     worst, context.text().data());
        return;
    }
    ldm::View<unsigned char> pixels = tensors.tensor<unsigned char>(name + "/picture");
    const auto* levels = static_cast<const unsigned char*>((*image)->pixels);
    int largest = 0;
    for (std::size_t index = 0; index < pixels.size; ++index) {
        int difference = std::abs(int{levels[index]} - int{pixels[index]});
        largest = difference > largest ? difference : largest;
    }
    if (!CHECK(largest <= 1)) std::fprintf(stderr, "  %s: the image is %d levels off\n", name.c_str(), largest);
}

}  // namespace

int main() {
    GoldenJson cases("runs.json");
    GoldenTensors tensors("runs.safetensors");
    ldm::Context context;
    ldm::PackageOptions package_options;
    package_options->check = LDM_CHECK_FULL;
    auto package = ldm::Package::open(context, golden_path("package").c_str(), package_options);
    if (!CHECK(package.has_value())) return std::fprintf(stderr, "%s\n", context.text().data()), 1;
    auto engine = ldm::Engine::open(context, *package);
    if (!CHECK(engine.has_value())) return std::fprintf(stderr, "%s\n", context.text().data()), 1;
    CHECK(cases.value.items.size > 40);
    for (const ldm::json::Value& value : cases.value.items)
        draw(context, *package, *engine, Case(value, tensors), tensors);
    return done();
}
