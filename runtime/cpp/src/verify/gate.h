// The one parity gate: runs a package with the engine that ships and compares it with its torch reference. The twin of
// ldm_export/verify/gate.py. No torch is needed: inputs, outputs and a whole sampling run are in the package's
// reference.
#ifndef LDM_VERIFY_GATE_H
#define LDM_VERIFY_GATE_H

#include <string_view>

#include "core/run/model.h"
#include "core/status.h"
#include "src/engines/components.h"
#include "src/verify/report.h"

namespace ldm::verify {

// The texts of a report; they are in the arena that it was made in.
struct Findings {
    bool passed = false;
    std::string_view table, json;
    View<std::string_view> failures;
};

// Compare every graph, the facts and a sampling run of an opened package with its reference, and the contract with the
// proven one; each stage is told before it begins. The package is only read. Codes: proof.invalid, and those of
// packages and engines.
Status verify(Scope& scope, Arena& arena, package::Package& package, const Model& model,
              const engines::Settings& settings, Findings& out);

}  // namespace ldm::verify

#endif
