// The one loop over the reference's cases: run a graph, measure the difference, judge it. The twin of
// ldm_export/verify/compare.py.
#ifndef LDM_VERIFY_COMPARE_H
#define LDM_VERIFY_COMPARE_H

#include <optional>

#include "core/status.h"
#include "src/engines/engine.h"
#include "src/verify/metrics.h"
#include "src/verify/reference.h"
#include "src/verify/report.h"

namespace ldm::verify {

// The largest difference from the float32 reference that is still the same model, as ldm_export/precision/table.py has
// it.
struct Tolerance {
    double relative_rms;                // of an output of one evaluation, a case's worst sample
    double latents_floor, image_floor;  // PSNR in dB over a sampling run
};

// Of the relative RMS that was recorded of a lossy form.
inline constexpr double recorded_factor = 1.2;

// That of float32: the loosest, of which each case and each sampling run has its own.
Tolerance exact_tolerance();

// That of a lossy artefact: that of its precision, and no more than was recorded of it allows. None: the reference's
// own holds.
std::optional<Tolerance> lossy_tolerance(const Artefact& artefact);

// The inputs of a case as an engine is fed with them.
class Feeds {
public:
    explicit Feeds(Allocator& memory) : data_(memory), feeds_(memory) {}

    // Once. Codes: file.*, engine.failed for a type that no engine takes.
    Status read(Scope& scope, Reference& reference, const Case& its);
    View<engines::Tensor> view() const { return feeds_.view(); }

private:
    Arena data_;
    Array<engines::Tensor> feeds_;
};

// What an output is judged as. tolerance: of the relative RMS.
struct Judged {
    std::string_view component, artefact, name, output;
    double tolerance;
};

// Judge one output beside what is expected, float32. value: null where there is none. failure: of the evaluation, ""
// for none; in the arena, as what `what` names.
Status judge(Scope& scope, Arena& arena, const Judged& what, const engines::Tensor* value,
             const engines::Tensor& expected, std::string_view failure, Array<CaseResult>& out);

// Whether all numbers of a tensor in float32 are finite.
bool are_finite(const engines::Tensor& tensor);

// The worst figures of the samples of two tensors in float32 and one shape.
Figures compare_tensors(const engines::Tensor& value, const engines::Tensor& expected);

// Run every case of a component and judge it output by output.
Status compare_cases(Scope& scope, Arena& arena, const engines::Engine& engine, Reference& reference,
                     std::string_view component, const Artefact& artefact, Array<CaseResult>& out);

// Add the result of an artefact that fails as a whole.
Status add_uncompared(Scope& scope, Arena& arena, const Reference& reference, std::string_view component,
                      const Artefact& artefact, std::string_view problem, Array<CaseResult>& out);

}  // namespace ldm::verify

#endif
