#include "src/engines/components.h"

#include <algorithm>
#include <cmath>
#include <iterator>
#include <thread>

#include "core/codes.h"
#include "src/engines/memory_left.h"
#include "src/engines/signature.h"
#include "src/engines/units.h"
#include "src/files/stopwatch.h"

namespace ldm::engines {

namespace {

using Lock = std::lock_guard<std::mutex>;

// Four for each CPU, 16 at least; more only wait for one another.
std::int64_t most_threads() {
    auto four_each = 4 * static_cast<std::int64_t>(std::thread::hardware_concurrency());
    return four_each > 16 ? four_each : 16;
}

// An option of an engine, and the values with which it computes in float32.
struct ExactOption {
    std::string_view engine, key, values[3];
};

constexpr ExactOption exact_options[] = {
    {"openvino", "INFERENCE_PRECISION_HINT", {"f32"}},
    {"openvino", "DYNAMIC_QUANTIZATION_GROUP_SIZE", {"0"}},
    {"ort:cuda", "use_tf32", {"0", "False"}},
    {"ort:tensorrt", "trt_fp16_enable", {"0", "False", "false"}},
    {"ort:tensorrt", "trt_bf16_enable", {"0", "False", "false"}},
    {"ort:tensorrt", "trt_int8_enable", {"0", "False", "false"}},
};

// Whether an engine computes in float32 with an option, as far as is known.
bool is_exact(std::string_view kind, std::string_view name, std::string_view key, std::string_view value) {
    for (const ExactOption& each : exact_options) {
        bool is_of_engine = each.engine.substr(0, kind.size()) == kind && each.engine.substr(kind.size()) == name;
        if (!is_of_engine || each.key != key) continue;
        return std::any_of(std::begin(each.values), std::end(each.values),
                           [&](std::string_view exact) { return !exact.empty() && exact == value; });
    }
    return true;
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
    variant_ = settings.variant;
    if (!is_openvino_ && settings.engine != "ort" && !settings.engine.empty()) {
        return scope.fail(codes::request_engine, {"engine is ", quoted(settings.engine), "; expected ort or openvino"});
    }
    if (!is_openvino_) LDM_TRY(ort::find_provider(scope, settings.provider, settings_.provider));
    if (!is_openvino_ && settings_.provider == nullptr && settings.options.count > 0) {
        return scope.fail(codes::request_engine,
                          {"there are options for the engine ort, which has none; threads are a choice "
                           "of their own"});
    }
    std::size_t count = package_.manifest().components.size();
    are_large_ = arena_.make<bool>(count);
    LDM_NEED(scope, are_large_ != nullptr && slots_.make(arena_, count + 1));
    process_ = files::process_number();
    LDM_TRY(start_engines(scope, settings));
    return note_options(scope, settings.options);
}

// Say of each option with which the engine computes in less than float32 that its error is not known.
Status Components::note_options(Scope& scope, const ort::Options& options) {
    for (std::size_t index = 0; index < options.count; ++index) {
        const char *key = options.keys[index], *value = options.values[index];
        scope.tell("engine", {engine_name(), " has the option ", key, "=", value});
        std::string_view kind = is_openvino_ ? "" : "ort:";
        std::string_view name = is_openvino_ ? "openvino" : settings_.provider->name;  // the CPU's takes no options
        if (is_exact(kind, name, key, value)) continue;
        Failure sentence;  // used as a sentence
        sentence.set("", {kind, name, " has the option ", key, "=", value, ", which computes in less than float32: "
                          "how far the image is from the exact one is recorded nowhere"});
        LDM_TRY(keep_notice(scope, sentence.text));
    }
    return Status();
}

// Those that components run on: the one that the settings name has the library and options, another is found.
Status Components::start_engines(Scope& scope, const Settings& settings) {
    for (bool openvino : {false, true}) {
        if (!needs(openvino)) continue;
        is_for_variant_ = !needs(openvino, true);
        Settings its;
        its.threads = settings.threads;
        its.large_weights = settings.large_weights;
        its.memory_left = settings.memory_left;
        files::Stopwatch stopwatch;
        if (openvino) {
            LDM_TRY(start_openvino(scope, is_openvino_ ? settings : its));
            scope.tell("engine", {"OpenVINO's plugin for the device ", graph_settings_.device, " loaded in ",
                                  stopwatch.seconds(), " s"});
        } else {
            LDM_TRY(start_onnxruntime(scope, is_openvino_ ? its : settings));
            scope.tell("engine", {"ONNX Runtime ", library_.version(), " loaded from ", library_.path(), " in ",
                                  stopwatch.seconds(), " s"});
        }
    }
    return Status();
}

Status Components::start_onnxruntime(Scope& scope, const Settings& settings) {
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

Status Components::find(Scope& scope, std::string_view component, Part part, std::size_t& place) {
    if (process_ != files::process_number()) {
        return scope.fail(codes::engine_failed,
                          {"the package ", package_.path().view(),
                           " was loaded before this process was "
                           "forked, and its engines' threads stayed behind; load it in each process"});
    }
    place = package_.manifest().components.place_of(component);
    bool is_there = place != json::Map<Component>::none;
    if (part == Part::reading) place = package_.manifest().components.size();
    if (is_there) return Status();
    return scope.fail(codes::engine_failed, {package_.path().view(), " has no component ", quoted(component)});
}

// Count a user of a component's engine, which is opened if need be.
Status Components::acquire(Scope& scope, std::string_view component, Part part, std::size_t& place) {
    LDM_TRY(find(scope, component, part, place));
    if (slots_.use(place)) return Status();
    files::Stopwatch stopwatch;
    bool is_new = false;
    Form form = form_of(component, part);
    LDM_TRY(open_slot(scope, component, form, place, is_new));
    if (is_new) tell_of(scope, component, form, slots_.engine(place), stopwatch.seconds());
    return Status();
}

Status Components::open_slot(Scope& scope, std::string_view component, const Form& form, std::size_t place,
                             bool& is_new) {
    Lock turn(opening_);
    if (slots_.use(place)) return Status();  // another thread was faster
    Engine engine;
    LDM_TRY(load(scope, component, form, engine));
    slots_.open(place, engine);
    is_new = true;
    return Status();
}

void Components::tell_of(const Scope& scope, std::string_view component, const Form& form, const Engine& engine,
                         double seconds) const {
    std::int64_t threads = form.is_on_openvino ? graph_settings_.threads : settings_.threads;
    scope.tell("engine", {component, ": ", engine.path, " on ", form.is_on_openvino ? "openvino" : ort_name(),
                          form.precision ? " in " : "", form.precision ? ldm::name_of(*form.precision) : "",
                          ", threads ", threads == 0 ? Piece("of its choice") : Piece(threads), ", ",
                          files::megabytes(package_.weights(component, *form.artefact).bytes), " MB of weights ",
                          engine.maps_weights ? "mapped" : "copied", ", opened in ", seconds, " s"});
}

Status Components::open(Scope& scope, std::string_view component, Part part) {
    std::size_t place = 0;
    LDM_TRY(acquire(scope, component, part, place));
    slots_.release(place);
    return Status();
}

Status Components::open_all(Scope& scope) {
    const Contract& contract = package_.manifest().contract;
    for (const auto& [component, its] : contract.components) {
        if (component == contract.codec.encoder.component) continue;
        is_for_variant_ = is_of_variant(component);
        LDM_TRY(open(scope, component));
    }
    std::string_view denoiser = contract.denoiser.component;
    is_for_variant_ = true;
    return caching_of(denoiser) == nullptr ? Status() : open(scope, denoiser, Part::reading);
}

bool Components::failed_for_variant(const Status& status) const {
    if (status.ok() || variant_ == nullptr || !is_for_variant_) return false;
    return std::string_view(status.code()).substr(0, 7) == "engine.";
}

Status Components::open_alone(Scope& scope, std::string_view component, const Artefact& artefact, Engine& out) {
    files::Stopwatch stopwatch;
    {
        Lock turn(opening_);
        LDM_TRY(load(scope, component, {&artefact, is_openvino_, std::nullopt, {}}, out));
    }
    tell_of(scope, component, {&artefact, is_openvino_, std::nullopt, {}}, out, stopwatch.seconds());
    return Status();
}

Status Components::run(Scope& scope, std::string_view component, View<Tensor> feeds, Results& out, Part part) {
    std::size_t place = 0;
    LDM_TRY(acquire(scope, component, part, place));
    const Engine& engine = slots_.engine(place);
    files::Stopwatch stopwatch;
    Status status = engine.run(engine.self, scope, feeds, out);
    slots_.release(place);
    if (status.ok()) scope.tell("engine", {component, " evaluated in ", stopwatch.seconds(), " s"});
    return status;
}

void Components::rest(std::string_view component) {
    std::size_t place = package_.manifest().components.place_of(component);
    if (place == json::Map<Component>::none) return;
    slots_.rest(place);
    if (caching_of(component) != nullptr) slots_.rest(package_.manifest().components.size());
}

// Open a graph; of a failure it is said whose it is.
Status Components::open_form(Scope& scope, std::string_view component, const Form& form, Engine& out) {
    openvino::GraphSettings settings = graph_settings_;
    settings.precision = form.precision;
    Status status = form.is_on_openvino ? openvino::open_graph(scope, memory_, plugin_, package_, component,
                                                               *form.artefact, settings, out)
                                        : load_session(scope, component, form, out);
    bool is_failure = !status.ok() && std::string_view(status.code()) == codes::engine_failed;
    if (!is_failure || form.engine.empty()) return status;
    Failure why = scope.failure;
    std::string_view name = form.artefact->name;
    return scope.fail(codes::engine_failed, {form.engine, " does not run ", name, " of ", component, ": ", why.text});
}

Status Components::load(Scope& scope, std::string_view component, const Form& form, Engine& out) {
    Engine engine;
    LDM_TRY(open_form(scope, component, form, engine));
    const ComponentContract& its = promised(package_.manifest(), component, *form.artefact);
    Status status = check_graph(scope, engine.path, its, engine.inputs, engine.outputs);
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

Status Components::load_session(Scope& scope, std::string_view component, const Form& form, Engine& out) {
    const Artefact& artefact = *form.artefact;
    ort::SessionSettings settings = settings_;
    settings.is_bfloat16 = form.precision == Precision::bf16;
    settings.has_narrow_weights = is_integer(artefact.precision);
    settings.has_whole_sums = settings.has_narrow_weights && !has_unit("avx512_vnni") && !has_unit("avx_vnni");
    files::Path graph;
    for (std::size_t place = 1; place < artefact.files.size; ++place) {
        files::Path data;
        LDM_TRY(package_.file(scope, artefact.files[place], data));
    }
    if (settings.provider == nullptr) LDM_TRY(check_memory(scope, component, form, settings));
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

std::string_view Components::engine_name() const { return is_openvino_ ? "openvino" : ort_name(); }

std::string_view Components::ort_name() const {
    return settings_.provider == nullptr ? "ort" : settings_.provider->ort_name;
}

// As a way of the variant says, whose engine it is, or as the settings do.
Components::Form Components::form_of(std::string_view component, Part part) const {
    const Way* way = variant_ == nullptr ? nullptr : variant_->ways.find(component);
    const Caching* caching = caching_of(component);
    const Component& parts = *package_.manifest().components.find(component);
    Form form;
    form.is_on_openvino = way == nullptr ? is_openvino_ : way->engine == "openvino";
    if (way != nullptr) form.engine = way->engine;
    if (caching != nullptr) {
        std::string_view name = part == Part::own ? caching->keeps : caching->reads;
        form.artefact = parts.find(name);
    } else if (way != nullptr) {
        form.artefact = parts.find(way->artefact);
    } else {
        form.artefact = &artefact_of(component);
    }
    if (way != nullptr) form.precision = asked_precision(*way, *form.artefact);
    return form;
}

bool Components::is_of_variant(std::string_view component) const {
    return variant_ != nullptr && (variant_->ways.find(component) != nullptr || caching_of(component) != nullptr);
}

const Caching* Components::caching_of(std::string_view component) const {
    bool is_cached = variant_ != nullptr && variant_->run.caching.has_value() &&
                     component == package_.manifest().contract.denoiser.component;
    return is_cached ? &*variant_->run.caching : nullptr;
}

bool Components::needs(bool openvino, bool without_variant) const {
    for (const auto& [component, its] : package_.manifest().components) {
        const Way* way = variant_ == nullptr ? nullptr : variant_->ways.find(component);
        bool is_on_openvino = way == nullptr ? is_openvino_ : way->engine == "openvino";
        if (is_on_openvino == openvino && !(without_variant && is_of_variant(component))) return true;
    }
    return false;
}

std::optional<std::uint64_t> Components::memory_left() const {
    return memory_left_ ? memory_left_ : available_memory();
}

// Fail if the weights do not fit; say so where they hardly do. Large ones are mapped.
Status Components::check_memory(Scope& scope, std::string_view component, const Form& form,
                                ort::SessionSettings& settings) {
    // A quantised graph gets its kernels from what is turned off for many weights, and its weights are small.
    bool is_of_few_bits = is_integer(form.artefact->precision) || settings.is_bfloat16;
    WeightMemory needed = weight_memory(package_.weights(component, *form.artefact),
                                        is_of_few_bits ? static_cast<std::uint64_t>(-1) : large_weights_);
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
