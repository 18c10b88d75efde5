// manifest.json: the contract, artefacts, identity, provenance and proof of a package, as plain structs in an arena.
// Names are those of the file, whose values docs/package.md describes.
#ifndef LDM_CORE_PACKAGE_MANIFEST_H
#define LDM_CORE_PACKAGE_MANIFEST_H

#include <cstdint>
#include <optional>
#include <string_view>
#include <utility>

#include "core/json/fields.h"
#include "core/memory.h"
#include "core/package/contract.h"
#include "core/status.h"

namespace ldm {

inline constexpr std::int64_t schema_version = 3;
inline constexpr std::size_t max_manifest_bytes = std::size_t{1} << 24;  // that a host should read
inline constexpr std::string_view canonical_name = "canonical";

enum class Precision { fp32, fp16, bf16 };
enum class Flavour { rtx, classic };                // of TensorRT
enum class PlanOption { refit, weight_stripped };
enum class Exactness { exact, lossy };

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
    std::optional<PlanRequirements> requires_;  // of the machine

    std::string_view file() const { return files[0]; }
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
};

struct FileEntry {
    std::string_view sha256;
    std::int64_t size = 0;
};

struct Source {
    std::string_view name;
    json::Map<std::string_view> sha256;
};

struct Provenance {
    std::string_view family;  // of models, by the exporter's name; a runtime needs the contract alone
    Source source;
    json::Map<std::string_view> tools;
    std::int64_t opset = 0, ir_version = 0;
    json::Map<const json::Value*> recipe;
    std::string_view created_with;
};

struct Proof {
    bool passed = false;
    std::string_view report;
    json::Map<const json::Value*> summary;
};

// `files` lists all files but manifest.json and the reports that `verify` rewrites.
struct Manifest {
    std::int64_t schema_version = 0;
    std::string_view name;
    Contract contract;
    json::Map<Component> components;
    json::Map<FileEntry> files;
    Provenance provenance;
    View<std::string_view> dropped;
    Proof proof;
};

// Read the text of a manifest.json, which is not trusted: whatever this version does not know, or what contradicts
// itself, is refused. All of `out` is in the arena; `where` names the file in sentences. Codes: json.*, manifest.*,
// schedule.invalid.
Status read_manifest(Scope& scope, Arena& arena, std::string_view text, Manifest& out,
                     std::string_view where = "manifest.json");

}  // namespace ldm

#endif
