// ONNX Runtime's execution providers by the names they have here, and what each needs of a machine. The same table as
// in the Python runtime. https://onnxruntime.ai/docs/execution-providers
#ifndef LDM_ENGINES_ONNXRUNTIME_PROVIDERS_H
#define LDM_ENGINES_ONNXRUNTIME_PROVIDERS_H

#include <string_view>

#include "core/memory.h"
#include "core/status.h"
#include "src/engines/onnxruntime/library.h"

namespace ldm::ort {

// Options by name; both lists have `count` entries.
struct Options {
    const char* const* keys = nullptr;
    const char* const* values = nullptr;
    std::size_t count = 0;

    const char* find(std::string_view key) const;  // null: not given
};

enum class Append { generic, cuda, tensorrt };  // by which function a built-in one is added

struct Provider {
    std::string_view name;         // as in "ort:cuda"
    const char* ort_name;          // ONNX Runtime's
    const char* short_name;        // by which the generic function knows it
    Append append = Append::generic;
    bool needs_nvidia_gpu = false;
    bool may_be_plugin = false;
    bool takes_turns = false;      // one session runs for one thread at a time
    const char* default_key = nullptr;  // an option that keeps the arithmetic float32
    const char* default_value = nullptr;
};

// The provider of a name: one of ours, or ONNX Runtime's own. "cpu" and "" are null, which is the CPU's. Code:
// request.engine.
Status find_provider(Scope& scope, std::string_view name, const Provider*& out);

// Make a provider the first choice of a session. A plugin that is not built in takes two options of ours: `library`,
// the path of its shared library, and `device`, "CPU", "GPU" or "NPU". Codes: engine.unavailable, engine.failed,
// request.engine, other.memory.
Status append_provider(Scope& scope, Library& library, const Provider& provider, const Options& options,
                       OrtSessionOptions* session_options);

}  // namespace ldm::ort

#endif
