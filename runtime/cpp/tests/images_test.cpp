// Images as arrays: every golden case of Pillow and of the Python runtime, and what they do not say.
#include <cmath>

#include "core/codes.h"
#include "core/images/pixels.h"
#include "core/images/resample.h"
#include "tests/check.h"
#include "tests/failing_allocator.h"
#include "tests/golden_images.h"

using namespace ldm;
using namespace ldm::images;

static Allocator heap = system_allocator();

static const GoldenJson& cases() {
    static const GoldenJson read("images.json");
    return read;
}

static void samples_are_settled() {
    for (const json::Value& each : cases().value.find("settle")->items) {
        std::string name = text_of(each, "tensors");
        Samples samples{number_of(each, "width"), number_of(each, "height"), int(number_of(each, "channels")),
                        int(number_of(each, "bits")), images_golden().tensor<std::uint8_t>(name + "/samples").data, 0};
        Failure failure;
        Scope scope{heap, failure};
        Image image(heap);
        CHECK(settle(scope, samples, "the image", image).ok());
        check_image(image, name + "/expected");
        // The same from rows that do not follow one another.
        std::size_t row = std::size_t(samples.width) * std::size_t(samples.channels * samples.bits / 8);
        std::string apart;
        for (std::int64_t y = 0; y < samples.height; ++y) {
            apart.append(static_cast<const char*>(samples.data) + std::size_t(y) * row, row).append("gap");
        }
        samples.data = apart.data();
        samples.row_bytes = row + 3;
        Image again(heap);
        CHECK(settle(scope, samples, "the image", again).ok());
        check_image(again, name + "/expected");
    }
}

static void refused(Samples samples, std::string_view sentence) {
    Failure failure;
    Scope scope{heap, failure};
    Image image(heap);
    Status status = settle(scope, samples, "the mask", image);
    CHECK(!status.ok() && std::string_view(status.code()) == codes::request_image);
    if (!CHECK(std::string_view(failure.text) == sentence)) std::fprintf(stderr, "  %s\n", failure.text);
}

static void samples_that_are_no_image_are_refused() {
    unsigned char byte = 0;
    refused({0, 5, 3, 8, &byte, 0}, "the mask is 0x5; expected at least one pixel");
    refused({5, -1, 3, 8, &byte, 0}, "the mask is 5x-1; expected at least one pixel");
    refused({8193, 8192, 3, 8, &byte, 0}, "the mask has 8193x8192 pixels, more than 67108864; scale it down");
    refused({INT64_MAX, INT64_MAX, 3, 8, &byte, 0},
            "the mask has 9223372036854775807x9223372036854775807 pixels, more than 67108864; scale it down");
    refused({1, 1, 0, 8, &byte, 0}, "the mask has 0 channels; expected 1 to 4");
    refused({1, 1, 5, 8, &byte, 0}, "the mask has 5 channels; expected 1 to 4");
    refused({1, 1, 3, 10, &byte, 0}, "the mask has 10 bits; expected 8 or 16");
    refused({1, 1, 3, 8, nullptr, 0}, "the mask has no pixels; give its samples");
    refused({2, 1, 3, 16, &byte, 11},
            "the mask has rows of 11 bytes; expected at least 12, or 0 for rows that follow one another");
}

static void alpha_is_laid_on_a_background() {
    for (const json::Value& each : cases().value.find("lay_on")->items) {
        Image image = golden_image(text_of(each, "image"));
        lay_on(static_cast<std::uint8_t>(number_of(each, "background")), image);
        check_image(image, text_of(each, "tensor"));
    }
}

static void scaling_is_pillow_s() {
    int away = 0;
    for (const json::Value& each : cases().value.find("scale")->items) {
        std::string name = text_of(each, "tensors");
        Failure failure;
        Scope scope{heap, failure};
        Image image = golden_image(name + "/image");
        CHECK(scale(scope, std::size_t(number_of(each, "width")), std::size_t(number_of(each, "height")), image).ok());
        int largest = check_image(image, name + "/expected", 1);
        away = largest > away ? largest : away;
    }
    std::printf("largest difference of scaling: %d\n", away);
}

static Image settled(Scope& scope, const std::string& name) {
    GoldenShape shape = golden_shape(name);
    Image image(scope.memory);
    Samples samples{std::int64_t(shape.width), std::int64_t(shape.height), int(shape.channels), 8,
                    images_golden().tensor<std::uint8_t>(name).data, 0};
    CHECK(settle(scope, samples, "the image", image).ok());
    return image;
}

static void start_images_become_values() {
    for (const json::Value& each : cases().value.find("start")->items) {
        std::string name = text_of(each, "tensors");
        Failure failure;
        Scope scope{heap, failure};
        Image image = settled(scope, name + "/samples");
        Array<float> values(heap);
        CHECK(start_values(scope, std::size_t(number_of(each, "width")), std::size_t(number_of(each, "height")), image,
                           values).ok());
        check_equal(values.view(), images_golden().tensor<float>(name + "/expected"), name);
    }
}

static void masks_become_cells() {
    for (const json::Value& each : cases().value.find("mask")->items) {
        std::string name = text_of(each, "tensors");
        auto width = std::size_t(number_of(each, "width")), height = std::size_t(number_of(each, "height"));
        Failure failure;
        Scope scope{heap, failure};
        Image mask = settled(scope, name + "/samples");
        Array<std::uint8_t> painted(heap);
        CHECK(inpainted(scope, width, height, mask, painted).ok());
        check_equal(painted.view(), images_golden().tensor<std::uint8_t>(name + "/inpainted"), name);
        Array<float> cells(heap);
        Status status = on_grid(scope, painted.data(), height, width, std::size_t(number_of(each, "step")), cells);
        if (each.find("cells")->kind == json::Kind::null) {
            CHECK(!status.ok() && std::string_view(status.code()) == codes::request_image);
        } else if (CHECK(status.ok())) {
            check_equal(cells.view(), images_golden().tensor<float>(text_of(each, "cells")), name);
        }
    }
}

static void values_become_levels_and_back() {
    const json::Value& each = *cases().value.find("levels");
    View<float> values = images_golden().tensor<float>(text_of(each, "values"));
    Array<std::uint8_t> levels(heap);
    CHECK(levels.resize(values.size));
    to_levels(values.data, 8, 13, levels.data());
    check_equal(levels.view(), images_golden().tensor<std::uint8_t>(text_of(each, "levels")), "levels");
    Image grey = golden_image(text_of(each, "grey"), 1);
    Array<float> back(heap);
    CHECK(back.resize(3 * 256));
    to_values(grey, back.data());
    check_equal(back.view(), images_golden().tensor<float>(text_of(each, "grey_values")), "grey values");
    float nothing[3] = {static_cast<float>(NAN), -INFINITY, INFINITY};
    std::uint8_t out[3];
    to_levels(nothing, 1, 1, out);
    CHECK(out[0] == 0 && out[1] == 0 && out[2] == 255);
}

int main() {
    samples_are_settled();
    samples_that_are_no_image_are_refused();
    alpha_is_laid_on_a_background();
    scaling_is_pillow_s();
    start_images_become_values();
    masks_become_cells();
    values_become_levels_and_back();
    check_every_allocation("an image to start from", [](Scope& scope) {
        std::uint8_t pixels[4 * 5 * 3] = {9};
        Image image(scope.memory);
        LDM_TRY(settle(scope, {5, 3, 4, 8, pixels, 0}, "the image", image));
        LDM_TRY(turn(scope, 6, image));
        Array<float> values(scope.memory);
        return start_values(scope, 8, 16, image, values);
    });
    check_every_allocation("a mask", [](Scope& scope) {
        std::uint8_t pixels[5 * 3] = {255, 255, 255, 255, 255, 255, 255, 255};
        Image mask(scope.memory);
        LDM_TRY(settle(scope, {5, 3, 1, 8, pixels, 0}, "the mask", mask));
        Array<std::uint8_t> painted(scope.memory);
        LDM_TRY(inpainted(scope, 16, 8, mask, painted));
        Array<float> cells(scope.memory);
        return on_grid(scope, painted.data(), 8, 16, 8, cells);
    });
    return done();
}
