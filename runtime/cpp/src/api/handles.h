// What the opaque handles of the C interface are.
#ifndef LDM_API_HANDLES_H
#define LDM_API_HANDLES_H

#include <atomic>

#include "core/memory.h"
#include "core/run/metadata.h"
#include "core/run/model.h"
#include "core/run/run.h"
#include "core/status.h"
#include "include/ldm_runtime.h"
#include "src/api/structs.h"

namespace ldm::package {

class Package;  // src/package/open.h: what knows no files knows no opened package

}  // namespace ldm::package

struct ldm_context {
    ldm::Allocator memory;
    ldm::Failure failure;
    ldm_context_options options;
    ldm::Array<char> plan, description;  // of the last ldm_plan_json and ldm_package_describe

    ldm_context(ldm::Allocator given, const ldm_context_options& its)
        : memory(given), options(its), plan(memory), description(memory) {}
    ldm::Scope scope() { return {memory, failure, {options.log == nullptr ? nullptr : log_detail, this}}; }

private:
    static void log_detail(void* context, const char* sentence) {
        const ldm_context_options& its = static_cast<ldm_context*>(context)->options;
        its.log(its.user, LDM_LOG_DETAIL, sentence);
    }
};

struct ldm_package {
    ldm::Allocator memory;
    ldm::Arena arena;
    ldm::package::Package* opened = nullptr;  // null: it was given as text
    void (*close)(ldm_package& its) = nullptr;  // what frees `opened`
    ldm::Manifest parsed;
    char identity[65] = {0};  // SHA-256 of manifest.json
    ldm::Model model;

    explicit ldm_package(ldm::Allocator given) : memory(given), arena(memory) {}
    ~ldm_package() {
        if (close != nullptr) close(*this);
    }

    std::string_view keep(std::string_view its_identity) {
        std::memcpy(identity, its_identity.data(), sizeof identity - 1);
        return {identity, sizeof identity - 1};
    }
};

struct ldm_run {
    ldm::Allocator memory;
    const ldm_package* package;
    ldm::Run run;
    std::atomic<bool> is_cancelled{false};
    ldm_tensor inputs[ldm::Run::most_inputs], outputs[LDM_MOST_OUTPUTS];  // of the last task
    ldm::Arena facts;                   // what ldm_run_metadata told

    ldm_run(ldm::Allocator given, const ldm_package* its)
        : memory(given), package(its), run(memory, its->model), facts(memory) {}
};

namespace ldm::api {

// The kind of failure that a code is of.
ldm_status status_of(const char* code);

// Refuse a call that is wrong in itself.
Status misused(Scope& scope, std::initializer_list<Piece> sentence);

// Where every call that may fail begins and ends: the context's failure is of this call alone. work: Status(Scope&).
template <typename Work>
ldm_status called(ldm_context* context, Work work) {
    if (context == nullptr) return LDM_MISUSE;
    context->failure.clear();
    Scope scope = context->scope();
    Status status = work(scope);
    if (status.ok()) context->failure.clear();  // of a call within the context's own progress function
    return status.ok() ? LDM_OK : status_of(status.code());
}

// Make a package, and fill it with work(scope, package).
template <typename Work>
Status make_package(Scope& scope, ldm_package*& out, Work work) {
    auto* made = make<ldm_package>(scope.memory, scope.memory);
    LDM_NEED(scope, made != nullptr);
    Status status = work(*made);
    if (status.ok()) {
        out = made;
    } else {
        ldm_package_free(made);
    }
    return status;
}

// Refuse the number of an image that the run does not draw.
Status require_image(Scope& scope, const ldm_run& run, size_t image);

// Refuse to take on a run that was cancelled. One that is over stays as it is.
Status require_going(Scope& scope, const ldm_run& run);

// Begin a call on a run, which refuses what is wrong with the call itself. needs: the sentence for an argument that is
// NULL. work: Status(Scope&).
template <typename Work>
ldm_status called(ldm_context* context, const ldm_run* run, bool has_all, const char* needs, Work work) {
    return called(context, [&](Scope& scope) {
        if (run == nullptr || !has_all) return misused(scope, {needs});
        return work(scope);
    });
}

// Tell the user something beside the result.
inline void log(const ldm_context& context, ldm_log_level level, std::string_view text) {  // text ends with a NUL
    if (context.options.log != nullptr) context.options.log(context.options.user, level, text.data());
}

}  // namespace ldm::api

#endif
