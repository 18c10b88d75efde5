// Which artefact of a component an engine runs, and what its weights take of memory.
#ifndef LDM_ENGINES_CHOICE_H
#define LDM_ENGINES_CHOICE_H

#include "core/package/manifest.h"
#include "src/package/open.h"

namespace ldm::engines {

// The first artefact of a component that an engine may pick by itself, of a format for an engine; null where none is.
inline const Artefact* find_pickable(const Manifest& manifest, std::string_view component, std::string_view format,
                                     std::string_view engine) {
    for (const Artefact& each : manifest.components.find(component)->artefacts) {
        if (each.format == format && each.engine == engine && is_pickable(manifest, component, each)) return &each;
    }
    return nullptr;
}

// For ONNX Runtime: on the CPU the graph that was fused for it, if there is one; else the canonical one, whose
// operators every provider may have.
inline const Artefact& artefact_for(const Manifest& manifest, std::string_view component, bool on_cpu) {
    const Artefact* fused = on_cpu ? find_pickable(manifest, component, "onnx", "ort_cpu") : nullptr;
    const Artefact* any = find_pickable(manifest, component, "onnx", "any");
    if (fused != nullptr) return *fused;
    return any != nullptr ? *any : manifest.components.find(component)->canonical();
}

// For OpenVINO: its own format, if there is one; else the canonical graph.
inline const Artefact& openvino_artefact_for(const Manifest& manifest, std::string_view component) {
    const Artefact* own = find_pickable(manifest, component, "openvino", "openvino");
    return own != nullptr ? *own : artefact_for(manifest, component, false);
}

// The bytes that a session's weights take: its own, and mapped ones, which the system may drop and read again.
struct WeightMemory {
    std::uint64_t own = 0, mapped = 0;
};

// Above this many weights, prepacking them for the kernels costs more than it saves in 20 steps.
inline constexpr std::uint64_t large_weights = std::uint64_t{1} << 28;

inline WeightMemory weight_memory(const package::Weights& weights, std::uint64_t large = large_weights) {
    constexpr std::uint64_t reordered = 10;  // bytes of a session for each smaller weight: the kernels' own copies
    constexpr std::uint64_t widened =
        4;  // weights of the largest size that a run holds in float32 at once, stored narrower
    if (weights.values <= large) return {reordered * weights.values, 0};
    return {4 * widened * weights.widest_narrow, weights.bytes};
}

}  // namespace ldm::engines

#endif
