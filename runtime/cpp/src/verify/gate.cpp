#include "src/verify/gate.h"

#include <algorithm>

#include "core/codes.h"
#include "core/text/words.h"
#include "src/verify/compare.h"
#include "src/verify/facts.h"
#include "src/verify/inpainting_probe.h"
#include "src/verify/proven_contract.h"
#include "src/verify/reference.h"
#include "src/verify/sampling_run.h"
#include "src/verify/variant_record.h"
#include "src/verify/variants.h"

namespace ldm::verify {

namespace {

constexpr std::string_view machine =  // as Python's platform.machine() names it
#if defined(__x86_64__) && defined(_WIN32)
    "AMD64";
#elif defined(__x86_64__)
    "x86_64";
#elif defined(__aarch64__) && defined(__linux__)
    "aarch64";
#elif defined(__aarch64__)
    "arm64";
#else
    "another machine";
#endif

class Gate {
public:
    Gate(Scope& scope, Arena& arena, package::Package& package, const Model& model, const engines::Settings& settings)
        : scope_(scope), arena_(arena), package_(package), model_(model), settings_(settings),
          reference_(scope.memory), components_(scope.memory, package), facts_(scope.memory), cases_(scope.memory),
          variants_(scope.memory), files_(scope.memory) {}

    Status compare(Report& out) {
        const Manifest& manifest = package_.manifest();
        if (manifest.files.find(reference_name) == nullptr) {
            return scope_.fail(codes::proof_invalid, {package_.path().view(), " carries no reference to compare with (",
                                                      reference_name, "); build it again"});
        }
        LDM_TRY(components_.start(scope_, settings_));
        scope_.tell("verify", {"hashing the package"});
        LDM_TRY(package_.confirm(scope_));
        Report build;
        ProvenContract current;
        LDM_TRY(recorded(scope_, arena_, package_, build));
        LDM_TRY(proven_contract(scope_, arena_, manifest.contract, current));
        LDM_TRY(reference_.open(scope_, package_));
        LDM_TRY(reference_.require_complete(scope_, manifest.contract));
        LDM_TRY(require_same_probe(scope_, reference_, manifest.contract));
        LDM_TRY(compare_facts(scope_, arena_, model_, reference_, build.contract, current, facts_));
        for (const auto& [name, component] : manifest.components) LDM_TRY(compare_component(name, component));
        scope_.tell("verify", {"sampling run of ", reference_.run().steps, " steps"});
        LDM_TRY(compare_run(scope_, arena_, model_, components_, reference_, out.trajectory.emplace()));
        LDM_TRY(compare_variants(scope_, arena_, package_, model_, settings_, reference_, variants_));
        LDM_TRY(package_.confirm(scope_));  // what was compared is what was hashed
        out.contract = current;
        return finish(out);
    }

private:
    std::string_view engine() const { return components_.engine_name(); }

    Status compare_component(std::string_view name, const Component& component) {
        for (const Artefact& artefact : component.artefacts) {
            if (!is_pickable(package_.manifest(), name, artefact)) {
                scope_.tell("verify", {name, ", ", artefact.name, " left out: no engine picks it by itself"});
                continue;
            }
            if (!components_.runs(artefact)) {
                scope_.tell("verify", {name, ", ", artefact.name, " left out: ", engine(), " does not run it"});
                continue;
            }
            scope_.tell("verify", {name, ", ", artefact.name});
            LDM_TRY(compare_artefact(name, artefact));
        }
        return Status();
    }

    // One that cannot be opened is one failed case.
    Status compare_artefact(std::string_view component, const Artefact& artefact) {
        engines::Engine engine;
        Status status = components_.open_alone(scope_, component, artefact, engine);
        if (!status.ok()) {
            if (status.code() == std::string_view(codes::other_memory)) return status;
            LDM_TRY(add_uncompared(scope_, arena_, reference_, component, artefact, scope_.failure.text, cases_));
            scope_.failure.clear();
            return Status();
        }
        status = compare_cases(scope_, arena_, engine, reference_, component, artefact, cases_);
        engine.close(engine.self);
        for (std::string_view file : artefact.files) LDM_NEED(scope_, files_.push(file));
        return status;
    }

    Status finish(Report& out) {
        const Manifest& manifest = package_.manifest();
        auto passed = [](const auto& result) { return result.passed; };
        out.package = manifest.name;
        LDM_TRY(Words(scope_.memory).add(engine(), " (", machine, ")").keep(scope_, arena_, out.engine));
        LDM_NEED(scope_, arena_.copy(facts_.data(), facts_.size(), out.facts));
        LDM_NEED(scope_, arena_.copy(cases_.data(), cases_.size(), out.cases));
        LDM_NEED(scope_, arena_.copy(variants_.data(), variants_.size(), out.variants));
        out.passed = out.trajectory->passed && std::all_of(facts_.begin(), facts_.end(), passed) &&
                     std::all_of(cases_.begin(), cases_.end(), passed) &&
                     std::all_of(variants_.begin(), variants_.end(), passed);
        for (std::size_t index = 0; index < variants_.size(); ++index) {
            if (!variants_[index].left_out) LDM_TRY(list_files(manifest.variants[index]));
        }
        return list_artefacts(out);
    }

    // Those of a variant that was compared.
    Status list_files(const Variant& variant) {
        const Manifest& manifest = package_.manifest();
        std::string_view record;
        LDM_TRY(record_name(scope_, arena_, variant.name, record));
        if (manifest.files.find(record) != nullptr) LDM_NEED(scope_, files_.push(record));
        for (const auto& [name, component] : manifest.components) {
            for (const Artefact& artefact : component.artefacts) {
                if (!uses(variant, name, manifest.contract.denoiser.component, artefact.name)) continue;
                for (std::string_view file : artefact.files) LDM_NEED(scope_, files_.push(file));
            }
        }
        return Status();
    }

    // The files that it is about, each once, by name.
    Status list_artefacts(Report& out) {
        const Manifest& manifest = package_.manifest();
        for (const TextRole& text : manifest.contract.text) LDM_NEED(scope_, files_.push(text.tokenizer.file));
        LDM_NEED(scope_, files_.push(reference_name));
        std::sort(files_.begin(), files_.end());
        files_.shrink(static_cast<std::size_t>(std::unique(files_.begin(), files_.end()) - files_.begin()));
        auto* entries = arena_.make<json::Entry<std::string_view>>(files_.size());
        LDM_NEED(scope_, entries != nullptr);
        for (std::size_t index = 0; index < files_.size(); ++index) {
            entries[index] = {files_[index], manifest.files.find(files_[index])->sha256};
        }
        out.artefacts.entries = {entries, files_.size()};
        return Status();
    }

    Scope& scope_;
    Arena& arena_;
    package::Package& package_;
    const Model& model_;
    const engines::Settings& settings_;
    Reference reference_;
    engines::Components components_;
    Array<FactResult> facts_;
    Array<CaseResult> cases_;
    Array<VariantResult> variants_;  // in the order of the manifest's
    Array<std::string_view> files_;
};

}  // namespace

Status verify(Scope& scope, Arena& arena, package::Package& package, const Model& model,
              const engines::Settings& settings, Findings& out) {
    Gate gate(scope, arena, package, model, settings);
    Report report;  // of which parts are the gate's
    LDM_TRY(gate.compare(report));
    out.passed = report.passed;
    LDM_TRY(make_table(scope, arena, report, out.table));
    LDM_TRY(make_json(scope, arena, report, out.json));
    return list_failures(scope, arena, report, out.failures);
}

}  // namespace ldm::verify
