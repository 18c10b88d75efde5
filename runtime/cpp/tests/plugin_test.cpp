// An engine that is a plugin: how it is found, what it is told, what it may answer. tests/plugins/fake.c is one.
#include "src/engines/openvino/plugin.h"

#include <algorithm>
#include <cstdlib>
#include <cstring>

#include "core/codes.h"
#include "src/engines/library_file.h"
#include "src/engines/openvino/graph.h"
#include "src/engines/openvino/places.h"
#include "tests/failing_allocator.h"
#include "tests/golden_graphs.h"
#include "tests/scratch.h"

using namespace ldm;
using engines::Components;
using engines::ElementType;
using engines::Results;
using engines::Settings;
using engines::Tensor;

static std::string code_of(Status status) { return status.ok() ? "" : status.code(); }

static Settings fake(std::string_view device = "") {
    Settings settings;
    settings.engine = "openvino";
    settings.library = FAKE_PLUGIN;
    settings.provider = device;
    return settings;
}

// Inputs of the denoiser.
struct Feeds {
    std::vector<float> numbers = std::vector<float>(2 * 4 * 4 * 6, 0.5f);
    std::vector<Tensor> tensors;

    Feeds() {
        add("sample", {2, 4, 4, 6});
        add("timestep", {});
        add("encoder_hidden_states", {2, 5, 6});
    }
    void add(const char* name, const std::vector<std::int64_t>& shape) {
        Tensor tensor;
        tensor.name = name;
        tensor.type = ElementType::float32;
        tensor.rank = shape.size();
        tensor.bytes = sizeof(float);
        for (std::size_t axis = 0; axis < shape.size(); ++axis) {
            tensor.shape[axis] = shape[axis];
            tensor.bytes *= static_cast<std::size_t>(shape[axis]);
        }
        tensor.data = numbers.data();
        tensors.push_back(tensor);
    }
    View<Tensor> view() const { return {tensors.data(), tensors.size()}; }
};

static bool says(const Failure& failure, std::string_view part) {
    bool found = std::string_view(failure.text).find(part) != std::string_view::npos;
    if (!found) std::fprintf(stderr, "  %s\n", failure.text);
    return found;
}

static void it_is_found_by_option_and_environment() {
    Allocator memory = system_allocator();
    Failure failure;
    Scope scope{memory, failure};
    auto opened = [&](std::string_view path) {
        openvino::Plugin plugin;
        return code_of(plugin.open(scope, path));
    };
    Scratch scratch;
    scratch.write("text.so", "no library");
    CHECK(opened(FAKE_PLUGIN).empty());
    CHECK(opened(scratch.at("missing.so")) == codes::engine_unavailable &&
          says(failure, "there is no plugin for OpenVINO at"));
    CHECK(opened(scratch.at("text.so")) == codes::engine_unavailable && says(failure, "cannot be loaded from"));
    CHECK(opened(scratch.path) == codes::engine_unavailable);
    CHECK(opened(FUTURE_PLUGIN) == codes::engine_unavailable &&
          says(failure, "is a plugin of version 3; this library takes version 2"));
    ::setenv("LDM_OPENVINO", scratch.at("missing.so").c_str(), 1);
    CHECK(opened(FAKE_PLUGIN).empty());  // an option goes first
    CHECK(opened("") == codes::engine_unavailable && says(failure, ", which LDM_OPENVINO names"));
    ::setenv("LDM_OPENVINO", FAKE_PLUGIN, 1);
    CHECK(opened("").empty());
    ::setenv("LDM_OPENVINO", std::string(5000, 'a').c_str(), 1);
    CHECK(opened("") == codes::engine_unavailable);
    CHECK(says(failure, "the path of OpenVINO's plugin in LDM_OPENVINO is longer than the 4095 bytes"));
    CHECK(opened(std::string(5000, 'a')) == codes::engine_unavailable && says(failure, "plugin, 'aaa"));
    ::unsetenv("LDM_OPENVINO");
    CHECK(opened("") == codes::engine_unavailable && says(failure, "put it beside this library"));
    // A plugin has no versions to choose among: what is called so beside the library is not it.
    files::Path folder;
    CHECK(engines::own_folder(folder));
    files::Path other(folder, "libldm_openvino.so.1");
    CHECK(::symlink(FAKE_PLUGIN, other.c_str()) == 0);
    CHECK(opened("") == codes::engine_unavailable && says(failure, "put it beside this library"));
    CHECK(std::remove(other.c_str()) == 0);
}

// Wherever a file was cut, it is refused or whole enough, and the process lives.
static void truncated_plugins_are_refused() {
    Scratch scratch;
    Allocator memory = system_allocator();
    Failure failure;
    Scope scope{memory, failure};
    std::string content = read_file(FAKE_PLUGIN);
    int truncated = 0;
    for (std::size_t size = 0; size < content.size(); size += 1 + content.size() / 100) {
        std::string name = "plugin" + std::to_string(size) + ".so";  // a library that is loaded once is not read again
        scratch.write(name, content.substr(0, size));
        openvino::Plugin plugin;
        std::string code = code_of(plugin.open(scope, scratch.at(name)));
        CHECK(code.empty() || code == codes::engine_unavailable);
        std::string sentence = ": it is truncated: it has " + std::to_string(size) + " bytes";
        truncated += std::string_view(failure.text).find(sentence) != std::string_view::npos;
    }
    CHECK(truncated > 10);
}

// Numbers of an ELF file of 64 bits, little-endian.
template <class Number>
static Number number_at(const std::string& content, std::size_t place) {
    Number number;
    std::memcpy(&number, content.data() + place, sizeof number);
    return number;
}

template <class Number>
static void set_number(std::string& content, std::size_t place, Number number) {
    std::memcpy(&content[place], &number, sizeof number);
}

constexpr std::uint32_t mapped_segment = 1, stack_segment = 0x6474e551;

// The places of the program headers of a kind.
static std::vector<std::size_t> segments(const std::string& content, std::uint32_t kind) {
    std::vector<std::size_t> found;
    for (std::size_t index = 0; index < number_at<std::uint16_t>(content, 56); ++index) {
        std::size_t entry = number_at<std::uint64_t>(content, 32) + 56 * index;
        if (number_at<std::uint32_t>(content, entry) == kind) found.push_back(entry);
    }
    return found;
}

static std::size_t end_of_segments(const std::string& content) {
    std::uint64_t end = 0;
    for (std::size_t entry : segments(content, mapped_segment)) {
        const auto offset = number_at<std::uint64_t>(content, entry + 8);
        end = std::max(end, offset + number_at<std::uint64_t>(content, entry + 32));
    }
    return end;
}

// A loader maps segments: what is behind them, and what other headers say, may be anything or absent.
static void only_what_is_mapped_must_be_there() {
    Scratch scratch;
    Allocator memory = system_allocator();
    Failure failure;
    Scope scope{memory, failure};
    auto opened = [&](const std::string& name, const std::string& content) {
        scratch.write(name, content);
        openvino::Plugin plugin;
        return code_of(plugin.open(scope, scratch.at(name)));
    };
    const std::string content = read_file(FAKE_PLUGIN);
    std::size_t needed = end_of_segments(content);
    CHECK(needed > 0 && needed < content.size());
    CHECK(engines::look_at_library(files::Path(FAKE_PLUGIN)).needed == needed);
    CHECK(opened("cut.so", content.substr(0, needed)).empty());  // its section headers are named, and not there
    CHECK(opened("short.so", content.substr(0, needed - 1)) == codes::engine_unavailable);
    const std::string has = std::to_string(needed - 1) + " bytes, but needs " + std::to_string(needed);
    CHECK(says(failure, ": it is truncated: it has " + has));
    CHECK(opened("appended.so", content + std::string(5000, 'x')).empty());
    std::string stripped = content;
    set_number<std::uint64_t>(stripped, 40, 0);
    set_number<std::uint32_t>(stripped, 60, 0);
    CHECK(opened("stripped.so", stripped.substr(0, needed)).empty());
    std::string other = content, lie = content;
    std::vector<std::size_t> stacks = segments(other, stack_segment);
    if (!CHECK(stacks.size() == 1)) return;
    set_number<std::uint64_t>(other, stacks[0] + 32, 1 << 30);  // of a header that says no more than its flags
    CHECK(opened("other.so", other).empty());
    set_number<std::uint64_t>(lie, segments(lie, mapped_segment)[0] + 32, 1 << 30);
    CHECK(opened("lie.so", lie) == codes::engine_unavailable && says(failure, ": it is truncated"));
}

// Headers that lie: the file is refused, or looked at no further, and nothing outside it is read.
static void broken_headers_are_read_without_harm() {
    Scratch scratch;
    const std::string content = read_file(FAKE_PLUGIN);
    for (int place : {32, 39, 54, 55, 56, 57, 64 + 8, 64 + 15, 64 + 32, 64 + 39}) {
        std::string changed = content;
        changed[static_cast<std::size_t>(place)] = '\x7f';
        std::string name = "lie" + std::to_string(place) + ".so";
        scratch.write(name, changed);
        engines::LibraryFile file = engines::look_at_library(files::Path(scratch.at(name)));
        CHECK(file.needed == 0 || file.there == changed.size());
    }
    CHECK(engines::look_at_library(files::Path(scratch.path)).needed == 0);
}

// The loader's own words would be that there is no such file.
static void a_library_for_another_machine_is_refused_by_its_name() {
    Scratch scratch;
    Allocator memory = system_allocator();
    Failure failure;
    Scope scope{memory, failure};
    const std::string content = read_file(FAKE_PLUGIN);
    const auto own = number_at<std::uint16_t>(content, 18);
    const std::pair<std::uint16_t, const char*> others[] = {{3, "32-bit x86 (3 in ELF)"},
                                                            {62, "x86-64 (62 in ELF)"},
                                                            {183, "aarch64 (183 in ELF)"},
                                                            {999, "a machine that is not known here (999 in ELF)"}};
    for (const auto& [machine, name] : others) {
        if (machine == own) continue;
        std::string changed = content, file = "for" + std::to_string(machine) + ".so";
        set_number<std::uint16_t>(changed, 18, machine);
        scratch.write(file, changed);
        openvino::Plugin plugin;
        CHECK(code_of(plugin.open(scope, scratch.at(file))) == codes::engine_unavailable);
        const std::string sentence = ": it is for another machine: for " + std::string(name) + ", but this program is ";
        CHECK(says(failure, sentence));
    }
}

static void onnxruntime_is_not_needed() {
    ::setenv("LDM_ONNXRUNTIME", "/nowhere/libonnxruntime.so", 1);
    GoldenComponents opened(fake());
    Results results(opened.memory);
    CHECK(opened.components.run(opened.scope, "unet", Feeds().view(), results).ok());
    const Tensor* out = results.find("out_sample");
    if (!CHECK(out != nullptr && out->rank == 4 && out->shape[3] == 6 && out->bytes == 2 * 4 * 4 * 6 * 4)) return;
    CHECK(static_cast<const float*>(out->data)[191] == 0.5f);
}

static void it_is_told_what_to_open() {
    Settings settings = fake("ECHO");
    const char *keys[] = {"BEADS", "RODS"}, *values[] = {"10", "7"};
    settings.options = {keys, values, 2};
    settings.threads = 3;
    GoldenComponents opened(settings);
    CHECK(code_of(opened.components.open(opened.scope, "unet")) == codes::engine_failed);
    std::string path = golden_path("package/unet/model.onnx");
    CHECK(opened.failure.text == "OpenVINO cannot load " + path + ": " + path + "|||3|BEADS=10|RODS=7");
}

// Every way in which a plugin may fail, or break the contract.
static void its_failures_have_a_code() {
    auto opened = [](std::string_view device, std::string_view sentence) {
        GoldenComponents its(fake(device));
        std::string code = code_of(its.components.open(its.scope, "unet"));
        return CHECK(says(its.failure, sentence)) ? code : "";
    };
    CHECK(opened("ABSENT", "there is no abacus here") == codes::engine_unavailable);
    CHECK(opened("FULL", "memory") == codes::other_memory);
    CHECK(opened("BYTES", "'sample' of a type that no component uses") == codes::graph_signature);
    CHECK(opened("NARROW", "has as input float32 sample (?, 3, ?, ?), but the manifest promises") ==
          codes::graph_signature);
    auto run = [](std::string_view device, std::string_view sentence) {
        GoldenComponents its(fake(device));
        Results results(its.memory);
        std::string code = code_of(its.components.run(its.scope, "unet", Feeds().view(), results));
        return CHECK(says(its.failure, sentence)) ? code : "";
    };
    CHECK(run("BROKEN", "model.onnx: a bead is missing") == codes::engine_failed);
    CHECK(run("MUTE", "model.onnx made no out_sample") == codes::engine_failed);
    CHECK(run("TURNED",
              "made out_sample as float32 of shape (2, 4, 6, 4), which is not what the contract says of batch 2, "
              "height 4, width 6, tokens 5") == codes::engine_failed);
}

// It may take a precision and compute in another one, which is an error. tests/plugins/fake.c computes in float32.
static void what_it_computes_in_is_asked_for() {
    Allocator memory = system_allocator();
    Failure failure;
    Scope scope{memory, failure};
    package::Package package(memory);
    openvino::Plugin plugin;
    CHECK(package.open(scope, golden_path("package"), package::Check::size).ok());
    CHECK(plugin.open(scope, FAKE_PLUGIN).ok());
    const Artefact& graph = package.manifest().components.find("unet")->canonical();
    auto opened = [&](std::optional<Precision> precision) {
        openvino::GraphSettings settings;
        engines::Engine engine;
        settings.precision = precision;
        Status status = openvino::open_graph(scope, memory, plugin, package, "unet", graph, settings, engine);
        if (status.ok()) engine.close(engine.self);
        return code_of(status);
    };
    CHECK(opened(std::nullopt).empty() && opened(Precision::fp32).empty());
    CHECK(opened(Precision::bf16) == codes::engine_unavailable);
    CHECK(says(failure, "OpenVINO computes unet in f32 here, not in bf16"));
}

// The sentences of the Python runtime.
static void wrong_feeds_are_refused() {
    GoldenComponents opened(fake());
    Results results(opened.memory);
    auto refused = [&](auto change, std::string_view sentence) {
        Feeds feeds;
        change(feeds.tensors);
        return code_of(opened.components.run(opened.scope, "unet", feeds.view(), results)) == codes::engine_failed &&
               says(opened.failure, sentence);
    };
    using Tensors = std::vector<Tensor>;
    CHECK(refused([](Tensors& feeds) { feeds.erase(feeds.begin()); },
                  "was given encoder_hidden_states, timestep; it takes sample, timestep, encoder_hidden_states"));
    CHECK(refused([](Tensors& feeds) { feeds.clear(); }, "was given nothing; it takes"));
    CHECK(refused([](Tensors& feeds) { feeds.push_back(feeds[0]); },
                  "was given encoder_hidden_states, sample, sample, timestep;"));
    CHECK(refused([](Tensors& feeds) { feeds[1].rank = 1, feeds[1].shape[0] = 1; },
                  "timestep as float32 of shape (1,); it takes float32 of shape ()"));
    CHECK(refused([](Tensors& feeds) { feeds[1].type = ElementType::float64; },
                  "timestep as float64 of shape (); it takes"));
    CHECK(refused([](Tensors& feeds) { feeds[0].shape[1] = 3; }, "sample of shape (2, 3, 4, 6): 3 where it takes 4"));
    CHECK(refused([](Tensors& feeds) { feeds[0].shape[0] = 1; },
                  "encoder_hidden_states of shape (2, 5, 6): 2 where it takes 1 for batch"));
    CHECK(refused([](Tensors& feeds) { feeds[0].shape[3] = 1; }, "1 where it takes 2 to 32 for width"));
    CHECK(opened.components.run(opened.scope, "unet", Feeds().view(), results).ok());
}

static void linked_weights_are_read_through_hard_links() {
    Scratch scratch;
    scratch.folder("blobs");
    scratch.folder("snapshot");
    scratch.write("blobs/graph", "a graph");
    scratch.write("blobs/weights", "weights");
    auto link = [&](const char* to, const char* name) { CHECK(::symlink(to, scratch.at(name).c_str()) == 0); };
    link("../blobs/graph", "snapshot/model.onnx");
    link("../blobs/weights", "snapshot/model.safetensors");
    files::Path graph(scratch.at("snapshot/model.onnx")), weights(scratch.at("snapshot/model.safetensors")), made;
    Allocator memory = system_allocator();
    Failure failure;
    Scope scope{memory, failure};
    files::FileStatus status;
    {
        openvino::PlainGraph plain(memory);
        CHECK(plain.make(scope, graph, {&weights, 1}).ok());
        made = plain.path();
        files::Path beside(made.parent(), "model.safetensors");
        CHECK(made.view() != graph.view() && read_file(made.c_str()) == "a graph");
        CHECK(look(beside, files::Links::keep, status).ok() && status.kind == files::Kind::file);
    }
    CHECK(look(made.parent(), files::Links::keep, status).is_missing());  // no link is left, and what they led to is
    CHECK(read_file(scratch.at("blobs/weights")) == "weights");
    scratch.write("snapshot/plain.safetensors", "weights");
    link("plain.safetensors", "snapshot/near.safetensors");
    for (const char* name : {"snapshot/plain.safetensors", "snapshot/near.safetensors"}) {
        openvino::PlainGraph plain(memory);
        files::Path plain_weights(scratch.at(name));
        CHECK(plain.make(scope, graph, {&plain_weights, 1}).ok() && plain.path().view() == graph.view());
    }
    ::setenv("XDG_CACHE_HOME", scratch.at("blobs/graph").c_str(), 1);
    openvino::PlainGraph plain(memory);
    CHECK(code_of(plain.make(scope, graph, {&weights, 1})) == codes::engine_unavailable);
    CHECK(says(
        failure,
        "cannot be linked into the cache folder: there is no cache folder; copy the package with its links followed"));
}

static void memory_may_run_out() {
    Scratch scratch;  // its cache folder
    Feeds feeds;
    check_every_allocation("plugin", [&](Scope& scope) {
        package::Package package(scope.memory);
        LDM_TRY(package.open(scope, golden_path("package"), package::Check::cached));
        Components components(scope.memory, package);
        LDM_TRY(components.start(scope, fake("CPU")));
        Results results(scope.memory);
        LDM_TRY(components.run(scope, "unet", feeds.view(), results));
        return package.confirm(scope);
    });
}

int main() {
    Scratch scratch;  // its cache folder
    it_is_found_by_option_and_environment();
    truncated_plugins_are_refused();
    only_what_is_mapped_must_be_there();
    broken_headers_are_read_without_harm();
    a_library_for_another_machine_is_refused_by_its_name();
    onnxruntime_is_not_needed();
    it_is_told_what_to_open();
    its_failures_have_a_code();
    what_it_computes_in_is_asked_for();
    wrong_feeds_are_refused();
    linked_weights_are_read_through_hard_links();
    memory_may_run_out();
    return done();
}
