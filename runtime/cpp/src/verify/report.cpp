#include "src/verify/report.h"

#include <algorithm>
#include <cmath>

#include "core/codes.h"
#include "core/text/words.h"
#include "src/verify/proven_contract.h"
#include "src/verify/report_fields.h"

namespace ldm::verify {

namespace {

constexpr std::size_t max_report_bytes = std::size_t{1} << 24;  // a report has some ten thousand

bool is_whole(const Report& report) {
    auto passed = [](const auto& result) { return result.passed; };
    return std::all_of(report.facts.begin(), report.facts.end(), passed) &&
           std::all_of(report.cases.begin(), report.cases.end(), passed) && report.trajectory &&
           report.trajectory->passed && std::all_of(report.variants.begin(), report.variants.end(), passed);
}

Status check_report(Scope& scope, const Report& report, std::string_view where) {
    if (report.passed != is_whole(report)) {
        return scope.fail(codes::proof_invalid, {where, " contradicts itself: passed is ",
                                                 report.passed ? "true" : "false", "; verify the package again"});
    }
    Digest hash;
    LDM_TRY(digest(scope, *report.contract.facts, hash));
    if (report.contract.sha256 == hash.hex().view()) return Status();
    return scope.fail(codes::proof_invalid, {where, " contradicts itself: its contract has another digest; build the "
                                             "package again"});
}

}  // namespace

std::optional<double> finite_or_none(double figure) {
    return std::isfinite(figure) ? std::optional<double>(figure) : std::nullopt;
}

Status recorded(Scope& scope, Arena& arena, package::Package& package, Report& out) {
    std::string_view name = package.manifest().proof.report;
    files::Path path(package.path(), name);
    Array<char> content(scope.memory);
    LDM_TRY(package.read(scope, name, max_report_bytes, content));
    auto* value = arena.make<json::Value>();
    LDM_NEED(scope, value != nullptr);
    LDM_TRY(json::parse(scope, arena, {content.data(), content.size()}, path.view(), *value));
    const json::Value* version = value->find("schema_version");
    if (value->kind == json::Kind::object &&
        (version == nullptr || version->kind != json::Kind::integer || version->integer != report_version)) {
        return scope.fail(codes::proof_invalid,
                          {path.view(), " has schema_version ",
                           version == nullptr ? Piece("null") : json::shown(*version), ", this program reads ",
                           report_version, ", which records the contract that was proven; build the package again"});
    }
    json::Reader reader{scope, arena};
    LDM_TRY(json::read(reader, *value, json::Where(path.view()), out));
    return check_report(scope, out, path.view());
}

Status make_json(Scope& scope, Arena& arena, const Report& report, std::string_view& out) {
    constexpr json::Style style{true, false, false, 1};  // in ASCII no character commands a terminal
    json::Reader reader{scope, arena};
    json::Value value;
    LDM_TRY(json::plain(reader, report, value));
    return json_text(scope, arena, value, out, style);
}

}  // namespace ldm::verify
