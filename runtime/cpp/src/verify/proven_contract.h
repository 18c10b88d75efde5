// The contract that a proof is about, in a form that is compared later. The twin of
// ldm_export/verify/proven_contract.py.
#ifndef LDM_VERIFY_PROVEN_CONTRACT_H
#define LDM_VERIFY_PROVEN_CONTRACT_H

#include "core/package/contract.h"
#include "core/sha256.h"
#include "core/status.h"
#include "src/verify/report.h"

namespace ldm::verify {

// The record of this contract that a proof holds: without the sizes that the proof itself adds to the axes.
Status proven_contract(Scope& scope, Arena& arena, const Contract& contract, ProvenContract& out);

// The SHA-256 of the canonical JSON.
Status digest(Scope& scope, const json::Value& facts, Digest& out);

// A value that differs: its place, and JSON before and now, "absent" where there is none.
struct Change {
    std::string_view name, before, now;
};
Status list_changes(Scope& scope, Arena& arena, const ProvenContract& proven, const ProvenContract& current,
                    Array<Change>& out);

}  // namespace ldm::verify

#endif
