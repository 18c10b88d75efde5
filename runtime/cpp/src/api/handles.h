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
#include "src/package/open.h"

struct ldm_context {
    ldm::Allocator memory;
    ldm::Failure failure;
    ldm_context_options options;
    ldm::Array<char> text;  // of the last ldm_plan_json

    ldm_context(ldm::Allocator given, const ldm_context_options& its) : memory(given), options(its), text(memory) {}
    ldm::Scope scope() { return {memory, failure}; }
};

struct ldm_package {
    ldm::Allocator memory;
    ldm::Arena arena;
    ldm::package::Package* opened = nullptr;  // null: it was given as text
    ldm::Manifest parsed;
    char identity[65] = {0};  // SHA-256 of manifest.json
    ldm::Model model;

    explicit ldm_package(ldm::Allocator given) : memory(given), arena(memory) {}
    ~ldm_package() { ldm::destroy(memory, opened); }
};

struct ldm_run {
    ldm::Allocator memory;
    ldm::Run run;
    std::atomic<bool> is_cancelled{false};
    ldm_tensor inputs[16], outputs[2];  // of the last task
    ldm::Arena facts;                   // what ldm_run_metadata told

    ldm_run(ldm::Allocator given, const ldm::Model& model) : memory(given), run(memory, model), facts(memory) {}
};

namespace ldm::api {

// The kind of failure that a code is of.
ldm_status status_of(const char* code);

// End a call: LDM_OK, or the failure that the context has.
ldm_status ended(Status status);

// Refuse a call that is wrong in itself.
Status misused(Scope& scope, std::initializer_list<Piece> sentence);

// Copy what a caller filled into a structure of this library's version. False for a struct_size of no version.
template <typename T>
bool take(const T* given, void (*init)(T*, size_t), T& out) {
    init(&out, sizeof out);
    if (given == nullptr) return true;
    if (given->struct_size < sizeof(size_t) || given->struct_size > sizeof out) return false;
    std::memcpy(static_cast<void*>(&out), given, given->struct_size);
    return true;
}

// Write a structure that is the caller's, whose struct_size says how much of it there is.
template <typename T>
bool hand_out(T value, T* out) {
    if (out == nullptr || out->struct_size < sizeof(size_t) || out->struct_size > sizeof value) return false;
    value.struct_size = out->struct_size;
    std::memcpy(static_cast<void*>(out), &value, out->struct_size);
    return true;
}

// Begin a structure: all zero but what `fill` sets.
template <typename T, typename Fill>
void begin(T* out, size_t struct_size, Fill fill) {
    if (out == nullptr || struct_size < sizeof(size_t)) return;
    T value;
    std::memset(static_cast<void*>(&value), 0, sizeof value);
    fill(value);
    value.struct_size = struct_size;
    size_t size = struct_size < sizeof value ? struct_size : sizeof value;
    if (struct_size > sizeof value) std::memset(reinterpret_cast<char*>(out) + size, 0, struct_size - size);
    std::memcpy(static_cast<void*>(out), &value, size);
}

}  // namespace ldm::api

#endif
