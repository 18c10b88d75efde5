#include "plugins/openvino/graph.h"

#include <algorithm>
#include <new>
#include <openvino/runtime/properties.hpp>

namespace ldm::openvino {

namespace {

// One for the process, and for as long as that. OpenVINO's CPU plugin gives the thread a stack for signal handlers: of
// two that end in the order in which they began, the second would restore the first one's stack, which is gone.
ov::Core& shared_core() {
    static auto* core = new ov::Core;
    return *core;
}

const ov::element::Type& type_of(int32_t element_type) {
    static const ov::element::Type types[] = {ov::element::dynamic, ov::element::f32, ov::element::i64,
                                              ov::element::i32,     ov::element::f16, ov::element::f64};
    bool is_known = element_type > 0 && element_type < static_cast<int32_t>(std::size(types));
    return types[is_known ? element_type : 0];
}

int32_t number_of(const ov::element::Type& type) {
    for (int32_t number = 1; type_of(number) != ov::element::dynamic; ++number) {
        if (type_of(number) == type) return number;
    }
    return 0;
}

void require_device(const std::string& device) {
    std::vector<std::string> devices = shared_core().get_available_devices();
    if (std::find(devices.begin(), devices.end(), device) != devices.end()) return;
    std::string names;
    for (const std::string& each : devices) names += (names.empty() ? "" : ", ") + each;
    throw Unavailable("OpenVINO has no device '" + device + "' here; it has " + names);
}

ov::AnyMap properties_of(const ldm_plugin_options& options) {
    // Left to itself it computes in bfloat16 where the CPU can, 1e-2 away from float32.
    ov::AnyMap properties{{"INFERENCE_PRECISION_HINT", "f32"}, {"PERFORMANCE_HINT", "LATENCY"}};
    for (size_t index = 0; index < options.option_count; ++index) {
        properties[options.keys[index]] = std::string(options.values[index]);
    }
    if (options.threads > 0 && std::string(options.device) == "CPU") {
        properties["INFERENCE_NUM_THREADS"] = std::to_string(options.threads);
    }
    if (options.cache != nullptr) {
        properties["CACHE_DIR"] = std::string(options.cache);
        properties["CACHE_MODE"] = std::string("OPTIMIZE_SIZE");  // without the weights
        properties["WEIGHTS_PATH"] = std::string(options.weights);
    }
    return properties;
}

ldm_plugin_port port_of(const ov::Output<const ov::Node>& node, const std::string& name) {
    ldm_plugin_port port{};
    port.name = name.c_str();
    port.element_type = number_of(node.get_element_type());
    const ov::PartialShape& shape = node.get_partial_shape();
    if (shape.rank().is_dynamic() || shape.size() > LDM_PLUGIN_MOST_DIMS) {
        throw std::runtime_error(name + " has an open number of dimensions, or more than 8");
    }
    port.rank = static_cast<int32_t>(shape.size());
    for (size_t axis = 0; axis < shape.size(); ++axis)
        port.dims[axis] = shape[axis].is_static() ? shape[axis].get_length() : -1;
    return port;
}

// A tensor over the memory of an input.
ov::Tensor over(const ldm_plugin_tensor& input) {
    ov::Shape shape;
    for (int32_t axis = 0; axis < input.rank; ++axis) shape.push_back(static_cast<size_t>(input.shape[axis]));
    ov::Tensor tensor(type_of(input.element_type), shape, const_cast<void*>(input.data));
    if (tensor.get_byte_size() != input.bytes) {
        throw std::runtime_error(std::string(input.name) + " has " + std::to_string(input.bytes) +
                                 " bytes; its shape has " + std::to_string(tensor.get_byte_size()));
    }
    return tensor;
}

// The type that a graph is computed in; "": a device has no such property.
std::string precision_of(const ov::CompiledModel& compiled) {
    std::vector<ov::PropertyName> known = compiled.get_property(ov::supported_properties);
    if (std::find(known.begin(), known.end(), ov::hint::inference_precision.name()) == known.end()) return "";
    return compiled.get_property(ov::hint::inference_precision).get_type_name();
}

}  // namespace

Graph::Graph(const ldm_plugin_options& options) {
    require_device(options.device);
    std::string weights = options.weights == nullptr ? "" : options.weights;
    std::shared_ptr<ov::Model> model = shared_core().read_model(std::string(options.path), weights);
    compiled_ = shared_core().compile_model(model, options.device, properties_of(options));
    precision_ = precision_of(compiled_);
    names_.reserve(compiled_.inputs().size() + compiled_.outputs().size());  // they stay where they are
    for (const auto& node : compiled_.inputs())
        inputs_.push_back(port_of(node, names_.emplace_back(node.get_any_name())));
    for (const auto& node : compiled_.outputs())
        outputs_.push_back(port_of(node, names_.emplace_back(node.get_any_name())));
}

ov::InferRequest Graph::take_request() {
    std::lock_guard<std::mutex> lock(turn_);
    if (idle_.empty()) return compiled_.create_infer_request();
    ov::InferRequest request = std::move(idle_.back());
    idle_.pop_back();
    return request;
}

void Graph::run(const ldm_plugin_tensor* inputs, size_t input_count, int32_t (*give)(void*, const ldm_plugin_tensor*),
                void* user) {
    ov::InferRequest request = take_request();  // dropped where something throws: it may fail again with right inputs
    for (size_t index = 0; index < input_count; ++index) request.set_tensor(inputs[index].name, over(inputs[index]));
    request.infer();
    for (size_t index = 0; index < outputs_.size(); ++index) {
        ov::Tensor tensor = request.get_output_tensor(index);
        ldm_plugin_tensor output{};
        output.name = outputs_[index].name;
        output.element_type = number_of(tensor.get_element_type());
        output.rank = outputs_[index].rank;
        for (size_t axis = 0; axis < tensor.get_shape().size(); ++axis) {
            output.shape[axis] = static_cast<int64_t>(tensor.get_shape()[axis]);
        }
        output.data = tensor.data();
        output.bytes = tensor.get_byte_size();
        if (give(user, &output) != 0) throw std::bad_alloc();
    }
    std::lock_guard<std::mutex> lock(turn_);
    idle_.push_back(std::move(request));
}

}  // namespace ldm::openvino
