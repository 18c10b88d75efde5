// Sessions of ONNX Runtime: the graphs of the conformance kit, wrong inputs, several threads, memory that runs out.
// Needs ONNX Runtime.
#include "src/engines/onnxruntime/session.h"

#include <dlfcn.h>

#include <cmath>
#include <thread>
#include <vector>

#include "core/codes.h"
#include "src/engines/onnxruntime/fallbacks.h"
#include "src/files/system.h"
#include "tests/failing_allocator.h"
#include "tests/files.h"
#include "tests/onnxruntime.h"
#include "tests/scratch.h"

using namespace ldm;
using engines::ElementType;
using engines::Engine;
using engines::Results;
using engines::Tensor;

static std::string code_of(Status status) { return status.ok() ? "" : status.code(); }

static files::Path graph(const char* component) {
    return files::Path(golden_path(std::string("package/") + component + "/model.onnx"));
}

template <typename T>
static Tensor tensor(const char* name, ElementType type, const std::vector<T>& values,
                     std::vector<std::int64_t> shape) {
    Tensor out;
    out.name = name;
    out.type = type;
    out.rank = shape.size();
    for (std::size_t axis = 0; axis < shape.size(); ++axis) out.shape[axis] = shape[axis];
    out.data = values.data();
    out.bytes = values.size() * sizeof(T);
    return out;
}

// One evaluation of the denoiser, whose inputs are made of a number.
struct Denoiser {
    std::vector<float> sample, timestep, context;
    std::vector<Tensor> feeds;

    explicit Denoiser(float start) : sample(4 * 8 * 8), timestep(1, 500.0f), context(12 * 6) {
        for (std::size_t index = 0; index < sample.size(); ++index)
            sample[index] = std::sin(start + static_cast<float>(index));
        for (std::size_t index = 0; index < context.size(); ++index)
            context[index] = std::cos(start * static_cast<float>(index));
        feeds.push_back(tensor("sample", ElementType::float32, sample, {1, 4, 8, 8}));
        feeds.push_back(tensor("timestep", ElementType::float32, timestep, {}));
        feeds.push_back(tensor("encoder_hidden_states", ElementType::float32, context, {1, 12, 6}));
    }
    View<Tensor> view() const { return {feeds.data(), feeds.size()}; }
};

struct Opened {
    Allocator memory = system_allocator();
    Failure failure;
    Scope scope{memory, failure};
    ort::Library library;
    Engine engine;

    explicit Opened(const char* component, ort::SessionSettings settings = {}) {
        open_onnxruntime(scope, library);
        Status status = ort::open_session(scope, memory, library, graph(component), settings, engine);
        if (!CHECK(status.ok())) std::fprintf(stderr, "  %s\n", failure.text);
    }
    ~Opened() {
        if (engine.close != nullptr) engine.close(engine.self);
    }
};

static void graphs_say_what_they_take() {
    Opened opened("unet");
    const Engine& engine = opened.engine;
    CHECK(engine.inputs.size == 3 && engine.outputs.size == 1 && engine.notices.empty() && !engine.maps_weights);
    CHECK(engine.inputs[0].name == "sample" && engine.inputs[0].dtype == "float32" && engine.inputs[0].dims.size == 4);
    CHECK(engine.inputs[0].dims[0].is_named && engine.inputs[0].dims[0].axis == "batch" &&
          engine.inputs[0].dims[1].is(4));
    CHECK(engine.inputs[1].name == "timestep" && engine.inputs[1].dims.empty());
    CHECK(engine.outputs[0].name == "out_sample");
    Opened text("text_encoder");
    CHECK(text.engine.inputs[0].name == "input_ids" && text.engine.inputs[0].dtype == "int64");
}

static void all_settings_compute_the_same() {
    Denoiser denoiser(0.5f);
    std::vector<float> first;
    for (bool reorders : {true, false}) {
        for (std::int64_t threads : {0, 1, 2}) {
            ort::SessionSettings settings;
            settings.reorders = reorders;
            settings.threads = threads;
            Opened opened("unet", settings);
            CHECK(opened.engine.maps_weights == !reorders);
            Results results(opened.memory);
            CHECK(opened.engine.run(opened.engine.self, opened.scope, denoiser.view(), results).ok());
            const Tensor* out = results.find("out_sample");
            if (!CHECK(out != nullptr && out->rank == 4 && out->shape[3] == 8 && out->bytes == 4 * 8 * 8 * 4)) return;
            const auto* values = static_cast<const float*>(out->data);
            if (first.empty()) first.assign(values, values + 4 * 8 * 8);
            double worst = 0.0;
            for (std::size_t index = 0; index < first.size(); ++index) {
                worst = std::fmax(worst, std::fabs(double{values[index]} - double{first[index]}));
            }
            CHECK(worst <= 1e-6);
            CHECK(opened.engine.run(opened.engine.self, opened.scope, denoiser.view(), results).ok());  // used again
            CHECK(results.view().size == 1);
        }
    }
}

static void wrong_inputs_are_refused() {
    Opened opened("unet");
    Results results(opened.memory);
    auto refused = [&](auto change) {
        Denoiser denoiser(0.5f);
        change(denoiser.feeds);
        return code_of(opened.engine.run(opened.engine.self, opened.scope, denoiser.view(), results));
    };
    CHECK(refused([](std::vector<Tensor>&) {}).empty());
    CHECK(refused([](std::vector<Tensor>& feeds) { feeds.pop_back(); }) == codes::engine_failed);
    CHECK(refused([](std::vector<Tensor>& feeds) { feeds.clear(); }) == codes::engine_failed);
    CHECK(refused([](std::vector<Tensor>& feeds) { feeds[0].name = "nothing"; }) == codes::engine_failed);
    CHECK(refused([](std::vector<Tensor>& feeds) { feeds[0].type = ElementType::int32; }) == codes::engine_failed);
    CHECK(refused([](std::vector<Tensor>& feeds) { feeds[0].type = ElementType::none; }) == codes::engine_failed);
    CHECK(refused([](std::vector<Tensor>& feeds) { feeds[0].shape[1] = 3; }) == codes::engine_failed);
    CHECK(refused([](std::vector<Tensor>& feeds) { feeds[0].shape[0] = 2; }) == codes::engine_failed);  // too few bytes
    CHECK(refused([](std::vector<Tensor>& feeds) { feeds[0].shape[0] = -1; }) == codes::engine_failed);
    CHECK(refused([](std::vector<Tensor>& feeds) { feeds[0].rank = 3; }) == codes::engine_failed);
    CHECK(std::string_view(opened.failure.text).find("model.onnx") != std::string_view::npos);
}

static void what_is_no_graph_is_refused() {
    Scratch scratch;
    scratch.write("noise.onnx", "no protobuf");
    Opened opened("unet");
    Engine engine;
    for (const std::string& path :
         {scratch.at("noise.onnx"), scratch.at("missing.onnx"), scratch.path, std::string(5000, 'a')}) {
        Status status = ort::open_session(opened.scope, opened.memory, opened.library, files::Path(path), {}, engine);
        CHECK(code_of(status) == codes::engine_failed);
    }
}

static void what_is_no_library_is_refused() {
    Scratch scratch;
    scratch.write("text.so", "no library");
    Allocator memory = system_allocator();
    Failure failure;
    Scope scope{memory, failure};
    Dl_info another;
    CHECK(::dladdr(reinterpret_cast<void*>(&std::fopen), &another) != 0);
    for (const std::string& path : {scratch.at("text.so"), scratch.at("missing.so"), scratch.path,
                                    std::string(another.dli_fname), std::string(5000, 'a')}) {
        ort::Library library;
        CHECK(code_of(library.open(scope, path)) == codes::engine_unavailable);
    }
}

// Half of ONNX Runtime: what is not there cannot be mapped, which is a signal where nobody looks before.
static void a_truncated_library_is_refused() {
    Scratch scratch;
    Opened whole("unet");
    std::string content = read_file(whole.library.path().data()), half = scratch.at("libonnxruntime.so");
    scratch.write("libonnxruntime.so", content.substr(0, content.size() / 2));
    ort::Library library;
    CHECK(code_of(library.open(whole.scope, half)) == codes::engine_unavailable);
    std::string sentence = "ONNX Runtime cannot be loaded from " + half + ": it is truncated: it has " +
                           std::to_string(content.size() / 2) + " bytes, but needs ";
    if (!CHECK(std::string_view(whole.failure.text).find(sentence) == 0))
        std::fprintf(stderr, "  %s\n", whole.failure.text);
}

static void a_path_that_is_too_long_is_told() {
    Allocator memory = system_allocator();
    Failure failure;
    Scope scope{memory, failure};
    const char* before = std::getenv("LDM_ONNXRUNTIME");
    std::string named = before == nullptr ? "" : before, long_path(5000, 'a');
    ort::Library library;
    ::setenv("LDM_ONNXRUNTIME", long_path.c_str(), 1);
    CHECK(code_of(library.open(scope, "")) == codes::engine_unavailable);
    CHECK(std::string_view(failure.text) ==
          "the path of ONNX Runtime in LDM_ONNXRUNTIME is longer than the 4095 bytes that can "
          "be opened; give a shorter one");
    CHECK(code_of(library.open(scope, long_path)) == codes::engine_unavailable);
    CHECK(std::string_view(failure.text).find("the path of ONNX Runtime, 'aaaa") == 0);
    ::setenv("LDM_ONNXRUNTIME", named.c_str(), 1);
}

static void other_providers_are_told_from_missing_ones() {
    Opened opened("unet");
    const ort::Provider* provider = nullptr;
    CHECK(ort::find_provider(opened.scope, "", provider).ok() && provider == nullptr);
    CHECK(ort::find_provider(opened.scope, "cpu", provider).ok() && provider == nullptr);
    CHECK(ort::find_provider(opened.scope, "CPUExecutionProvider", provider).ok() && provider == nullptr);
    CHECK(ort::find_provider(opened.scope, "cuda", provider).ok());
    CHECK(provider != nullptr && provider->name == std::string_view("cuda"));
    for (const char* name :
         {"cud", "abacus", "Cuda", "CPU", "cudaexecutionprovider"}) {  // in its own letters, as in Python
        CHECK(code_of(ort::find_provider(opened.scope, name, provider)) == codes::request_engine);
    }
    for (const char* name :
         {"cuda", "CUDAExecutionProvider", "tensorrt", "nv_tensorrt_rtx", "directml", "openvino", "qnn", "webgpu"}) {
        CHECK(ort::find_provider(opened.scope, name, provider).ok() && provider != nullptr);
        ort::SessionSettings settings;
        settings.provider = provider;
        Engine engine;
        Status status = ort::open_session(opened.scope, opened.memory, opened.library, graph("unet"), settings, engine);
        CHECK(code_of(status) == codes::engine_unavailable);  // none of them is in the CPU's build
    }
}

// The functions of newer versions stand where they are believed to be: what they say is known of the CPU's provider.
static void newer_functions_are_in_their_places() {
    Opened opened("unet");
    const ort::Api& api = opened.library.api();
    if (api.version < ort::assignment_api) return;
    const ort::OrtEpDevice* const* devices = nullptr;
    std::size_t count = 0;
    CHECK(api.GetEpDevices(opened.library.env(), &devices, &count) == nullptr);
    if (CHECK(count == 1)) {
        CHECK(std::string_view(api.EpDevice_EpName(devices[0])) == "CPUExecutionProvider");
        CHECK(api.HardwareDevice_Type(api.EpDevice_Device(devices[0])) == ort::cpu_device);
    }
    ort::Owned<ort::OrtSessionOptions> options(api.ReleaseSessionOptions);
    ort::Owned<ort::OrtSession> session(api.ReleaseSession);
    CHECK(api.CreateSessionOptions(options.out()) == nullptr);
    CHECK(api.AddSessionConfigEntry(options.get(), "session.record_ep_graph_assignment_info", "1") == nullptr);
    files::Path path = graph("unet");
    files::NativePath native(path);
    CHECK(api.CreateSession(opened.library.env(), native.get(), options.get(), session.out()) == nullptr);
    Arena arena(opened.memory);
    View<std::string_view> notices;
    Status status = ort::fallbacks(opened.scope, arena, opened.library, session.get(), "AbacusProvider", path, notices);
    CHECK(code_of(status) == codes::engine_unavailable);
    CHECK(std::string_view(opened.failure.text).find("AbacusProvider would run nothing of") == 0);
}

// Eight threads share one session; each gets what a thread alone gets.
static void threads_share_a_session() {
    Opened opened("unet");
    constexpr std::size_t count = 8, rounds = 20;
    std::vector<std::vector<float>> alone(count);
    auto evaluate = [&](std::size_t index, std::vector<float>& out) {
        Allocator memory = system_allocator();
        Failure failure;
        Scope scope{memory, failure};
        Results results(memory);
        Denoiser denoiser(static_cast<float>(index));
        if (!opened.engine.run(opened.engine.self, scope, denoiser.view(), results).ok()) return;
        const Tensor& result = results.view()[0];
        const auto* values = static_cast<const float*>(result.data);
        out.assign(values, values + result.bytes / sizeof(float));
    };
    for (std::size_t index = 0; index < count; ++index) evaluate(index, alone[index]);
    std::vector<int> equal(count);
    std::vector<std::thread> threads;
    for (std::size_t index = 0; index < count; ++index) {
        threads.emplace_back([&, index] {
            for (std::size_t round = 0; round < rounds; ++round) {
                std::vector<float> together;
                evaluate(index, together);
                equal[index] += !together.empty() && together == alone[index];
            }
        });
    }
    for (std::thread& thread : threads) thread.join();
    for (int each : equal) CHECK(each == rounds);
}

static void memory_may_run_out() {
    Opened opened("unet");
    Denoiser denoiser(0.5f);
    check_every_allocation("session", [&](Scope& scope) {
        Engine engine;
        LDM_TRY(ort::open_session(scope, scope.memory, opened.library, graph("unet"), {}, engine));
        Results results(scope.memory);
        Status status = engine.run(engine.self, scope, denoiser.view(), results);
        engine.close(engine.self);
        return status;
    });
}

// Of whatever length it is, and also where nothing was set.
static void the_environment_is_as_it_was() {
    constexpr const char* name = "ORT_DISABLE_TELEMETRY";
    const std::string longest(5000, 'x');
    ::setenv(name, longest.c_str(), 1);
    { Opened first("unet"); }  // the library is loaded here, and not again
    CHECK(std::getenv(name) != nullptr && std::getenv(name) == longest);
    ::unsetenv(name);
    { Opened second("unet"); }
    CHECK(std::getenv(name) == nullptr);
}

int main() {
    the_environment_is_as_it_was();
    graphs_say_what_they_take();
    all_settings_compute_the_same();
    wrong_inputs_are_refused();
    what_is_no_graph_is_refused();
    what_is_no_library_is_refused();
    a_truncated_library_is_refused();
    a_path_that_is_too_long_is_told();
    other_providers_are_told_from_missing_ones();
    newer_functions_are_in_their_places();
    threads_share_a_session();
    memory_may_run_out();
    return done();
}
