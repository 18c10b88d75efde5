// Variants of a package: faster ways to draw, each with the error that was measured of it.
#ifndef LDM_CORE_PACKAGE_VARIANTS_H
#define LDM_CORE_PACKAGE_VARIANTS_H

#include <cstdint>
#include <optional>
#include <string_view>

#include "core/json/fields.h"
#include "core/memory.h"
#include "core/package/artefacts.h"
#include "core/status.h"

namespace ldm {

// What a component runs as.
struct Way {
    std::string_view engine;  // such as "openvino" or "ort:cuda"; this runtime may not have it
    std::string_view artefact;
    Precision precision = Precision::fp32;  // that the engine computes in
    View<std::string_view> units;           // of the CPU, such as "avx512_bf16"; all that it cannot do without
};

// What most of the denoiser makes is kept for a few rows of the plan.
struct Caching {
    std::int64_t interval = 0;     // rows from one whole evaluation to the next
    std::string_view keeps, reads;  // artefacts: of a whole evaluation, which also gives what is kept; of the others
};

// Defaults of a run with the variant; none: the package's own.
struct VariantRun {
    std::optional<Caching> caching;
    double guidance_until = 1.0;  // the run's share with guidance
    std::optional<std::int64_t> steps;
    std::optional<std::string_view> sampler;
};

struct MeasuredPrompts {
    std::string_view sha256;  // of their lines
    std::int64_t count = 0;
};

// A list of two whole numbers.
struct IntegerPair {
    std::int64_t first = 0, second = 0;
};

// The difference of a variant's runs from the exact ones, from the same noise; and what it was measured with.
struct MeasuredError {
    json::Map<Difference> components;  // of one evaluation
    View<double> latents;              // relative RMS after each evaluation of a run, of the worst
    std::optional<double> psnr;        // of the images as bytes, of the worst, in dB; none: all are equal
    double ssim = 0.0;
    std::int64_t worst = 0;  // the place of its prompt
    MeasuredPrompts prompts;
    IntegerPair seeds;  // the first and the last
    std::int64_t steps = 0;
    std::string_view sampler;
    double guidance = 0.0;
    IntegerPair size;  // width, height
    View<std::string_view> units;
    json::Map<std::string_view> versions;  // of what computed
};

// A lossy way to draw.
struct Variant {
    std::string_view name;
    View<std::string_view> methods;  // what makes it lossy, such as "int8"
    json::Map<Way> ways;             // by component
    VariantRun run;
    MeasuredError error;
    double time = 0.0;       // of a run, in that of the exact one where it was built
    std::int64_t bytes = 0;  // of the files that only it needs
};

// The precision that an engine is asked to compute an artefact in; none: the artefact's own.
std::optional<Precision> asked_precision(const Way& way, const Artefact& artefact);

// Whether a variant runs an artefact of a component. denoiser: the component that caching is about.
bool uses(const Variant& variant, std::string_view component, std::string_view denoiser, std::string_view artefact);

}  // namespace ldm

#endif
