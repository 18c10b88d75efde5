// The places of the files that OpenVINO reads and keeps.
#ifndef LDM_ENGINES_OPENVINO_PLACES_H
#define LDM_ENGINES_OPENVINO_PLACES_H

#include "core/memory.h"
#include "core/status.h"
#include "src/engines/openvino/graph.h"
#include "src/files/path.h"
#include "src/package/open.h"

namespace ldm::openvino {

// Make the folder for what is compiled of an artefact's files and settings alone, the same as the Python runtime's: new
// bytes, new files or others get another, as OpenVINO does not notice that they have changed. "" where nothing can be
// kept. Codes: file.*.
Status make_cache_folder(Scope& scope, const package::Package& package, const Artefact& artefact,
                         const GraphSettings& settings, files::Path& out);

// An ONNX graph with plain files as weights, on which OpenVINO insists: hard links in the cache folder in place of
// symbolic ones. They are needed only until the graph is loaded.
class PlainGraph {
public:
    explicit PlainGraph(Allocator& memory) : links_(memory) {}
    ~PlainGraph();
    PlainGraph(const PlainGraph&) = delete;
    PlainGraph& operator=(const PlainGraph&) = delete;

    // graph, data: as the package names them, in one folder. Code: engine.unavailable, where they cannot be linked.
    Status make(Scope& scope, const files::Path& graph, View<files::Path> data);

    const files::Path& path() const { return path_; }

private:
    Status link_all(Scope& scope, const files::Path& graph, View<files::Path> data, files::Answer& answer);

    files::Path path_;
    files::Path folder_;  // of the links; "" where there are none
    Array<files::Path> links_;
};

}  // namespace ldm::openvino

#endif
