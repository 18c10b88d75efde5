// The engines of a package: the graphs of the conformance kit against numpy, life and memory of their sessions.
#include "src/engines/components.h"

#include <atomic>
#include <cmath>
#include <thread>
#include <vector>

#include "core/codes.h"
#include "src/engines/choice.h"
#include "src/engines/memory_left.h"
#include "tests/failing_allocator.h"
#include "tests/files.h"
#include "tests/onnxruntime.h"
#include "tests/scratch.h"

using namespace ldm;
using engines::Components;
using engines::ElementType;
using engines::Results;
using engines::Settings;
using engines::Tensor;

static std::string code_of(Status status) { return status.ok() ? "" : status.code(); }

// A tensor of a safetensors file.
static Tensor tensor_of(const GoldenTensors& tensors, std::string_view name, std::string_view entry) {
    const json::Value& header = *tensors.header.find(entry);
    Tensor out;
    out.name = name.data();  // texts of JSON end with a NUL
    bool is_float = header.find("dtype")->text == "F32";
    out.type = is_float ? ElementType::float32 : ElementType::int64;
    out.rank = header.find("shape")->items.size;
    for (std::size_t axis = 0; axis < out.rank; ++axis) out.shape[axis] = header.find("shape")->items[axis].integer;
    View<char> data = tensors.tensor<char>(entry);
    out.data = data.data;
    out.bytes = data.size;
    return out;
}

static bool are_near(const Tensor& got, const Tensor& expected) {
    if (got.bytes != expected.bytes || got.rank != expected.rank || got.type != ElementType::float32) return false;
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
    return worst <= 1e-6 * largest;
}

// The cases of the conformance kit.
struct Golden {
    GoldenJson cases{"graphs.json"};
    GoldenTensors tensors{"graphs.safetensors"};

    Status evaluate(Scope& scope, Components& components, const json::Value& each, bool& is_equal) const {
        std::vector<Tensor> feeds;
        for (const json::Member& input : each.find("inputs")->members) {
            feeds.push_back(tensor_of(tensors, input.key, input.value.text));
        }
        Results results(scope.memory);
        LDM_TRY(components.run(scope, each.find("component")->text, {feeds.data(), feeds.size()}, results));
        is_equal = results.view().size == each.find("outputs")->members.size;
        for (const json::Member& output : each.find("outputs")->members) {
            const Tensor* got = results.find(output.key);
            is_equal = is_equal && got != nullptr && are_near(*got, tensor_of(tensors, output.key, output.value.text));
        }
        return Status();
    }
};

struct Opened {
    Allocator memory = system_allocator();
    Failure failure;
    Scope scope{memory, failure};
    package::Package package{memory};
    Components components{memory, package};

    explicit Opened(Settings settings = {}, std::optional<std::uint64_t> memory_left = {}) {
        settings.memory_left = memory_left;
        CHECK(package.open(scope, golden_path("package"), package::Check::cached).ok());
        Status status = components.start(scope, settings);
        if (!CHECK(status.ok())) std::fprintf(stderr, "  %s\n", failure.text);
        CHECK(package.confirm(scope).ok());
    }
};

static void graphs_compute_what_numpy_does() {
    Golden golden;
    Opened opened;
    int count = 0;
    for (int round = 0; round < 2; ++round) {
        for (const json::Value& each : golden.cases.value.items) {
            bool is_equal = false;
            Status status = golden.evaluate(opened.scope, opened.components, each, is_equal);
            if (!CHECK(status.ok() && is_equal)) {
                std::fprintf(stderr, "  %s: %s\n", each.find("component")->text.data(), status.ok() ? "" : opened.failure.text);
            }
            ++count;
        }
    }
    CHECK(count == 16);
    std::string_view sentence;
    CHECK(!opened.components.take_notice(sentence));
    CHECK(!opened.components.library_version().empty());
}

static void settings_are_checked() {
    Allocator memory = system_allocator();
    Failure failure;
    Scope scope{memory, failure};
    package::Package package(memory);
    CHECK(package.open(scope, golden_path("package"), package::Check::size).ok());
    auto refused = [&](Settings settings) {
        Components components(memory, package);
        return code_of(components.start(scope, settings));
    };
    Settings settings;
    CHECK(refused(settings).empty());
    settings.threads = -1;
    CHECK(refused(settings) == codes::request_invalid);
    settings.threads = 1000000;
    CHECK(refused(settings) == codes::request_invalid);
    settings = {};
    settings.provider = "abacus";
    CHECK(refused(settings) == codes::request_engine);
    settings = {};
    const char *key = "device_id", *value = "0";
    settings.options = {&key, &value, 1};
    CHECK(refused(settings) == codes::request_engine);
    settings.provider = "cuda";
    CHECK(refused(settings).empty());
    settings = {};
    settings.library = "/nowhere/libonnxruntime.so";
    CHECK(refused(settings) == codes::engine_unavailable);
    Components components(memory, package);
    CHECK(components.start(scope, {}).ok());
    CHECK(code_of(components.open(scope, "nothing")) == codes::engine_failed);
    CHECK(components.open(scope, "unet").ok());
}

// Threads evaluate, and let components rest that others use: each maps its weights.
static void threads_share_a_package(std::uint64_t large_weights, int rounds) {
    Golden golden;
    Settings settings;
    settings.large_weights = large_weights;
    Opened opened(settings);
    std::atomic<int> equal{0};
    std::vector<std::thread> threads;
    for (std::size_t index = 0; index < 8; ++index) {
        threads.emplace_back([&, index] {
            Allocator memory = system_allocator();
            Failure failure;
            Scope scope{memory, failure};
            for (int round = 0; round < rounds; ++round) {
                const json::Value& each = golden.cases.value.items[(index + static_cast<std::size_t>(round)) % 8];
                bool is_equal = false;
                if (golden.evaluate(scope, opened.components, each, is_equal).ok() && is_equal) ++equal;
                opened.components.rest(each.find("component")->text);
                std::string_view sentence;
                (void)opened.components.take_notice(sentence);
            }
        });
    }
    for (std::thread& thread : threads) thread.join();
    CHECK(equal == 8 * rounds);
}

static void resting_components_give_back_their_memory() {
    Golden golden;
    FailingAllocator counting;
    Allocator memory = counting.allocator();
    Failure failure;
    Scope scope{memory, failure};
    package::Package package(memory);
    CHECK(package.open(scope, golden_path("package"), package::Check::size).ok());
    for (std::uint64_t large_weights : {std::uint64_t{0}, engines::large_weights}) {
        Components components(memory, package);
        Settings settings;
        settings.large_weights = large_weights;
        CHECK(components.start(scope, settings).ok());
        CHECK(components.open(scope, "unet").ok());
        long long before = counting.alive;
        components.rest("unet");
        CHECK((counting.alive < before) == (large_weights == 0));  // only mapped weights open again at once
        bool is_equal = false;
        CHECK(golden.evaluate(scope, components, golden.cases.value.items[1], is_equal).ok() && is_equal);
        CHECK(counting.alive == before);
    }
}

static void weights_are_mapped_where_they_are_large() {
    package::Weights small{1000, 4000, 0}, large{std::uint64_t{1} << 30, std::uint64_t{1} << 31, 1 << 20};
    CHECK(engines::weight_memory(small).own == 10000 && engines::weight_memory(small).mapped == 0);
    CHECK(engines::weight_memory(large).own == 16 << 20 && engines::weight_memory(large).mapped == std::uint64_t{1} << 31);
    package::Weights edge{std::uint64_t{1} << 28, std::uint64_t{1} << 30, 0};
    CHECK(engines::weight_memory(edge).mapped == 0);
#if defined(__linux__)
    CHECK(engines::available_memory().value_or(0) > 1 << 20);
#endif
    Opened opened;
    CHECK(opened.package.weights("unet").values == 4 * 4 * 3 * 3 + 4 + 6 * 4);
    CHECK(opened.package.weights("unet").bytes == 4 * opened.package.weights("unet").values);
    CHECK(opened.package.weights("unet").widest_narrow == 0);
}

// Each is told once, and as a text of C: whoever logs it reads up to its NUL.
static void notices_are_told_once() {
    Settings settings;
    settings.large_weights = 0;  // all are mapped, and no memory is left to keep them in
    Opened opened(settings, 1);
    std::string_view sentence;
    CHECK(!opened.components.take_notice(sentence));
    CHECK(opened.components.open(opened.scope, "unet").ok());
    if (!CHECK(opened.components.take_notice(sentence))) return;
    CHECK(sentence.substr(0, 9) == "unet has " && std::strlen(sentence.data()) == sentence.size());
    CHECK(!opened.components.take_notice(sentence));
    CHECK(opened.components.open(opened.scope, "vae_decoder").ok() && opened.components.take_notice(sentence));
    CHECK(sentence.substr(0, 16) == "vae_decoder has " && std::strlen(sentence.data()) == sentence.size());
}

static void the_fused_graph_is_preferred_on_the_cpu() {
    std::string_view files[] = {"a.onnx"};
    Artefact canonical, fused, other;
    canonical.format = fused.format = "onnx";
    canonical.engine = "any";
    fused.engine = "ort_cpu";
    other.format = other.engine = "openvino";
    canonical.files = fused.files = other.files = {files, 1};
    canonical.name = "canonical";
    fused.name = "fused";
    Artefact all[] = {canonical, other, fused, fused};
    all[3].name = "second";
    Component component;
    component.artefacts = {all, 4};
    CHECK(engines::artefact_for(component, true).name == "fused");
    CHECK(engines::artefact_for(component, false).name == "canonical");
    component.artefacts = {all, 2};
    CHECK(engines::artefact_for(component, true).name == "canonical");
}

static void a_file_that_changes_is_noticed() {
    Scratch scratch;
    CHECK(std::system(("cp -r '" + golden_path("package") + "' '" + scratch.at("package") + "'").c_str()) == 0);
    Allocator memory = system_allocator();
    Failure failure;
    Scope scope{memory, failure};
    package::Package package(memory);
    CHECK(package.open(scope, scratch.at("package"), package::Check::full).ok());
    CHECK(package.confirm(scope).ok());
    Components components(memory, package);
    CHECK(components.start(scope, {}).ok());
    CHECK(components.open(scope, "text_encoder").ok());
    std::string graph = read_file(scratch.at("package/unet/model.onnx"));
    scratch.write("package/unet/model.onnx", graph + "x");
    CHECK(code_of(components.open(scope, "unet")) == codes::file_changed);
    CHECK(code_of(package.confirm(scope)) == codes::file_changed);
}

static void memory_may_run_out() {
    Scratch scratch;  // its cache folder
    Golden golden;
    check_every_allocation("components", [&](Scope& scope) {
        package::Package package(scope.memory);
        LDM_TRY(package.open(scope, golden_path("package"), package::Check::cached));
        Components components(scope.memory, package);
        LDM_TRY(components.start(scope, {}));
        bool is_equal = false;
        LDM_TRY(golden.evaluate(scope, components, golden.cases.value.items[1], is_equal));
        return package.confirm(scope);
    }, 7);
}

int main() {
    {
        Allocator memory = system_allocator();
        Failure failure;
        Scope scope{memory, failure};
        ort::Library library;
        open_onnxruntime(scope, library);
    }
    graphs_compute_what_numpy_does();
    settings_are_checked();
    threads_share_a_package(engines::large_weights, 40);
    threads_share_a_package(0, 8);
    resting_components_give_back_their_memory();
    weights_are_mapped_where_they_are_large();
    notices_are_told_once();
    the_fused_graph_is_preferred_on_the_cpu();
    a_file_that_changes_is_noticed();
    memory_may_run_out();
    return done();
}
