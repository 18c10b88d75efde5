// A graph that OpenVINO has compiled. What it calls throws.
#ifndef LDM_PLUGINS_OPENVINO_GRAPH_H
#define LDM_PLUGINS_OPENVINO_GRAPH_H

#include <mutex>
#include <openvino/runtime/core.hpp>
#include <stdexcept>
#include <string>
#include <vector>

#include "src/engines/plugin.h"

namespace ldm::openvino {

// This machine lacks something; a whole sentence.
class Unavailable : public std::runtime_error {
public:
    using std::runtime_error::runtime_error;
};

class Graph {
public:
    explicit Graph(const ldm_plugin_options& options);

    const std::vector<ldm_plugin_port>& ports(bool are_outputs) const { return are_outputs ? outputs_ : inputs_; }
    const char* precision() const { return precision_.c_str(); }
    // Threads may run it at the same time: each takes an infer request, and hands it back.
    void run(const ldm_plugin_tensor* inputs, size_t input_count, int32_t (*give)(void*, const ldm_plugin_tensor*),
             void* user);

private:
    ov::InferRequest take_request();

    ov::CompiledModel compiled_;
    std::string precision_;
    std::vector<std::string> names_;  // of the ports
    std::vector<ldm_plugin_port> inputs_, outputs_;
    std::mutex turn_;
    std::vector<ov::InferRequest> idle_;
};

}  // namespace ldm::openvino

#endif
