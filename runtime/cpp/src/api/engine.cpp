// Engines: ONNX Runtime or OpenVINO on the components of a package.
#include "src/api/engine.h"

#include <optional>

#include "core/codes.h"
#include "src/api/handles.h"
#include "src/api/settings.h"
#include "src/engines/machine.h"
#include "src/engines/tasks.h"
#include "src/files/reading.h"

using namespace ldm;

namespace {

// Choose the variant that the options ask for. failed: those that did not open.
Status choose(Scope& scope, const package::Package& package, const ldm_engine_options& options,
              View<FailedVariant> failed, Notices& notices, engines::Settings& settings) {
    Budget budget;
    engines::Machine machine(scope, settings);
    const Manifest& manifest = package.manifest();
    if (options.budget != nullptr) LDM_TRY(read_budget(scope, options.budget, budget));
    if (options.budget != nullptr || options.variant != nullptr) LDM_TRY(machine.start());
    if (options.variant == nullptr) {
        return choose_variant(scope, manifest, budget, machine, failed, notices, settings.variant);
    }
    return named_variant(scope, manifest, options.variant, budget, machine, notices, settings.variant);
}

// Open what was chosen; what an attempt before had opened is closed.
Status open_attempt(Scope& scope, ldm_engine& engine, const engines::Settings& settings) {
    engine.components.emplace(engine.memory, *engine.package->opened);
    LDM_TRY(engine.components->start(scope, settings));
    return engine.components->open_all(scope);
}

// Open the variant that the options name, or the fastest within the budget that opens, or what is exact. notices: of
// the choice.
Status open_best(Scope& scope, ldm_engine& engine, const ldm_engine_options& options, engines::Settings& settings,
                 std::optional<Notices>& notices) {
    Array<FailedVariant> failed(scope.memory);
    Arena reasons(scope.memory);
    while (true) {
        notices.emplace(scope.memory);
        LDM_TRY(choose(scope, *engine.package->opened, options, failed.view(), *notices, settings));
        Status status = open_attempt(scope, engine, settings);
        if (!engine.components->failed_for_variant(status)) return status;
        Failure why = scope.failure;
        if (options.variant != nullptr) {
            return scope.fail(codes::engine_unavailable, {"the variant ", settings.variant->name,
                              " does not run here: ", why.text, "; leave it out to draw exactly"});
        }
        View<char> reason;
        LDM_NEED(scope, reasons.copy(why.text, std::strlen(why.text), reason));
        LDM_NEED(scope, failed.push({settings.variant, {reason.data, reason.size}}));
        scope.failure.clear();
    }
}

Status open(const ldm_context& context, Scope& scope, ldm_engine& engine, const ldm_engine_options& options) {
    engines::Settings settings;
    std::optional<Notices> notices;
    LDM_TRY(api::read_settings(scope, options, settings));
    Status status = open_best(scope, engine, options, settings, notices);
    Failure engines_reason = scope.failure;
    LDM_TRY(engine.package->opened->confirm(
        scope));  // a damaged file is a better explanation than what an engine made of it
    scope.failure = engines_reason;
    if (!status.ok()) return status;
    for (const Notice& notice : notices->all()) api::log(context, LDM_LOG_NOTICE, notice.text);
    return status;
}

// Each notice is told once, to the first that listens.
void log_notices(const ldm_context& context, ldm_engine& engine) {
    std::string_view notice;
    while (context.options.log != nullptr && engine.components->take_notice(notice)) {
        api::log(context, LDM_LOG_NOTICE, notice);
    }
}

// The memory that is not needed any more in this run: of the text encoders once they are done, of the denoiser before
// the decoder.
void rest(ldm_engine& engine, const Task& task) {
    const Contract& contract = engine.package->model.contract();
    if (task.component == contract.denoiser.component && task.evaluations == 0) {
        for (const TextRole& role : contract.text) engine.components->rest(role.component);
    } else if (task.component == contract.codec.decoder.component && task.step == task.steps) {
        engine.components->rest(contract.denoiser.component);
    }
}

Status evaluate(Scope& scope, ldm_engine& engine, ldm_run& run, const Task& task) {
    rest(engine, task);
    engines::Results results(scope.memory);
    Array<Tensor> outputs(scope.memory);
    LDM_TRY(engines::evaluate(scope, *engine.components, task, results, outputs));
    return run.run.give(scope, outputs.view());
}

// Tell the host of a step that is done, or of the preview of the last one; it may end the run.
void report(ldm_context& context, ldm_run& run, const Task& task) {
    if (context.options.progress == nullptr) return;
    ldm_progress progress{sizeof(ldm_progress), static_cast<int32_t>(task.step), static_cast<int32_t>(task.steps),
                          static_cast<int32_t>(task.evaluations), task.timestep,
                          static_cast<int32_t>(run.run.preview_step())};
    if (context.options.progress(context.options.user, &run, &progress) != 0) ldm_run_cancel(&run);
}

// Begin a call on an engine and a run. work: Status(Scope&).
template <typename Work>
ldm_status called(ldm_context* context, const ldm_engine* engine, const ldm_run* run, const char* name, Work work) {
    return api::called(context, [&](Scope& scope) {
        if (engine == nullptr || run == nullptr) return api::misused(scope, {name, " needs an engine and a run"});
        if (engine->package != run->package) {
            return api::misused(scope, {name, " needs an engine and a run of the same ldm_package; these are of two, ",
                                        quoted(engine->package->model.manifest->name), " and ",
                                        quoted(run->package->model.manifest->name)});
        }
        const Variant *its = engine->components->variant(), *of_run = run->run.request().variant;
        if (its != of_run) {
            auto shown = [](const Variant* each) { return each == nullptr ? Piece("none") : quoted(each->name); };
            return api::misused(scope, {"the engine draws with the variant ", shown(its), ", and the run was made for ",
                                        shown(of_run), "; set `variant` of ldm_run_options to what ldm_engine_variant "
                                        "says"});
        }
        return work(scope);
    });
}

}  // namespace

namespace ldm::api {

Status read_settings(Scope& scope, const ldm_engine_options& options, engines::Settings& out) {
    if (options.library != nullptr) LDM_TRY(files::require_path(scope, "library", options.library));
    if (options.engine != nullptr) out.engine = options.engine;
    if (options.library != nullptr) out.library = options.library;
    if (options.provider != nullptr) out.provider = options.provider;
    out.threads = options.threads;
    if (options.maps_weights != 0) out.large_weights = 0;
    out.options = {options.provider_keys, options.provider_values, options.provider_option_count};
    if (options.maps_weights != 0 && options.maps_weights != 1) {
        return scope.fail(codes::request_invalid, {"maps_weights is ", options.maps_weights, "; expected 0 or 1"});
    }
    bool is_usable =
        options.provider_option_count == 0 || (options.provider_keys != nullptr && options.provider_values != nullptr);
    for (size_t index = 0; is_usable && index < options.provider_option_count; ++index) {
        is_usable = options.provider_keys[index] != nullptr && options.provider_values[index] != nullptr;
    }
    return is_usable ? Status() : misused(scope, {"each option of a provider needs a key and a value"});
}

}  // namespace ldm::api

void ldm_engine_options_init(ldm_engine_options* options, size_t struct_size) {
    api::begin(options, struct_size, [](ldm_engine_options&) {});
}

ldm_status ldm_engine_open(ldm_context* context, ldm_package* package, const ldm_engine_options* options,
                           ldm_engine** engine) {
    if (engine != nullptr) *engine = nullptr;
    return api::called(context, [&](Scope& scope) {
        ldm_engine_options taken;
        if (package == nullptr || engine == nullptr || !api::take(options, ldm_engine_options_init, taken)) {
            return api::misused(scope, {"ldm_engine_open needs a package, a place for the engine, and options that "
                                        "ldm_engine_options_init began"});
        }
        if (package->opened == nullptr) {
            return api::misused(scope,
                                {"a package that was given as text has no graphs to run; open its folder, or drive "
                                 "its runs with ldm_run_next"});
        }
        auto* made = make<ldm_engine>(scope.memory, scope.memory, package);
        LDM_NEED(scope, made != nullptr);
        Status status = open(*context, scope, *made, taken);
        if (status.ok()) {
            *engine = made;
            log_notices(*context, *made);
        } else {
            ldm_engine_free(made);
        }
        return status;
    });
}

const char* ldm_engine_variant(const ldm_engine* engine) {
    const Variant* variant = engine == nullptr ? nullptr : engine->components->variant();
    return variant == nullptr ? nullptr : variant->name.data();
}

void ldm_engine_free(ldm_engine* engine) {
    if (engine == nullptr) return;
    Allocator memory = engine->memory;
    destroy(memory, engine);
}

ldm_status ldm_engine_evaluate(ldm_context* context, ldm_engine* engine, ldm_run* run) {
    return called(context, engine, run, "ldm_engine_evaluate", [&](Scope& scope) {
        LDM_TRY(api::require_going(scope, *run));
        if (!run->run.is_asking()) {
            return api::misused(scope, {"the run asks for no evaluation; call ldm_run_next until it does"});
        }
        Task task;
        LDM_TRY(run->run.next(scope, task));  // the same again
        LDM_TRY(evaluate(scope, *engine, *run, task));
        log_notices(*context, *engine);
        return Status();
    });
}

ldm_status ldm_engine_draw(ldm_context* context, ldm_engine* engine, ldm_run* run) {
    return called(context, engine, run, "ldm_engine_draw", [&](Scope& scope) {
        Task task;
        while (true) {
            LDM_TRY(api::require_going(scope, *run));
            LDM_TRY(run->run.next(scope, task));
            if (task.kind == Task::Kind::done) return Status();
            bool is_last_preview = task.kind == Task::Kind::preview && task.step == task.steps;
            if (task.kind == Task::Kind::step || is_last_preview) report(*context, *run, task);
            if (task.kind != Task::Kind::evaluate) continue;
            LDM_TRY(evaluate(scope, *engine, *run, task));
            log_notices(*context, *engine);
        }
    });
}
