// The gate's findings, as the report.json of a build holds them and as a table for a terminal. The twin of
// ldm_export/verify/report.py; names are those of the file.
#ifndef LDM_VERIFY_REPORT_H
#define LDM_VERIFY_REPORT_H

#include <cstdint>
#include <optional>
#include <string_view>

#include "core/json/plain.h"
#include "core/memory.h"
#include "core/status.h"
#include "src/package/open.h"

namespace ldm::verify {

inline constexpr std::int64_t report_version = 4;

// One contract field or token list, compared with the proven one or the reference's. expected, found: JSON.
struct FactResult {
    std::string_view name;
    std::string_view expected, found;
    bool passed = false;
};

// One output of one graph for one case; figures are the worst sample's, none where not measurable.
struct CaseResult {
    std::string_view component, artefact, name, output;
    View<std::int64_t> shape;
    std::optional<double> relative_rms, max_abs;
    std::optional<double> psnr;  // dB; none also where nothing differs
    double tolerance = 0.0;      // of relative_rms
    std::optional<std::string_view> problem;  // why the case failed without figures
    bool passed = false;
};

// The latents after one evaluation of the denoiser, engine against torch.
struct StepResult {
    std::int64_t index = 0;
    double timestep = 0.0;
    std::optional<double> relative_rms, psnr;

    // Whether the latents are near enough: equal ones have no PSNR, and neither have those of no scale.
    bool holds(double floor) const { return psnr ? *psnr >= floor : relative_rms == 0.0; }
};

// The settings of one sampling run of one image, and how close another must come to it.
struct SamplingRun {
    std::string_view prompt, negative;
    std::int64_t seed = 0;
    std::string_view sampler;
    std::int64_t steps = 0;
    double guidance = 0.0;
    View<std::int64_t> size;    // width, height in pixels
    View<double> timesteps;
    double latents_floor = 0.0;  // dB: PSNR that the latents must have after every evaluation
    double image_floor = 0.0;    // dB: PSNR of the image, before rounding to bytes
};

struct TrajectoryResult {
    SamplingRun run;  // with the floors that hold for this engine
    View<StepResult> drift;
    std::optional<double> image_psnr;          // dB, before rounding; none where nothing differs, or not measurable
    std::optional<double> image_ssim;          // of the bytes
    std::optional<std::int64_t> image_max_levels;
    std::optional<std::string_view> problem;
    bool passed = false;
};

// A variant beside what was recorded of it, or why it was left out; then nothing was compared.
struct VariantResult {
    std::string_view name;
    std::optional<std::string_view> left_out;
    View<FactResult> facts;  // the variant as the manifest has it
    View<CaseResult> cases;  // of its ways, against torch and, "as recorded", against its own outputs of then
    std::optional<double> image_psnr;  // of the sampling run's image as bytes, beside torch's; none: equal
    std::optional<double> image_ssim, image_floor;
    std::optional<std::string_view> problem;  // why it failed as a whole
    bool passed = false;
};

// A contract and its digest: the SHA-256 of `facts` as canonical JSON.
struct ProvenContract {
    std::string_view sha256;
    const json::Value* facts = nullptr;
};

// Lives in an arena. `artefacts` says which files it is about (path -> SHA-256), `contract` what they keep.
struct Report {
    std::int64_t schema_version = report_version;
    std::string_view package;
    std::string_view engine;
    bool passed = false;
    View<FactResult> facts;
    View<CaseResult> cases;
    std::optional<TrajectoryResult> trajectory;  // none: not reached
    json::Map<std::string_view> artefacts;
    ProvenContract contract;
    View<VariantResult> variants;
};

// What a record holds of a figure: none of an infinite PSNR, where nothing differs.
std::optional<double> finite_or_none(double figure);

// Read the report of the build, which a package carries, strictly. Codes: file.*, json.*, proof.invalid, for one of
// another version or that contradicts itself.
Status recorded(Scope& scope, Arena& arena, package::Package& package, Report& out);

// A sentence per failure, in the order of the checks.
Status list_failures(Scope& scope, Arena& arena, const Report& report, View<std::string_view>& out);

// One line per component and graph, the drift, the verdict. And the whole record as JSON.
Status make_table(Scope& scope, Arena& arena, const Report& report, std::string_view& out);
Status make_json(Scope& scope, Arena& arena, const Report& report, std::string_view& out);

}  // namespace ldm::verify

#endif
