// The graphs of the conformance kit, evaluated and compared with numpy.
#ifndef LDM_TESTS_GOLDEN_GRAPHS_H
#define LDM_TESTS_GOLDEN_GRAPHS_H

#include <atomic>
#include <cmath>
#include <cstring>
#include <thread>
#include <vector>

#include "src/engines/components.h"
#include "tests/check.h"
#include "tests/files.h"

// A tensor of a safetensors file.
inline ldm::engines::Tensor golden_tensor(const GoldenTensors& tensors, std::string_view name, std::string_view entry) {
    const ldm::json::Value& header = *tensors.header.find(entry);
    ldm::engines::Tensor out;
    out.name = name.data();  // texts of JSON end with a NUL
    bool is_float = header.find("dtype")->text == "F32";
    out.type = is_float ? ldm::engines::ElementType::float32 : ldm::engines::ElementType::int64;
    out.rank = header.find("shape")->items.size;
    for (std::size_t axis = 0; axis < out.rank; ++axis) out.shape[axis] = header.find("shape")->items[axis].integer;
    ldm::View<char> data = tensors.tensor<char>(entry);
    out.data = data.data;
    out.bytes = data.size;
    return out;
}

inline bool are_near(const ldm::engines::Tensor& got, const ldm::engines::Tensor& expected, double tolerance) {
    if (got.bytes != expected.bytes || got.rank != expected.rank || got.type != ldm::engines::ElementType::float32)
        return false;
    for (std::size_t axis = 0; axis < got.rank; ++axis) {
        if (got.shape[axis] != expected.shape[axis]) return false;
    }
    const auto* values = static_cast<const float*>(got.data);
    double worst = 0.0, largest = 0.0;
    for (std::size_t index = 0; index < got.bytes / sizeof(float); ++index) {
        float other;
        std::memcpy(&other, static_cast<const char*>(expected.data) + index * sizeof other, sizeof other);
        if (!std::isfinite(values[index])) return false;
        worst = std::fmax(worst, std::fabs(double{values[index]} - double{other}));
        largest = std::fmax(largest, std::fabs(double{other}));
    }
    return worst <= tolerance * largest;
}

// The components of the conformance kit's package.
struct GoldenComponents {
    ldm::Allocator memory = ldm::system_allocator();
    ldm::Failure failure;
    ldm::Scope scope{memory, failure};
    ldm::package::Package package{memory};
    ldm::engines::Components components{memory, package};

    explicit GoldenComponents(const ldm::engines::Settings& settings = {}) {
        CHECK(package.open(scope, golden_path("package"), ldm::package::Check::cached).ok());
        if (!CHECK(components.start(scope, settings).ok())) std::fprintf(stderr, "  %s\n", failure.text);
        CHECK(package.confirm(scope).ok());
    }
};

// The cases of the conformance kit.
struct GoldenGraphs {
    GoldenJson cases{"graphs.json"};
    GoldenTensors tensors{"graphs.safetensors"};
    double tolerance;  // of the largest value

    explicit GoldenGraphs(double its_tolerance = 1e-6) : tolerance(its_tolerance) {}

    ldm::Status evaluate(ldm::Scope& scope, ldm::engines::Components& components, const ldm::json::Value& each,
                         bool& is_equal) const {
        std::vector<ldm::engines::Tensor> feeds;
        for (const ldm::json::Member& input : each.find("inputs")->members) {
            feeds.push_back(golden_tensor(tensors, input.key, input.value.text));
        }
        ldm::engines::Results results(scope.memory);
        LDM_TRY(components.run(scope, each.find("component")->text, {feeds.data(), feeds.size()}, results));
        is_equal = results.view().size == each.find("outputs")->members.size;
        for (const ldm::json::Member& output : each.find("outputs")->members) {
            const ldm::engines::Tensor* got = results.find(output.key);
            is_equal = is_equal && got != nullptr &&
                       are_near(*got, golden_tensor(tensors, output.key, output.value.text), tolerance);
        }
        return ldm::Status();
    }

    // Evaluate all cases, twice.
    void evaluate_all(GoldenComponents& opened) const {
        int count = 0;
        for (int round = 0; round < 2; ++round) {
            for (const ldm::json::Value& each : cases.value.items) {
                bool is_equal = false;
                ldm::Status status = evaluate(opened.scope, opened.components, each, is_equal);
                if (!CHECK(status.ok() && is_equal)) {
                    std::fprintf(stderr, "  %s: %s\n", each.find("component")->text.data(),
                                 status.ok() ? "" : opened.failure.text);
                }
                ++count;
            }
        }
        CHECK(count == 16);
    }

    // Threads evaluate, and let components rest that others use.
    void evaluate_in_threads(GoldenComponents& opened, int rounds) const {
        std::atomic<int> equal{0};
        std::vector<std::thread> threads;
        for (std::size_t index = 0; index < 8; ++index) {
            threads.emplace_back([&, index] {
                ldm::Allocator memory = ldm::system_allocator();
                ldm::Failure failure;
                ldm::Scope scope{memory, failure};
                for (int round = 0; round < rounds; ++round) {
                    const ldm::json::Value& each = cases.value.items[(index + static_cast<std::size_t>(round)) % 8];
                    bool is_equal = false;
                    if (evaluate(scope, opened.components, each, is_equal).ok() && is_equal) ++equal;
                    opened.components.rest(each.find("component")->text);
                    std::string_view sentence;
                    (void)opened.components.take_notice(sentence);
                }
            });
        }
        for (std::thread& thread : threads) thread.join();
        CHECK(equal == 8 * rounds);
    }
};

#endif
