// A context of the C interface and what was made with it, which free themselves.
#ifndef LDM_TESTS_HANDLES_H
#define LDM_TESTS_HANDLES_H

#include "tests/kit.h"

struct Handles {
    ldm_context* context = nullptr;
    ldm_package* package = nullptr;
    ldm_engine* engine = nullptr;
    ldm_run* run = nullptr;

    Handles() = default;
    ~Handles() {
        ldm_run_free(run);
        ldm_engine_free(engine);
        ldm_package_free(package);
        ldm_context_free(context);
    }
    Handles(const Handles&) = delete;
    Handles& operator=(const Handles&) = delete;

    // Open the kit's package in a new context; options may be null.
    bool open(const ldm_context_options* context_options, const ldm_package_options* package_options) {
        bool is_open = ldm_context_create(context_options, &context) == LDM_OK &&
                       ldm_package_open(context, golden_path("package").c_str(), package_options, &package) == LDM_OK;
        return told(is_open);
    }
    // Open the engine; options may be null.
    bool start(const ldm_engine_options* options) {
        return told(ldm_engine_open(context, package, options, &engine) == LDM_OK);
    }
    bool begin(const ldm_run_options& options) {
        return told(ldm_run_create(context, package, &options, &run) == LDM_OK);
    }
    ldm_status draw() { return ldm_engine_draw(context, engine, run); }
    void free_run() {
        ldm_run_free(run);
        run = nullptr;
    }
    void free_engine() {
        ldm_engine_free(engine);
        engine = nullptr;
    }
    bool says_misuse() const { return std::strcmp(ldm_error_code(context), "other.misuse") == 0; }

private:
    bool told(bool holds) const {
        if (!holds) std::fprintf(stderr, "  %s\n", ldm_error_text(context));
        return holds;
    }
};

// Options of a context that hands what it tells to a function.
inline ldm_context_options telling(void (*log)(void*, ldm_log_level, const char*), void* user) {
    ldm_context_options options;
    ldm_context_options_init(&options, sizeof options);
    options.log = log;
    options.user = user;
    return options;
}

inline ldm_engine_options engine_options() {
    ldm_engine_options options;
    ldm_engine_options_init(&options, sizeof options);
    return options;
}

#endif
