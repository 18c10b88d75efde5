// A package's facts, compared without running a graph: its contract and its tokens. The twin of
// ldm_export/verify/facts.py.
#ifndef LDM_VERIFY_FACTS_H
#define LDM_VERIFY_FACTS_H

#include "core/run/model.h"
#include "core/status.h"
#include "src/verify/reference.h"
#include "src/verify/report.h"

namespace ldm::verify {

// Compare everything that needs no engine, and name each fact once. proven: the contract of the build's report;
// current: that of the model. Codes: proof.invalid, for a tensor of the reference that the contract does not have;
// those of tokens.
Status compare_facts(Scope& scope, Arena& arena, const Model& model, Reference& reference, const ProvenContract& proven,
                     const ProvenContract& current, Array<FactResult>& out);

}  // namespace ldm::verify

#endif
