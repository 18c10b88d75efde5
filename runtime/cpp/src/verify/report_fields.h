// The fields of a report's structs, in the order in which they are written.
#ifndef LDM_VERIFY_REPORT_FIELDS_H
#define LDM_VERIFY_REPORT_FIELDS_H

#include "src/verify/report.h"

namespace ldm::verify {

template <typename Visitor>
void fields(Visitor& visit, FactResult& it) {
    visit("name", it.name);
    visit("expected", it.expected);
    visit("found", it.found);
    visit("passed", it.passed);
}

template <typename Visitor>
void fields(Visitor& visit, CaseResult& it) {
    visit("component", it.component);
    visit("artefact", it.artefact);
    visit("case", it.name);
    visit("output", it.output);
    visit("shape", it.shape);
    visit("relative_rms", it.relative_rms);
    visit("max_abs", it.max_abs);
    visit("psnr", it.psnr);
    visit("tolerance", it.tolerance);
    visit("problem", it.problem);
    visit("passed", it.passed);
}

template <typename Visitor>
void fields(Visitor& visit, StepResult& it) {
    visit("index", it.index);
    visit("timestep", it.timestep);
    visit("relative_rms", it.relative_rms);
    visit("psnr", it.psnr);
}

template <typename Visitor>
void fields(Visitor& visit, SamplingRun& it) {
    visit("prompt", it.prompt);
    visit("negative", it.negative);
    visit("seed", it.seed);
    visit("sampler", it.sampler);
    visit("steps", it.steps);
    visit("guidance", it.guidance);
    visit("size", it.size);
    visit("timesteps", it.timesteps);
    visit("latents_floor", it.latents_floor);
    visit("image_floor", it.image_floor);
}

template <typename Visitor>
void fields(Visitor& visit, TrajectoryResult& it) {
    fields(visit, it.run);
    visit("drift", it.drift);
    visit("image_psnr", it.image_psnr);
    visit("image_ssim", it.image_ssim);
    visit("image_max_levels", it.image_max_levels);
    visit("problem", it.problem);
    visit("passed", it.passed);
}

template <typename Visitor>
void fields(Visitor& visit, VariantResult& it) {
    visit("name", it.name);
    visit("left_out", it.left_out);
    visit("facts", it.facts);
    visit("cases", it.cases);
    visit("image_psnr", it.image_psnr);
    visit("image_ssim", it.image_ssim);
    visit("image_floor", it.image_floor);
    visit("problem", it.problem);
    visit("passed", it.passed);
}

template <typename Visitor>
void fields(Visitor& visit, ProvenContract& it) {
    visit("sha256", it.sha256);
    visit("facts", it.facts);
}

template <typename Visitor>
void fields(Visitor& visit, Report& it) {
    visit("schema_version", it.schema_version);
    visit("package", it.package);
    visit("engine", it.engine);
    visit("passed", it.passed);
    visit("facts", it.facts);
    visit("cases", it.cases);
    visit("trajectory", it.trajectory);
    visit("artefacts", it.artefacts);
    visit("contract", it.contract);
    visit.optional("variants", it.variants);
}

}  // namespace ldm::verify

#endif
