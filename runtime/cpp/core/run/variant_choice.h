// Which variant of a package draws: the fastest that is within a budget and runs on this machine, or one by its name.
// The twin of the Python runtime's variants.py.
#ifndef LDM_CORE_RUN_VARIANT_CHOICE_H
#define LDM_CORE_RUN_VARIANT_CHOICE_H

#include <string_view>

#include "core/notices.h"
#include "core/package/budget.h"
#include "core/package/manifest.h"
#include "core/run/request.h"
#include "core/status.h"

namespace ldm {

// What variants need of a machine. Reasons are half sentences.
class VariantHost {
public:
    // The engine that the user chose by its name, such as "ort"; "": any may run.
    virtual std::string_view chosen_engine() = 0;
    virtual bool knows_engine(std::string_view name) = 0;
    // Whether something is missing to run an engine here.
    virtual bool misses(std::string_view engine, Failure& reason) = 0;
    // Whether this host's library has parts for an engine to compute in a precision that is not the artefact's.
    virtual bool computes_in(std::string_view engine, Precision precision, Failure& reason) = 0;
    virtual bool has_unit(std::string_view name) = 0;  // of the CPU, such as "avx512_bf16"

protected:
    ~VariantHost() = default;
};

// A variant that did not open, and why.
struct FailedVariant {
    const Variant* variant = nullptr;
    std::string_view reason;
};

// Choose the fastest variant within a budget that can run, by the times of the machine that built the package; null: it
// is drawn exactly. Notices tell what draws and how far it may be from the exact image, and what is left out and why.
// failed: those that were tried before.
Status choose_variant(Scope& scope, const Manifest& manifest, const Budget& budget, VariantHost& host,
                      View<FailedVariant> failed, Notices& notices, const Variant*& out);

// The variant of a name. Codes: request.invalid, also where it is not within the budget; engine.unavailable.
Status named_variant(Scope& scope, const Manifest& manifest, std::string_view name, const Budget& budget,
                     VariantHost& host, Notices& notices, const Variant*& out);

// The variant of a name, whatever the machine has. Code: request.invalid.
Status require_variant(Scope& scope, const Manifest& manifest, std::string_view name, const Variant*& out);

// The first reason why a variant cannot run here. False: there is none.
bool cannot_run(const Manifest& manifest, const Variant& variant, VariantHost& host, Failure& reason);

// Say that a CPU has none of some units that `what` needs.
void say_missing_units(std::string_view what, std::initializer_list<std::string_view> any_of, VariantHost& host,
                       Failure& reason);

// Add a notice where a run has other settings than those that the error of its variant was measured at.
Status note_measured_otherwise(Scope& scope, const Request& request, Notices& notices);

}  // namespace ldm

#endif
