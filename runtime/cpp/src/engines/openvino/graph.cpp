#include "src/engines/openvino/graph.h"

#include <algorithm>
#include <atomic>

#include "core/codes.h"
#include "src/engines/choice.h"
#include "src/engines/openvino/places.h"
#include "src/engines/signature.h"

namespace ldm::openvino {

namespace {

using engines::ElementType;
using engines::Results;
using engines::Tensor;

static_assert(engines::max_rank == LDM_PLUGIN_MOST_DIMS);

ElementType type_of(std::int32_t number) {
    bool is_known = number > 0 && number <= static_cast<std::int32_t>(ElementType::float64);
    return is_known ? static_cast<ElementType>(number) : ElementType::none;
}

// What the plugin says against a call.
struct Said {
    char text[2048] = {0};

    ldm_plugin_error place() { return {text, sizeof text}; }
};

// A precision by OpenVINO's name.
const char* hint_of(Precision precision) {
    switch (precision) {
        case Precision::fp32: return "f32";
        case Precision::fp16: return "f16";
        case Precision::bf16: return "bf16";
        case Precision::int8:
        case Precision::int4: return nullptr;  // a graph has them of its own
    }
    return nullptr;
}

// What computes in the wanted precision, and the user's own properties.
Status list_properties(Scope& scope, const GraphSettings& settings, const Artefact& artefact,
                       Array<const char*>& keys, Array<const char*>& values) {
    constexpr const char* precision = "INFERENCE_PRECISION_HINT";
    std::string_view device = settings.device;
    if (settings.precision) {
        const char* hint = hint_of(*settings.precision);
        if (device != "CPU") {
            return scope.fail(codes::engine_unavailable, {ldm::name_of(*settings.precision), " is for OpenVINO on the "
                                                          "CPU, but its option device is ", device});
        }
        for (std::size_t index = 0; index < settings.option_count; ++index) {
            if (std::string_view(settings.keys[index]) != precision || std::string_view(settings.values[index]) == hint)
                continue;
            return scope.fail(codes::request_engine, {"the option openvino.", precision, " is ",
                                                      settings.values[index], ", but what was chosen computes in ",
                                                      hint, "; leave out one of them"});
        }
        LDM_NEED(scope, keys.push(precision) && values.push(hint));
    }
    if (is_integer(artefact.precision) && device.substr(0, 3) != "NPU") {  // else it rounds activations to 8 bits too
        LDM_NEED(scope, keys.push("DYNAMIC_QUANTIZATION_GROUP_SIZE") && values.push("0"));
    }
    LDM_NEED(scope, keys.append(settings.keys, settings.option_count));
    LDM_NEED(scope, values.append(settings.values, settings.option_count));
    return Status();
}

// The input of the text where a graph is all of a denoiser; "" of others.
std::string_view context_of(const DenoiserRole& role, std::string_view component, const Tensors& inputs) {
    bool is_denoiser = component == role.component && inputs.find(role.sample) != nullptr &&
                       inputs.find(role.timestep) != nullptr && inputs.find(role.context) != nullptr;
    return is_denoiser ? role.context : std::string_view();
}

// Write a tensor (B, 1, ...) again with its one token twice, (B, 2, ...), in `data`.
Status repeat_token(Scope& scope, ldm_plugin_tensor& tensor, Array<char>& data) {
    auto rows = static_cast<std::size_t>(tensor.shape[0]);
    std::size_t row_bytes = rows == 0 ? 0 : tensor.bytes / rows;
    LDM_NEED(scope, data.reserve(2 * tensor.bytes));
    for (std::size_t row = 0; row < rows; ++row) {
        const char* token = static_cast<const char*>(tensor.data) + row * row_bytes;
        LDM_NEED(scope, data.append(token, row_bytes) && data.append(token, row_bytes));
    }
    tensor.shape[1] = 2;
    tensor.data = data.data();
    tensor.bytes = data.size();
    return Status();
}

class Graph {
public:
    Graph(Allocator& memory, const Plugin& plugin, const package::Package& package, std::string_view component,
          const Artefact& artefact)
        : memory_(&memory), plugin_(plugin.functions()), package_(package), arena_(memory),
          contract_(package.manifest().contract), component_(component),
          promised_(promised(package.manifest(), component, artefact)), artefact_(artefact),
          context_(context_of(contract_.denoiser, component, promised_.inputs)) {}
    ~Graph() {
        if (graph_ != nullptr) plugin_.close(graph_);
    }
    Graph(const Graph&) = delete;
    Graph& operator=(const Graph&) = delete;

    Status open(Scope& scope, const GraphSettings& settings);
    Status run(Scope& scope, View<Tensor> feeds, Results& out);

    Allocator& memory() { return *memory_; }
    engines::Engine table() const;

private:
    Status load(Scope& scope, const GraphSettings& settings);
    Status check_precision(Scope& scope, Precision wanted);
    Status failed(Scope& scope, std::int32_t status, std::string_view what, const Said& said);
    Status prime(Scope& scope, View<ldm_plugin_tensor> inputs);
    Status read_ports(Scope& scope, bool are_outputs, View<TensorSpec>& out);
    Status read_port(Scope& scope, const ldm_plugin_port& port, TensorSpec& out);

    Allocator* memory_;
    const ldm_plugin& plugin_;
    const package::Package& package_;
    Arena arena_;
    const Contract& contract_;
    std::string_view component_;
    const ComponentContract& promised_;
    const Artefact& artefact_;
    std::string_view context_;  // the input of a denoiser's text, (B, T, D); "" of other graphs
    std::atomic<bool> is_primed_{false};
    files::Path path_;
    void* graph_ = nullptr;  // the plugin's
    View<TensorSpec> inputs_, outputs_;
};

Status Graph::failed(Scope& scope, std::int32_t status, std::string_view what, const Said& said) {
    if (status == LDM_PLUGIN_NO_MEMORY) return scope.out_of_memory();
    if (status == LDM_PLUGIN_UNAVAILABLE) return scope.fail(codes::engine_unavailable, {said.text});
    return scope.fail(codes::engine_failed, {"OpenVINO ", what, " ", path_.view(), ": ", said.text});
}

Status Graph::open(Scope& scope, const GraphSettings& settings) {
    LDM_TRY(load(scope, settings));
    if (settings.precision) LDM_TRY(check_precision(scope, *settings.precision));
    LDM_TRY(read_ports(scope, false, inputs_));
    return read_ports(scope, true, outputs_);
}

// It may take a precision and compute in another one.
Status Graph::check_precision(Scope& scope, Precision wanted) {
    std::string_view found = plugin_.precision(graph_), hint = hint_of(wanted);
    if (found == hint) return Status();
    return scope.fail(codes::engine_unavailable, {"OpenVINO computes ", component_, " in ", found.empty() ? "what it "
                                                  "does not say" : found, " here, not in ", hint});
}

Status Graph::load(Scope& scope, const GraphSettings& settings) {
    bool is_its_own = artefact_.format == "openvino";
    files::Path weights, cache;
    PlainGraph plain(scope.memory);
    LDM_TRY(package_.file(scope, artefact_.file(), path_));
    if (is_its_own) {
        LDM_TRY(package_.file(scope, artefact_.files[1], weights));
        LDM_TRY(make_cache_folder(scope, package_, artefact_, settings, cache));
    } else {
        Array<files::Path> data(scope.memory);
        for (std::size_t place = 1; place < artefact_.files.size; ++place) {
            LDM_NEED(scope, data.push(files::Path()));
            LDM_TRY(package_.file(scope, artefact_.files[place], data[place - 1]));
        }
        LDM_TRY(plain.make(scope, path_, data.view()));
    }
    Array<const char*> keys(scope.memory), values(scope.memory);
    LDM_TRY(list_properties(scope, settings, artefact_, keys, values));
    ldm_plugin_options options{};
    options.path = is_its_own ? path_.c_str() : plain.path().c_str();
    options.weights = is_its_own ? weights.c_str() : nullptr;
    options.cache = cache.view().empty() ? nullptr : cache.c_str();
    options.device = settings.device;
    options.threads = static_cast<std::int32_t>(settings.threads);
    options.keys = keys.data();
    options.values = values.data();
    options.option_count = keys.size();
    Said said;
    std::int32_t status = plugin_.open(&options, &graph_, said.place());
    return status == LDM_PLUGIN_OK ? Status() : failed(scope, status, "cannot load", said);
}

Status Graph::read_ports(Scope& scope, bool are_outputs, View<TensorSpec>& out) {
    std::size_t count = 0;
    const ldm_plugin_port* ports = plugin_.ports(graph_, are_outputs, &count);
    auto* specs = arena_.make<TensorSpec>(count);
    LDM_NEED(scope, specs != nullptr);
    for (std::size_t index = 0; index < count; ++index) LDM_TRY(read_port(scope, ports[index], specs[index]));
    out = {specs, count};
    return Status();
}

Status Graph::read_port(Scope& scope, const ldm_plugin_port& port, TensorSpec& out) {
    out.name = port.name;
    if (type_of(port.element_type) == ElementType::none) {
        return scope.fail(codes::graph_signature, {path_.view(), " has ", quoted(out.name),
                                                   " of a type that no component uses; "
                                                   "build the package again"});
    }
    out.dtype = engines::name_of(type_of(port.element_type));
    auto rank = static_cast<std::size_t>(port.rank);
    auto* dims = arena_.make<Dim>(rank);
    LDM_NEED(scope, dims != nullptr);
    for (std::size_t axis = 0; axis < rank; ++axis) {
        bool is_open = port.dims[axis] < 0;
        dims[axis] = {is_open, is_open ? 0 : port.dims[axis], is_open ? "?" : ""};
    }
    out.dims = {dims, rank};
    return Status();
}

ldm_plugin_tensor fed(const Tensor& tensor) {
    ldm_plugin_tensor out{};
    out.name = tensor.name;
    out.element_type = static_cast<std::int32_t>(tensor.type);
    out.rank = static_cast<std::int32_t>(tensor.rank);
    std::memcpy(out.shape, tensor.shape, sizeof out.shape);
    out.data = tensor.data;
    out.bytes = tensor.bytes;
    return out;
}

// Keep an output; anything but 0 says that no memory is left.
std::int32_t keep(void* results, const ldm_plugin_tensor* output) {
    Tensor tensor;
    tensor.name = output->name;
    tensor.type = type_of(output->element_type);
    tensor.rank = static_cast<std::size_t>(output->rank);
    std::memcpy(tensor.shape, output->shape, sizeof tensor.shape);
    tensor.data = output->data;
    tensor.bytes = output->bytes;
    return static_cast<Results*>(results)->add(tensor) ? 0 : 1;
}

// OpenVINO 2026.4 compiles operators for the shapes that come first, and where these have a text of a single token it
// gives wrong numbers for all others that come later. So two tokens come first.
Status Graph::prime(Scope& scope, View<ldm_plugin_tensor> inputs) {
    Array<ldm_plugin_tensor> longer(scope.memory);
    Array<char> data(scope.memory);
    LDM_NEED(scope, longer.append(inputs));
    auto* text = std::find_if(longer.begin(), longer.end(), [&](const auto& each) { return context_ == each.name; });
    if (text == longer.end() || text->shape[1] != 1) return Status();
    LDM_TRY(repeat_token(scope, *text, data));
    Said said;
    auto drop = [](void*, const ldm_plugin_tensor*) -> std::int32_t { return 0; };
    std::int32_t status = plugin_.run(graph_, longer.data(), longer.size(), drop, nullptr, said.place());
    return status == LDM_PLUGIN_OK ? Status() : failed(scope, status, "failed in", said);
}

// Feeds are checked here: with one thread OpenVINO answers wrong shapes with the outputs of the run before.
Status Graph::run(Scope& scope, View<Tensor> feeds, Results& out) {
    out.clear();
    Array<engines::AxisSize> sizes(scope.memory);
    Array<ldm_plugin_tensor> inputs(scope.memory);
    LDM_TRY(engines::check_feeds(scope, path_.view(), promised_.inputs, contract_, feeds, sizes));
    for (const Tensor& feed : feeds) LDM_NEED(scope, inputs.push(fed(feed)));
    bool is_first = !context_.empty() && !is_primed_;
    if (is_first) LDM_TRY(prime(scope, inputs.view()));
    Said said;
    std::int32_t status = plugin_.run(graph_, inputs.data(), inputs.size(), keep, &out, said.place());
    if (status != LDM_PLUGIN_OK) return failed(scope, status, "failed in", said);
    if (is_first) is_primed_ = true;  // only now: another thread may have a text of one token meanwhile
    return engines::check_results(scope, path_.view(), promised_.outputs, sizes.view(), out);
}

engines::Engine Graph::table() const {
    engines::Engine engine;
    engine.self = const_cast<Graph*>(this);
    engine.path = path_.view();
    engine.inputs = inputs_;
    engine.outputs = outputs_;
    engine.run = [](void* self, Scope& scope, View<Tensor> feeds, Results& out) {
        return static_cast<Graph*>(self)->run(scope, feeds, out);
    };
    engine.close = [](void* self) {
        auto* graph = static_cast<Graph*>(self);
        destroy(graph->memory(), graph);
    };
    return engine;
}

}  // namespace

Status open_graph(Scope& scope, Allocator& memory, const Plugin& plugin, const package::Package& package,
                  std::string_view component, const Artefact& artefact, const GraphSettings& settings,
                  engines::Engine& out) {
    auto* graph = make<Graph>(memory, memory, plugin, package, component, artefact);
    LDM_NEED(scope, graph != nullptr);
    Status status = graph->open(scope, settings);
    if (status.ok()) {
        out = graph->table();
    } else {
        destroy(memory, graph);
    }
    return status;
}

}  // namespace ldm::openvino
