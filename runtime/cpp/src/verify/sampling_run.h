// A whole sampling run of a package against the reference's: the drift of the latents, and the image at the end. The
// twin of ldm_export/verify/sampling_run.py.
#ifndef LDM_VERIFY_SAMPLING_RUN_H
#define LDM_VERIFY_SAMPLING_RUN_H

#include "core/run/model.h"
#include "core/status.h"
#include "src/engines/components.h"
#include "src/verify/reference.h"
#include "src/verify/report.h"

namespace ldm::verify {

// Sample as a user does, with the package's own defaults, from the same seed. What goes wrong in the run is in `out`.
Status compare_run(Scope& scope, Arena& arena, const Model& model, engines::Components& components,
                   Reference& reference, TrajectoryResult& out);

}  // namespace ldm::verify

#endif
