#include "src/verify/reference.h"

#include "core/codes.h"
#include "core/package/contract_fields.h"
#include "src/package/advice.h"
#include "src/verify/report_fields.h"

namespace ldm::verify {

namespace {

constexpr std::int64_t reference_version = 3;
constexpr std::string_view metadata_key = "reference";

}  // namespace

struct CaseHeader {
    std::string_view component, name;
    double tolerance = 0.0;
    View<std::string_view> inputs, outputs;
};

struct ReferenceHeader {
    std::int64_t schema_version = 0;
    ComputedWith facts;
    View<std::string_view> prompts;
    View<CaseHeader> cases;
    SamplingRun trajectory;
};

template <typename Visitor>
void fields(Visitor& visit, ComputedWith& it) {
    visit("latent", it.latent);
    visit("schedule", it.schedule);
    visit("defaults", it.defaults);
    visit("tokenizers", it.tokenizers);
}

template <typename Visitor>
void fields(Visitor& visit, CaseHeader& it) {
    visit("component", it.component);
    visit("name", it.name);
    visit("tolerance", it.tolerance);
    visit("inputs", it.inputs);
    visit("outputs", it.outputs);
}

template <typename Visitor>
void fields(Visitor& visit, ReferenceHeader& it) {
    visit("schema_version", it.schema_version);
    visit("facts", it.facts);
    visit("prompts", it.prompts);
    visit("cases", it.cases);
    visit("trajectory", it.trajectory);
}

Status Reference::open(Scope& scope, const package::Package& package) {
    files::Path path;
    LDM_TRY(package.file(scope, reference_name, path));
    return package::advise(scope, open(scope, path));
}

Status Reference::open(Scope& scope, const files::Path& path) {
    ReferenceHeader header;
    LDM_TRY(read_header(scope, path, header));
    facts_ = header.facts;
    prompts_ = header.prompts;
    run_ = header.trajectory;
    LDM_TRY(take_tensors(scope, header));
    LDM_TRY(file_.require_none_left(scope));
    return check(scope);
}

Status Reference::read_header(Scope& scope, const files::Path& path, ReferenceHeader& out) {
    json::Value value;
    LDM_TRY(file_.open(scope, path, metadata_key, "a reference", value));
    const json::Value* version = value.find("schema_version");
    if (version == nullptr || version->kind != json::Kind::integer || version->integer != reference_version) {
        return refuse(scope, {" has schema_version ", version == nullptr ? Piece("null") : json::shown(*version),
                              ", this program reads ", reference_version, "; build the package again"});
    }
    json::Reader reader{scope, file_.arena()};
    return json::read(reader, value, json::Where(file_.metadata_place()), out);
}

// ---- The tensors of the cases ----

Status Reference::take_all(Scope& scope, const CaseHeader& header, std::string_view kind, View<std::string_view> names,
                           View<Stored>& out) {
    auto* stored = file_.arena().make<Stored>(names.size);
    LDM_NEED(scope, stored != nullptr);
    for (std::size_t index = 0; index < names.size; ++index) {
        LDM_TRY(file_.take(scope, {header.component, "/", header.name, kind, names[index]}, names[index],
                           stored[index]));
    }
    out = {stored, names.size};
    return Status();
}

Status Reference::take_tensors(Scope& scope, const ReferenceHeader& header) {
    auto* cases = file_.arena().make<Case>(header.cases.size);
    auto* tokens = file_.arena().make<Stored>(facts_.tokenizers.size());
    LDM_NEED(scope, cases != nullptr && tokens != nullptr);
    for (std::size_t index = 0; index < header.cases.size; ++index) {
        const CaseHeader& its = header.cases[index];
        cases[index] = {its.component, its.name, its.tolerance, {}, {}};
        LDM_TRY(take_all(scope, its, "/input/", its.inputs, cases[index].inputs));
        LDM_TRY(take_all(scope, its, "/output/", its.outputs, cases[index].outputs));
    }
    cases_ = {cases, header.cases.size};
    LDM_TRY(file_.take(scope, {"trajectory/latents"}, "trajectory/latents", latents_));
    LDM_TRY(file_.take(scope, {"trajectory/image"}, "trajectory/image", image_));
    for (const auto& entry : facts_.tokenizers) {
        LDM_TRY(file_.take(scope, {entry.key, "/tokens"}, entry.key, *tokens++));
    }
    tokens_ = {tokens - facts_.tokenizers.size(), facts_.tokenizers.size()};
    return Status();
}

}  // namespace ldm::verify
