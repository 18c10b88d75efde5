// The verbs, a file for each, and what several of them share.
#ifndef LDM_TOOL_VERBS_H
#define LDM_TOOL_VERBS_H

#include <string>
#include <vector>

#include "ldm_runtime.hpp"
#include "src/tool/arguments.h"

namespace ldm::tool {

extern const Verb run_verb, inspect_verb, plan_verb, verify_verb;

template <std::size_t N>
constexpr Verb verb(std::string_view name, std::string_view help, std::string_view example, const Option (&options)[N],
                    int (*run)(Arguments&)) {
    return {name, help, example, options, N, run};
}

// Options that choose the engine.
inline constexpr Option engine_option{"--engine", "NAME", "ort (ONNX Runtime) or openvino (ort)"};
inline constexpr Option provider_option{
    "--provider", "NAME",
    "ONNX Runtime's execution provider, such as CUDAExecutionProvider, or OpenVINO's device (cpu)"};
inline constexpr Option provider_options_option{"--provider-option", "NAME=VALUE",
                                                "the provider's own option (repeatable)"};
inline constexpr Option threads_option{"--threads", "INTEGER", "CPU threads of an operator (the engine's choice)"};
inline constexpr Option map_weights_option{"--map-weights", "",
                                           "start sooner, in less memory; steps take longer (for one small image)"};
inline constexpr Option no_map_weights_option{"--no-map-weights", "", "copy weights into what the kernels like best"};
inline constexpr Option library_option{
    "--library", "PATH", "ONNX Runtime's shared library, 1.20 or newer ($LDM_ONNXRUNTIME), or OpenVINO's plugin"};
inline constexpr Option budget_option{
    "--budget", "BUDGET", "draw faster, within exact, psnr=DB or ssim=SHARE of the exact image (exact)"};
inline constexpr Option exact_option{"--exact", "", "the same as --budget exact"};
inline constexpr Option variant_option{"--variant", "NAME", "draw with a variant of the package by its name"};
inline constexpr Option check_option{"--check", "cached|full|size",
                                     "hashes once per file, hashes now, or sizes only (cached)"};

// How the engine is chosen, and what the options point at.
class EngineChoice {
public:
    bool read(Arguments& arguments);
    const EngineOptions& options() const { return options_; }
    bool may_be_lossy() const { return options_->variant != nullptr || options_->budget != nullptr; }
    // Say whether the weights are mapped where the command line does not.
    void map_weights(bool is_better) { options_->maps_weights = is_told_ ? options_->maps_weights : is_better; }

private:
    EngineOptions options_;
    bool is_told_ = false;  // whether weights are mapped
    std::vector<std::string> names_;
    std::vector<const char*> keys_, values_;
};

bool read_check(Arguments& arguments, PackageOptions& options);

}  // namespace ldm::tool

#endif
