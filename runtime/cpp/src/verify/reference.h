// verify/reference.safetensors: inputs and torch's outputs for them, so that verifying needs no torch. The twin of
// ldm_export/verify/reference_file.py, which describes the file. Nothing of it is trusted, and one tensor at a time is
// read.
#ifndef LDM_VERIFY_REFERENCE_H
#define LDM_VERIFY_REFERENCE_H

#include <cstdint>
#include <string_view>

#include "core/memory.h"
#include "core/package/contract.h"
#include "core/status.h"
#include "src/package/open.h"
#include "src/verify/report.h"
#include "src/verify/tensor_file.h"

namespace ldm::verify {

inline constexpr std::string_view reference_name = "verify/reference.safetensors";  // relative to the package

inline constexpr std::string_view captured_name = "captured";  // how the names of cases begin whose inputs are a run's

// The facts that torch computed with; the manifest's contract must say the same.
struct ComputedWith {
    LatentSpec latent;
    sampling::Schedule schedule;
    Defaults defaults;
    json::Map<TokenizerFacts> tokenizers;  // text encoder -> of its own
};

// One evaluation of one component.
struct Case {
    std::string_view component, name;
    double tolerance = 0.0;  // largest relative RMS of an output of a float32 engine
    View<Stored> inputs, outputs;

    // Whether the inputs are those of a real run; others are drawn.
    bool is_captured() const { return name.substr(0, captured_name.size()) == captured_name; }
};

struct CaseHeader;
struct ReferenceHeader;

class Reference {
public:
    explicit Reference(Allocator& memory) : file_(memory) {}

    // Read the header, and check that the file is whole and that what it holds proves something (reference_rules.cpp).
    // Codes: file.*, json.*, schedule.*, weights.*, proof.invalid.
    Status open(Scope& scope, const package::Package& package);
    Status open(Scope& scope, const files::Path& path);
    // Read a tensor, whose type is none where no engine takes it.
    Status read(Scope& scope, const Stored& stored, Loaded& out) { return file_.read(scope, stored, out); }

    // Fail unless there are cases of every component, with each output that a run reads, and tokens of every text
    // encoder: proof.invalid.
    Status require_complete(Scope& scope, const Contract& contract) const;

    const ComputedWith& facts() const { return facts_; }
    View<std::string_view> prompts() const { return prompts_; }
    View<Case> cases() const { return cases_; }
    const SamplingRun& run() const { return run_; }
    const Stored& latents() const { return latents_; }  // (steps, C, h, w), after each evaluation
    const Stored& image() const { return image_; }      // (3, H, W), around [-1, 1]
    const Stored& tokens(std::size_t encoder) const { return tokens_[encoder]; }  // in the order of facts().tokenizers

private:
    Status read_header(Scope& scope, const files::Path& path, ReferenceHeader& out);
    Status take_all(Scope& scope, const CaseHeader& header, std::string_view kind, View<std::string_view> names,
                    View<Stored>& out);
    Status take_tensors(Scope& scope, const ReferenceHeader& header);
    Status check(Scope& scope);
    Status check_shapes(Scope& scope) const;
    Status check_settings(Scope& scope) const;
    Status check_plan(Scope& scope) const;
    Status check_case(Scope& scope, const Case& its);
    Status check_numbers(Scope& scope, const Stored& stored);
    Status require_outputs(Scope& scope, const Contract& contract, const Case& its) const;
    Status refuse(Scope& scope, std::initializer_list<Piece> what) const { return file_.refuse(scope, what); }

    TensorFile file_;
    ComputedWith facts_;
    View<std::string_view> prompts_;
    View<Case> cases_;
    SamplingRun run_;
    Stored latents_, image_;
    View<Stored> tokens_;
};

}  // namespace ldm::verify

#endif
