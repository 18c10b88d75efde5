// The gate's part for variants: each is held to the error that was recorded of it. The twin of
// ldm_export/verify/variants.py, which says what is compared with what, and why.
#ifndef LDM_VERIFY_VARIANTS_H
#define LDM_VERIFY_VARIANTS_H

#include "core/memory.h"
#include "core/run/model.h"
#include "core/status.h"
#include "src/engines/components.h"
#include "src/package/open.h"
#include "src/verify/reference.h"
#include "src/verify/report.h"

namespace ldm::verify {

// Compare each variant of a package with engines of its own; one that a run would not draw with here, by these
// settings, is left out. What fails as a whole is in its result. Codes: other.memory, request.engine.
Status compare_variants(Scope& scope, Arena& arena, const package::Package& package, const Model& model,
                        const engines::Settings& settings, Reference& reference, Array<VariantResult>& out);

}  // namespace ldm::verify

#endif
