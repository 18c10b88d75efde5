// The seam between the library and an engine: one loaded graph, as a table of functions. ONNX Runtime's is in
// onnxruntime/, OpenVINO's in openvino/, over a plugin (plugin.h).
#ifndef LDM_ENGINES_ENGINE_H
#define LDM_ENGINES_ENGINE_H

#include <string_view>

#include "core/package/contract.h"
#include "src/engines/tensor.h"

namespace ldm::engines {

struct Engine {
    void* self = nullptr;

    // Its file, what the graph says of itself, and sentences for the user about how it runs here. They last until
    // `close`.
    std::string_view path;
    View<TensorSpec> inputs, outputs;
    View<std::string_view> notices;
    bool maps_weights =
        false;  // they are read where they lie in the package's file, so that to open it takes little time

    // Evaluate the graph: all inputs by name, all outputs in its own order. Threads may run it at the same time.
    // Codes: engine.failed, other.memory.
    Status (*run)(void* self, Scope& scope, View<Tensor> feeds, Results& out) = nullptr;
    // Free the memory. No thread runs it any more.
    void (*close)(void* self) = nullptr;
};

}  // namespace ldm::engines

#endif
