// Verification: a package beside the reference that it carries.
#include "src/api/handles.h"

#include "core/codes.h"
#include "src/api/settings.h"
#include "src/verify/gate.h"

using namespace ldm;

struct ldm_report {
    Allocator memory;
    Arena arena;
    verify::Findings findings;

    explicit ldm_report(Allocator given) : memory(given), arena(memory) {}
};

namespace {

Status compare(Scope& scope, ldm_package& package, const ldm_engine_options& options, ldm_report& out) {
    engines::Settings settings;
    LDM_TRY(api::read_settings(scope, options, settings));
    if (options.budget != nullptr || options.variant != nullptr) {
        std::string_view given = options.budget != nullptr ? "budget" : "variant";
        return scope.fail(codes::request_invalid, {"a proof takes no ", given, "; leave it out"});
    }
    return verify::verify(scope, out.arena, *package.opened, package.model, settings, out.findings);
}

}  // namespace

ldm_status ldm_verify(ldm_context* context, const char* folder, const ldm_engine_options* options,
                      ldm_report** report) {
    if (report != nullptr) *report = nullptr;
    ldm_engine_options taken;
    ldm_status status = api::called(context, [&](Scope& scope) {
        if (folder != nullptr && report != nullptr && api::take(options, ldm_engine_options_init, taken))
            return Status();
        return api::misused(scope, {"ldm_verify needs a folder, a place for the report, and options that "
                                    "ldm_engine_options_init began"});
    });
    if (status != LDM_OK) return status;
    ldm_package_options full;
    ldm_package_options_init(&full, sizeof full);
    full.check = LDM_CHECK_FULL;
    ldm_package* package = nullptr;
    status = ldm_package_open(context, folder, &full, &package);
    if (status != LDM_OK) return status;
    ldm_report* made = nullptr;
    status = api::called(context, [&](Scope& scope) {
        made = make<ldm_report>(context->memory, context->memory);
        LDM_NEED(scope, made != nullptr);
        return compare(scope, *package, taken, *made);
    });
    ldm_package_free(package);
    if (status == LDM_OK) {
        *report = made;
    } else {
        ldm_report_free(made);
    }
    return status;
}

void ldm_report_free(ldm_report* report) {
    if (report == nullptr) return;
    Allocator memory = report->memory;
    destroy(memory, report);
}

int32_t ldm_report_passed(const ldm_report* report) { return report != nullptr && report->findings.passed ? 1 : 0; }

const char* ldm_report_table(const ldm_report* report) {
    return report == nullptr ? "" : report->findings.table.data();
}

const char* ldm_report_json(const ldm_report* report) { return report == nullptr ? "" : report->findings.json.data(); }

const char* ldm_report_failure(const ldm_report* report, size_t index) {
    bool is_there = report != nullptr && index < report->findings.failures.size;
    return is_there ? report->findings.failures[index].data() : nullptr;
}
