// The engines of a package: the graphs of the conformance kit against numpy, life and memory of their sessions.
// Needs ONNX Runtime.
#include "src/engines/components.h"

#include "core/codes.h"
#include "src/engines/choice.h"
#include "src/engines/memory_left.h"
#include "tests/failing_allocator.h"
#include "tests/golden_graphs.h"
#include "tests/onnxruntime.h"
#include "tests/scratch.h"

using namespace ldm;
using engines::Components;
using engines::Settings;

static std::string code_of(Status status) { return status.ok() ? "" : status.code(); }

static void graphs_compute_what_numpy_does() {
    GoldenComponents opened;
    GoldenGraphs().evaluate_all(opened);
    std::string_view sentence;
    CHECK(!opened.components.take_notice(sentence));
    CHECK(!opened.components.library_version().empty());
}

static void a_path_that_is_too_long_is_told_by_its_name() {
    Allocator memory = system_allocator();
    Failure failure;
    Scope scope{memory, failure};
    package::Package package(memory);
    CHECK(code_of(package.open(scope, std::string(5000, 'a'), package::Check::size)) == codes::request_path);
    CHECK(std::string_view(failure.text).find("path is 'aaaa") == 0);
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
    settings.engine = "abacus";
    CHECK(refused(settings) == codes::request_engine);
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

// Each maps its weights, or keeps them.
static void threads_share_a_package(std::uint64_t large_weights, int rounds) {
    Settings settings;
    settings.large_weights = large_weights;
    GoldenComponents opened(settings);
    GoldenGraphs().evaluate_in_threads(opened, rounds);
}

static void resting_components_give_back_their_memory() {
    GoldenGraphs golden;
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
    package::Weights small{1000, 4000, 0, {}}, large{std::uint64_t{1} << 30, std::uint64_t{1} << 31, 1 << 20, {}};
    CHECK(engines::weight_memory(small).own == 10000 && engines::weight_memory(small).mapped == 0);
    CHECK(engines::weight_memory(large).own == 16 << 20 && engines::weight_memory(large).mapped == std::uint64_t{1}
                                                                                                       << 31);
    package::Weights edge{std::uint64_t{1} << 28, std::uint64_t{1} << 30, 0, {}};
    CHECK(engines::weight_memory(edge).mapped == 0);
#if defined(__linux__)
    CHECK(engines::available_memory().value_or(0) > 1 << 20);
#endif
    GoldenComponents opened;
    CHECK(opened.package.weights("unet").values == 4 * 4 * 3 * 3 + 4 + 6 * 4);
    CHECK(opened.package.weights("unet").bytes == 4 * opened.package.weights("unet").values);
    CHECK(opened.package.weights("unet").widest_narrow == 0);
}

// Each is told once, and as a text of C: whoever logs it reads up to its NUL.
static void notices_are_told_once() {
    Settings settings;
    settings.large_weights = 0;  // all are mapped, and no memory is left to keep them in
    settings.memory_left = 1;
    GoldenComponents opened(settings);
    std::string_view sentence;
    CHECK(!opened.components.take_notice(sentence));
    CHECK(opened.components.open(opened.scope, "unet").ok());
    if (!CHECK(opened.components.take_notice(sentence))) return;
    CHECK(sentence.substr(0, 9) == "unet has " && std::strlen(sentence.data()) == sentence.size());
    CHECK(!opened.components.take_notice(sentence));
    CHECK(opened.components.open(opened.scope, "vae_decoder").ok() && opened.components.take_notice(sentence));
    CHECK(sentence.substr(0, 16) == "vae_decoder has " && std::strlen(sentence.data()) == sentence.size());
}

static void what_was_made_for_an_engine_is_preferred() {
    std::string_view files[] = {"a.onnx"};
    Artefact canonical, fused, other;
    canonical.format = fused.format = "onnx";
    canonical.engine = "any";
    fused.engine = "ort_cpu";
    other.format = other.engine = "openvino";
    canonical.files = fused.files = other.files = {files, 1};
    canonical.name = "canonical";
    fused.name = "fused";
    other.name = "openvino";
    Artefact all[] = {canonical, other, fused, fused};
    all[3].name = "second";
    json::Entry<Component> unet{"unet", {}};
    const std::uint32_t places[] = {0};
    Manifest manifest;
    manifest.components = {{&unet, 1}, {places, 1}};
    unet.value.artefacts = {all, 4};
    CHECK(engines::artefact_for(manifest, "unet", true).name == "fused");
    CHECK(engines::artefact_for(manifest, "unet", false).name == "canonical");
    CHECK(engines::openvino_artefact_for(manifest, "unet").name == "openvino");
    unet.value.artefacts = {all, 2};
    CHECK(engines::artefact_for(manifest, "unet", true).name == "canonical");
    unet.value.artefacts = {all, 1};
    CHECK(engines::openvino_artefact_for(manifest, "unet").name == "canonical");
}

// A lossy artefact is a variant's alone, in whatever place it stands; an exact one may be a variant's too.
static void what_a_variant_names_is_not_picked_where_it_is_lossy() {
    std::string_view files[] = {"a.onnx"};
    Artefact all[4];
    for (Artefact& each : all) {
        each.format = "onnx";
        each.engine = "ort_cpu";
        each.files = {files, 1};
    }
    all[0].name = "canonical";
    all[0].engine = "any";
    all[1].name = "int8";
    all[1].precision = Precision::int8;
    all[1].exactness = Exactness::lossy;
    all[2].name = "deep";
    all[2].interface_.emplace();
    all[3].name = "fused";
    json::Entry<Component> unet{"unet", {}};
    json::Entry<Way> ways[] = {{"unet", {"ort", "int8", Precision::int8, {}}}};
    const std::uint32_t places[] = {0};
    Variant variants[2];
    variants[0].ways = variants[1].ways = {{ways, 1}, {places, 1}};
    Manifest manifest;
    manifest.contract.denoiser.component = "unet";
    manifest.components = {{&unet, 1}, {places, 1}};
    manifest.variants = {variants, 1};
    unet.value.artefacts = {all, 4};
    CHECK(engines::artefact_for(manifest, "unet", true).name == "fused");
    ways[0].value.artefact = "fused";
    CHECK(engines::artefact_for(manifest, "unet", true).name == "int8");  // nobody names it: a manifest that is refused
    variants[1].run.caching = Caching{2, "int8", "deep"};
    manifest.variants = {variants, 2};
    CHECK(engines::artefact_for(manifest, "unet", true).name == "fused");
    manifest.contract.denoiser.component = "transformer";
    CHECK(engines::artefact_for(manifest, "unet", true).name == "int8");
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
    GoldenGraphs golden;
    check_every_allocation("components", [&](Scope& scope) {
        package::Package package(scope.memory);
        LDM_TRY(package.open(scope, golden_path("package"), package::Check::cached));
        Components components(scope.memory, package);
        LDM_TRY(components.start(scope, {}));
        bool is_equal = false;
        LDM_TRY(golden.evaluate(scope, components, golden.cases.value.items[1], is_equal));
        return package.confirm(scope);
    });
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
    a_path_that_is_too_long_is_told_by_its_name();
    threads_share_a_package(engines::large_weights, 40);
    threads_share_a_package(0, 8);
    resting_components_give_back_their_memory();
    weights_are_mapped_where_they_are_large();
    notices_are_told_once();
    what_was_made_for_an_engine_is_preferred();
    what_a_variant_names_is_not_picked_where_it_is_lossy();
    a_file_that_changes_is_noticed();
    memory_may_run_out();
    return done();
}
