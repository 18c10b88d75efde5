// The images of the conformance kit.
#ifndef LDM_TESTS_GOLDEN_IMAGES_H
#define LDM_TESTS_GOLDEN_IMAGES_H

#include <cstdlib>
#include <string>

#include "core/images/image.h"
#include "tests/check.h"
#include "tests/files.h"

inline const GoldenTensors& images_golden() {
    static const GoldenTensors read("images.safetensors");
    return read;
}

inline std::string text_of(const ldm::json::Value& value, std::string_view key) {
    return std::string(value.find(key)->text);
}
inline std::int64_t number_of(const ldm::json::Value& value, std::string_view key) { return value.find(key)->integer; }

struct GoldenShape {
    std::size_t height, width, channels;
};

inline GoldenShape golden_shape(const std::string& name) {
    ldm::View<ldm::json::Value> items = images_golden().header.find(name)->find("shape")->items;
    auto side = [&](std::size_t index) { return index < items.size ? std::size_t(items[index].integer) : 1; };
    return {side(0), side(1), side(2)};
}

// A tensor (height, width, channels) as an image.
inline ldm::images::Image golden_image(const std::string& name, std::size_t channels = 0) {
    static ldm::Allocator memory = ldm::system_allocator();
    GoldenShape shape = golden_shape(name);
    ldm::images::Image image(memory);
    image.width = shape.width;
    image.height = shape.height;
    image.channels = channels == 0 ? shape.channels : channels;
    if (!image.levels.append(images_golden().tensor<std::uint8_t>(name))) std::exit(2);
    return image;
}

// The largest difference from a tensor (height, width, channels), which is at most `allowed`.
inline int check_image(const ldm::images::Image& image, const std::string& name, int allowed = 0) {
    GoldenShape shape = golden_shape(name);
    ldm::View<std::uint8_t> expected = images_golden().tensor<std::uint8_t>(name);
    bool same = image.width == shape.width && image.height == shape.height && image.channels == shape.channels;
    if (!CHECK(same && image.levels.size() == expected.size)) {
        std::fprintf(stderr, "  %s: %zux%zux%zu, expected %zux%zux%zu\n", name.c_str(), image.width, image.height,
                     image.channels, shape.width, shape.height, shape.channels);
        return 255;
    }
    int largest = 0;
    for (std::size_t index = 0; index < expected.size; ++index) {
        int away = std::abs(image.levels[index] - expected[index]);
        largest = away > largest ? away : largest;
    }
    if (!CHECK(largest <= allowed)) std::fprintf(stderr, "  %s: %d levels away\n", name.c_str(), largest);
    return largest;
}

template <typename T>
void check_equal(ldm::View<T> values, ldm::View<T> expected, const std::string& name) {
    bool same = values.size == expected.size;
    for (std::size_t index = 0; same && index < values.size; ++index) same = values[index] == expected[index];
    if (!CHECK(same)) std::fprintf(stderr, "  %s differs\n", name.c_str());
}

#endif
