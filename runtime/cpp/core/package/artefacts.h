// The forms of a component in a package: its canonical graph, and what was made of that for one engine.
#ifndef LDM_CORE_PACKAGE_ARTEFACTS_H
#define LDM_CORE_PACKAGE_ARTEFACTS_H

#include <cstdint>
#include <optional>
#include <string_view>

#include "core/json/fields.h"
#include "core/memory.h"
#include "core/package/contract.h"

namespace ldm {

inline constexpr std::string_view canonical_name = "canonical";

enum class Precision { fp32, fp16, bf16, int8, int4 };
enum class Flavour { rtx, classic };                // of TensorRT
enum class PlanOption { refit, weight_stripped };
enum class Exactness { exact, lossy };

// Integers are lossy by more than rounding: a variant has the error.
inline bool is_integer(Precision value) { return value == Precision::int8 || value == Precision::int4; }

std::string_view name_of(Precision value);
std::string_view name_of(Flavour value);
std::string_view name_of(PlanOption value);
std::string_view name_of(Exactness value);

// The difference of an artefact or an output from the reference: the worst sample's figures.
struct Difference {
    double relative_rms = 0.0;
    double max_abs = 0.0;
};

// Smallest, preferred and largest size of an axis.
struct Range {
    std::int64_t min = 0, opt = 0, max = 0;
};

// The requirements of a TensorRT plan.
struct PlanRequirements {
    Flavour flavour = Flavour::rtx;
    std::string_view version;                      // TensorRT's
    View<std::string_view> compute_capabilities;   // such as "8.9"; every one that the plan runs on
    View<PlanOption> options;
    std::string_view graph, weights;               // SHA-256 of the canonical files that it was built from
    View<json::Map<Range>> profiles;               // the axes that it was built for
    std::optional<std::int64_t> activation_bytes;  // on the GPU, at the largest sizes, as TensorRT says
    std::optional<std::int64_t> weight_bytes;
};

// One form of a component: its canonical graph, or what was made of that for one engine.
struct Artefact {
    std::string_view name;
    std::string_view format;       // "onnx", "openvino", "tensorrt"
    View<std::string_view> files;  // relative posix paths; the engine opens the first, the others hold the weights
    std::string_view engine;       // what it was made for, or "any"; one that no engine here reads is left alone
    Precision precision = Precision::fp32;
    Exactness exactness = Exactness::exact;
    std::optional<Difference> difference;
    std::optional<PlanRequirements> requires_;    // of the machine
    std::optional<ComponentContract> interface_;  // the graph's inputs and outputs, where they are not the component's
    View<std::string_view> kept;     // nodes that stay in float32 where the others are reduced
    std::optional<double> rescaled;  // what the values between residual blocks were divided by, to stay in range
    std::optional<double> merged;    // the share of an image's tokens that its attention to itself leaves out

    std::string_view file() const { return files[0]; }
    // Lossy by more than rounding, so that a variant has to have its error.
    bool needs_variant() const { return is_integer(precision) || merged.has_value(); }
};

// The place of a tensor of the checkpoint: initialiser = checkpoint.transpose(transpose).
struct KeyEntry {
    std::string_view initialiser;
    std::optional<View<std::int64_t>> transpose;
    std::string_view dtype;  // in the checkpoint, as safetensors names it
};

// A graph of the contract in all its forms. `keys` says which tensor of `weights` holds which parameter.
struct Component {
    std::string_view weights;  // relative posix path of the canonical graph's data file, in safetensors format
    View<Artefact> artefacts;
    json::Map<KeyEntry> keys;

    const Artefact& canonical() const { return artefacts[0]; }  // the ONNX graph that the others are made from

    // The artefact of a name; null where there is none.
    const Artefact* find(std::string_view name) const {
        for (const Artefact& each : artefacts) {
            if (each.name == name) return &each;
        }
        return nullptr;
    }
};

}  // namespace ldm

#endif
