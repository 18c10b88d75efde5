// One ONNX file in one session of ONNX Runtime, on the CPU or with one of its other execution providers.
#ifndef LDM_ENGINES_ONNXRUNTIME_SESSION_H
#define LDM_ENGINES_ONNXRUNTIME_SESSION_H

#include <mutex>

#include "core/memory.h"
#include "core/status.h"
#include "src/engines/engine.h"
#include "src/engines/onnxruntime/library.h"
#include "src/engines/onnxruntime/providers.h"
#include "src/files/path.h"

namespace ldm::ort {

struct SessionSettings {
    const Provider* provider = nullptr;  // null: the CPU's
    Options options;                     // the provider's, by its own names
    std::int64_t threads = 0;            // of one operator; 0 leaves the choice to ONNX Runtime
    // true copies the weights into the layouts that the kernels like best; false maps them from disk and leaves them
    // there, and what is in half precision is widened where a run reads it.
    bool reorders = true;
    // Matrix products in bfloat16, for which it has kernels on ARM under Linux alone. It needs `reorders`.
    bool is_bfloat16 = false;
    // Products whose weights alone are in few bits are computed in float32.
    bool has_narrow_weights = false;
    // Sums of integers are whole where a CPU without VNNI would cut those of two products at 16 bits.
    bool has_whole_sums = false;
};

// Open a session as an engine, which keeps its memory in `memory`. library must outlive it. path: of the ONNX file; its
// weights lie beside it. Codes: engine.unavailable, engine.failed, graph.signature, request.engine.
Status open_session(Scope& scope, Allocator& memory, Library& library, const files::Path& path,
                    const SessionSettings& settings, engines::Engine& out);

}  // namespace ldm::ort

#endif
