#include "src/engines/components.h"

#include <cmath>
#include <thread>

#include "core/codes.h"
#include "src/engines/memory_left.h"
#include "src/engines/signature.h"
#include "src/files/stopwatch.h"

namespace ldm::engines {

namespace {

using Lock = std::lock_guard<std::mutex>;

// Four for each CPU, 16 at least; more only wait for one another.
std::int64_t most_threads() {
    auto four_each = 4 * static_cast<std::int64_t>(std::thread::hardware_concurrency());
    return four_each > 16 ? four_each : 16;
}

// Bytes in GB, with one decimal.
double gigabytes(std::uint64_t bytes) { return std::round(static_cast<double>(bytes) / 1e8) / 10.0; }

Status copy(Scope& scope, Arena& arena, std::string_view text, const char*& out) {
    char* kept = arena.make<char>(text.size() + 1);
    LDM_NEED(scope, kept != nullptr);
    if (!text.empty()) std::memcpy(kept, text.data(), text.size());
    out = kept;
    return Status();
}

Status copy(Scope& scope, Arena& arena, const ort::Options& options, ort::Options& out) {
    auto* keys = arena.make<const char*>(options.count);
    auto* values = arena.make<const char*>(options.count);
    LDM_NEED(scope, keys != nullptr && values != nullptr);
    for (std::size_t index = 0; index < options.count; ++index) {
        LDM_TRY(copy(scope, arena, options.keys[index], keys[index]));
        LDM_TRY(copy(scope, arena, options.values[index], values[index]));
    }
    out = {keys, values, options.count};
    return Status();
}

}  // namespace

Components::Components(Allocator& memory, const package::Package& package)
    : memory_(memory), package_(package), arena_(memory), notices_(memory) {}

Components::~Components() {
    if (process_ == files::process_number()) slots_.close_all();  // a forked process has none of their threads
}

Status Components::start(Scope& scope, const Settings& settings) {
    if (settings.threads < 0 || settings.threads > most_threads()) {
        return scope.fail(codes::request_invalid, {"threads is ", settings.threads, "; expected an integer from 1 to ",
                                                   most_threads(), ", or 0 for the engine's choice"});
    }
    is_openvino_ = settings.engine == "openvino";
    if (!is_openvino_ && settings.engine != "ort" && !settings.engine.empty()) {
        return scope.fail(codes::request_engine, {"engine is ", quoted(settings.engine), "; expected ort or openvino"});
    }
    std::size_t count = package_.manifest().components.size();
    are_large_ = arena_.make<bool>(count);
    LDM_NEED(scope, are_large_ != nullptr && slots_.make(arena_, count));
    process_ = files::process_number();
    files::Stopwatch stopwatch;
    LDM_TRY(is_openvino_ ? start_openvino(scope, settings) : start_onnxruntime(scope, settings));
    if (is_openvino_) {
        scope.tell("engine", {"OpenVINO's plugin for the device ", graph_settings_.device, " loaded in ",
                              stopwatch.seconds(), " s"});
    } else {
        scope.tell("engine", {"ONNX Runtime ", library_.version(), " loaded from ", library_.path(), " in ",
                              stopwatch.seconds(), " s"});
    }
    for (std::size_t index = 0; index < settings.options.count; ++index) {
        scope.tell("engine", {engine_name(), " has the option ", settings.options.keys[index], "=",
                              settings.options.values[index]});
    }
    return Status();
}

Status Components::start_onnxruntime(Scope& scope, const Settings& settings) {
    LDM_TRY(ort::find_provider(scope, settings.provider, settings_.provider));
    if (settings_.provider == nullptr && settings.options.count > 0) {
        return scope.fail(codes::request_engine,
                          {"there are options for the engine ort, which has none; threads are a choice "
                           "of their own"});
    }
    LDM_TRY(copy(scope, arena_, settings.options, settings_.options));
    settings_.threads = settings.threads;
    large_weights_ = settings.large_weights;
    memory_left_ = settings.memory_left;
    return library_.open(scope, settings.library);
}

Status Components::start_openvino(Scope& scope, const Settings& settings) {
    ort::Options properties;
    LDM_TRY(copy(scope, arena_, settings.options, properties));
    graph_settings_.keys = properties.keys;
    graph_settings_.values = properties.values;
    graph_settings_.option_count = properties.count;
    if (!settings.provider.empty()) LDM_TRY(copy(scope, arena_, settings.provider, graph_settings_.device));
    graph_settings_.threads = settings.threads;
    return plugin_.open(scope, settings.library);
}

Status Components::find(Scope& scope, std::string_view component, std::size_t& place) {
    if (process_ != files::process_number()) {
        return scope.fail(codes::engine_failed,
                          {"the package ", package_.path().view(),
                           " was loaded before this process was "
                           "forked, and its engines' threads stayed behind; load it in each process"});
    }
    place = package_.manifest().components.place_of(component);
    if (place != json::Map<Component>::none) return Status();
    return scope.fail(codes::engine_failed, {package_.path().view(), " has no component ", quoted(component)});
}

// Count a user of a component's engine, which is opened if need be.
Status Components::acquire(Scope& scope, std::string_view component, std::size_t& place) {
    LDM_TRY(find(scope, component, place));
    if (slots_.use(place)) return Status();
    files::Stopwatch stopwatch;
    bool is_new = false;
    LDM_TRY(open_slot(scope, component, place, is_new));
    if (is_new) tell_of(scope, component, slots_.engine(place), stopwatch.seconds());
    return Status();
}

Status Components::open_slot(Scope& scope, std::string_view component, std::size_t place, bool& is_new) {
    Lock turn(opening_);
    if (slots_.use(place)) return Status();  // another thread was faster
    Engine engine;
    LDM_TRY(load(scope, component, artefact_of(component), engine));
    slots_.open(place, engine);
    is_new = true;
    return Status();
}

void Components::tell_of(const Scope& scope, std::string_view component, const Engine& engine, double seconds) const {
    std::int64_t threads = is_openvino_ ? graph_settings_.threads : settings_.threads;
    scope.tell("engine", {component, ": ", engine.path, " on ", engine_name(), ", threads ",
                          threads == 0 ? Piece("of its choice") : Piece(threads), ", ",
                          files::megabytes(package_.weights(component).bytes), " MB of weights ",
                          engine.maps_weights ? "mapped" : "copied", ", opened in ", seconds, " s"});
}

Status Components::open(Scope& scope, std::string_view component) {
    std::size_t place = 0;
    LDM_TRY(acquire(scope, component, place));
    slots_.release(place);
    return Status();
}

Status Components::open_alone(Scope& scope, std::string_view component, const Artefact& artefact, Engine& out) {
    files::Stopwatch stopwatch;
    {
        Lock turn(opening_);
        LDM_TRY(load(scope, component, artefact, out));
    }
    tell_of(scope, component, out, stopwatch.seconds());
    return Status();
}

Status Components::run(Scope& scope, std::string_view component, View<Tensor> feeds, Results& out) {
    std::size_t place = 0;
    LDM_TRY(acquire(scope, component, place));
    const Engine& engine = slots_.engine(place);
    files::Stopwatch stopwatch;
    Status status = engine.run(engine.self, scope, feeds, out);
    slots_.release(place);
    if (status.ok()) scope.tell("engine", {component, " evaluated in ", stopwatch.seconds(), " s"});
    return status;
}

void Components::rest(std::string_view component) {
    std::size_t place = package_.manifest().components.place_of(component);
    if (place != json::Map<Component>::none) slots_.rest(place);
}

Status Components::load(Scope& scope, std::string_view component, const Artefact& artefact, Engine& out) {
    Engine engine;
    if (is_openvino_) {
        LDM_TRY(openvino::open_graph(scope, memory_, plugin_, package_, component, artefact, graph_settings_, engine));
    } else {
        LDM_TRY(load_session(scope, component, artefact, engine));
    }
    const ComponentContract& promised = *package_.manifest().contract.components.find(component);
    Status status = check_graph(scope, engine.path, promised, engine.inputs, engine.outputs);
    for (std::string_view sentence : engine.notices) {
        if (status.ok()) status = keep_notice(scope, sentence);
    }
    if (!status.ok()) {
        engine.close(engine.self);
        return status;
    }
    out = engine;
    return Status();
}

Status Components::load_session(Scope& scope, std::string_view component, const Artefact& artefact, Engine& out) {
    const Component& parts = *package_.manifest().components.find(component);
    ort::SessionSettings settings = settings_;
    files::Path weights, graph;
    LDM_TRY(package_.file(scope, parts.weights, weights));
    if (settings.provider == nullptr) LDM_TRY(check_memory(scope, component, settings));
    LDM_TRY(package_.file(scope, artefact.file(), graph));
    return ort::open_session(scope, memory_, library_, graph, settings, out);
}

bool Components::runs(const Artefact& artefact) const {
    if (is_openvino_ && artefact.format == "openvino") return true;
    if (artefact.format != "onnx") return false;
    bool is_on_cpu = !is_openvino_ && settings_.provider == nullptr;
    return artefact.engine == "any" || (is_on_cpu && artefact.engine == "ort_cpu");
}

const Artefact& Components::artefact_of(std::string_view component) const {
    const Manifest& manifest = package_.manifest();
    if (is_openvino_) return openvino_artefact_for(manifest, component);
    return artefact_for(manifest, component, settings_.provider == nullptr);
}

std::string_view Components::engine_name() const {
    if (is_openvino_) return "openvino";
    return settings_.provider == nullptr ? "ort" : settings_.provider->ort_name;
}

std::optional<std::uint64_t> Components::memory_left() const {
    return memory_left_ ? memory_left_ : available_memory();
}

// Fail if the weights do not fit; say so where they hardly do. Large ones are mapped.
Status Components::check_memory(Scope& scope, std::string_view component, ort::SessionSettings& settings) {
    WeightMemory needed = weight_memory(package_.weights(component), large_weights_);
    settings.reorders = needed.mapped == 0;
    std::optional<std::uint64_t> free = memory_left();
    if (!free) return Status();
    if (needed.own > *free) {
        return scope.fail(codes::engine_unavailable, {component, " needs about ", gigabytes(needed.own),
                                                      " GB of memory in ONNX "
                                                      "Runtime, but ",
                                                      gigabytes(*free),
                                                      " GB are available; close other "
                                                      "programs, or use a machine with more memory"});
    }
    bool& is_told = are_large_[package_.manifest().components.place_of(component)];  // once, however often it is opened
    if (needed.own + needed.mapped <= *free || is_told) return Status();
    is_told = true;
    Failure sentence;  // used as a sentence
    sentence.set("", {component, " has ", gigabytes(needed.mapped), " GB of weights, but ", gigabytes(*free),
                      " GB of memory are "
                      "available, so that every evaluation reads them from the disk again; close other programs"});
    return keep_notice(scope, sentence.text);
}

Status Components::keep_notice(Scope& scope, std::string_view sentence) {
    Lock lock(telling_);
    for (std::string_view each : notices_) {
        if (each == sentence) return Status();
    }
    auto* kept = arena_.make<char>(sentence.size() + 1);
    LDM_NEED(scope, kept != nullptr);
    std::memcpy(kept, sentence.data(), sentence.size());
    LDM_NEED(scope, notices_.push({kept, sentence.size()}));
    return Status();
}

bool Components::take_notice(std::string_view& out) {
    Lock lock(telling_);
    if (taken_notices_ == notices_.size()) return false;
    out = notices_[taken_notices_++];
    return true;
}

}  // namespace ldm::engines
