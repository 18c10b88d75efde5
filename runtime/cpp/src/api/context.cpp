// Contexts, and what every call begins and ends with.
#include "src/api/handles.h"

#include "core/codes.h"

namespace ldm::api {

ldm_status status_of(const char* code) {
    struct Class {
        std::string_view beginning;
        ldm_status status;
    };
    static constexpr Class classes[] = {
        {"other.memory", LDM_NO_MEMORY}, {"other.misuse", LDM_MISUSE},   {"request.", LDM_BAD_REQUEST},
        {"engine.", LDM_ENGINE_FAILED},  {"result.", LDM_NOT_FINITE},    {"run.", LDM_CANCELLED},
        {"output.", LDM_BAD_OUTPUT},     {"package.", LDM_BAD_PACKAGE},  {"file.", LDM_BAD_PACKAGE},
        {"json.", LDM_BAD_PACKAGE},      {"manifest.", LDM_BAD_PACKAGE}, {"schedule.", LDM_BAD_PACKAGE},
        {"weights.", LDM_BAD_PACKAGE},   {"graph.", LDM_BAD_PACKAGE},    {"plan.", LDM_BAD_PACKAGE},
        {"tokenizer.", LDM_BAD_PACKAGE}, {"proof.", LDM_BAD_PACKAGE},
    };
    std::string_view text(code);
    for (const Class& each : classes) {
        if (text.substr(0, each.beginning.size()) == each.beginning) return each.status;
    }
    return LDM_OTHER;
}

Status misused(Scope& scope, std::initializer_list<Piece> sentence) {
    return scope.fail(codes::other_misuse, sentence);
}

}  // namespace ldm::api

using namespace ldm;

const char* ldm_error_code(const ldm_context* context) {
    return context == nullptr || context->failure.code == nullptr ? "" : context->failure.code;
}

const char* ldm_error_text(const ldm_context* context) { return context == nullptr ? "" : context->failure.text; }

const char* ldm_status_name(ldm_status status) {
    switch (status) {
        case LDM_OK: return "LDM_OK";
        case LDM_MISUSE: return "LDM_MISUSE";
        case LDM_BAD_PACKAGE: return "LDM_BAD_PACKAGE";
        case LDM_BAD_REQUEST: return "LDM_BAD_REQUEST";
        case LDM_ENGINE_FAILED: return "LDM_ENGINE_FAILED";
        case LDM_NOT_FINITE: return "LDM_NOT_FINITE";
        case LDM_CANCELLED: return "LDM_CANCELLED";
        case LDM_BAD_OUTPUT: return "LDM_BAD_OUTPUT";
        case LDM_NO_MEMORY: return "LDM_NO_MEMORY";
        case LDM_OTHER: return "LDM_OTHER";
    }
    return "unknown status";
}

void ldm_context_options_init(ldm_context_options* options, size_t struct_size) {
    api::begin(options, struct_size, [](ldm_context_options&) {});
}

ldm_status ldm_context_create(const ldm_context_options* options, ldm_context** context) {
    if (context == nullptr) return LDM_MISUSE;
    *context = nullptr;
    ldm_context_options taken;
    if (!api::take(options, ldm_context_options_init, taken)) return LDM_MISUSE;
    if ((taken.allocate == nullptr) != (taken.release == nullptr)) return LDM_MISUSE;
    Allocator memory = taken.allocate == nullptr ? system_allocator()
                                                 : Allocator{taken.allocate, taken.release, taken.memory_user};
    *context = make<ldm_context>(memory, memory, taken);
    return *context == nullptr ? LDM_NO_MEMORY : LDM_OK;
}

void ldm_context_free(ldm_context* context) {
    if (context == nullptr) return;
    Allocator memory = context->memory;
    destroy(memory, context);
}
