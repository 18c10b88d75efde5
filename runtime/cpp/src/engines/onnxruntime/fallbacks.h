// What a provider leaves to the CPU, so that nothing runs there unsaid.
#ifndef LDM_ENGINES_ONNXRUNTIME_FALLBACKS_H
#define LDM_ENGINES_ONNXRUNTIME_FALLBACKS_H

#include <string_view>

#include "core/memory.h"
#include "core/status.h"
#include "src/engines/onnxruntime/library.h"

namespace ldm::ort {

// Tell what `provider` (ONNX Runtime's name) leaves to the CPU, as sentences in the arena. Fails if it leaves
// everything: engine.unavailable.
Status fallbacks(Scope& scope, Arena& arena, const Library& library, const OrtSession* session,
                 std::string_view provider, std::string_view path, View<std::string_view>& out);

}  // namespace ldm::ort

#endif
