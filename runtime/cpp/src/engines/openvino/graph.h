// One graph that OpenVINO has compiled, by its plugin.
#ifndef LDM_ENGINES_OPENVINO_GRAPH_H
#define LDM_ENGINES_OPENVINO_GRAPH_H

#include <optional>
#include <string_view>

#include "core/memory.h"
#include "core/package/artefacts.h"
#include "core/status.h"
#include "src/engines/engine.h"
#include "src/engines/openvino/plugin.h"
#include "src/package/open.h"

namespace ldm::openvino {

struct GraphSettings {
    const char* device = "CPU";  // by OpenVINO's name
    const char* const* keys = nullptr;  // OpenVINO's own properties
    const char* const* values = nullptr;
    std::size_t option_count = 0;
    std::int64_t threads = 0;  // of one operator, on the CPU; 0 leaves the choice to OpenVINO
    std::optional<Precision> precision;  // that it computes in; none: float32
};

// Compile an artefact of a component: of OpenVINO's own format, or ONNX. memory: of the
// engine. plugin and package must outlive it. Codes: engine.unavailable, engine.failed, graph.signature, file.*.
Status open_graph(Scope& scope, Allocator& memory, const Plugin& plugin, const package::Package& package,
                  std::string_view component, const Artefact& artefact, const GraphSettings& settings,
                  engines::Engine& out);

}  // namespace ldm::openvino

#endif
