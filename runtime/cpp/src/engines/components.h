// The engines of a package, one for each component: opened on first use, shared by the threads of one process.
#ifndef LDM_ENGINES_COMPONENTS_H
#define LDM_ENGINES_COMPONENTS_H

#include <mutex>
#include <optional>
#include <string_view>

#include "core/memory.h"
#include "core/status.h"
#include "src/engines/choice.h"
#include "src/engines/engine.h"
#include "src/engines/onnxruntime/library.h"
#include "src/engines/onnxruntime/providers.h"
#include "src/engines/onnxruntime/session.h"
#include "src/engines/openvino/graph.h"
#include "src/engines/openvino/plugin.h"
#include "src/engines/slots.h"
#include "src/package/open.h"

namespace ldm::engines {

struct Settings {
    std::string_view engine;    // "ort" or "": ONNX Runtime; "openvino"
    std::string_view library;   // path of ONNX Runtime, or of OpenVINO's plugin; "": it is found
    std::string_view provider;  // of ONNX Runtime, or OpenVINO's device; "": the CPU
    ort::Options options;       // the provider's, or OpenVINO's properties
    std::int64_t threads = 0;   // of one operator; 0: the engine's choice
    std::uint64_t large_weights = engines::large_weights;  // a component with more of them maps them, on the CPU
    std::optional<std::uint64_t> memory_left;  // bytes; not given: what the machine or container has
    const Variant* variant = nullptr;  // of the package, whose ways are chosen before the engine; null: exact
};

// Which artefact of a component is evaluated: its own, which of a denoiser with caching is the one that keeps; or the
// one beside it that reads what was kept.
enum class Part { own, reading };

// Threads may call everything but `start`.
class Components {
public:
    // memory: of the engines. package must outlive them.
    Components(Allocator& memory, const package::Package& package);
    ~Components();  // no thread evaluates any more
    Components(const Components&) = delete;
    Components& operator=(const Components&) = delete;

    // Open the engine's library and check the settings, which are copied; no graph is loaded yet. Codes:
    // request.invalid, request.engine, engine.unavailable, engine.failed.
    Status start(Scope& scope, const Settings& settings);
    // Load a component that is not open yet. Codes: engine.*, graph.signature, file.changed.
    Status open(Scope& scope, std::string_view component, Part part = Part::own);
    // Open every component but the encoder of images, which is opened when an image is given. Codes as `open`.
    Status open_all(Scope& scope);
    // Whether what `start` or `open_all` failed with is an engine's failure that the variant alone has: of a component
    // that it has a say in, or of a library that only those need.
    bool failed_for_variant(const Status& status) const;
    // Load one artefact of a component beside what is open, for the caller, who closes it. Codes as `open`.
    Status open_alone(Scope& scope, std::string_view component, const Artefact& artefact, Engine& out);
    // Evaluate a component: all inputs by name, all outputs of its graph.
    Status run(Scope& scope, std::string_view component, View<Tensor> feeds, Results& out, Part part = Part::own);
    // Give back the memory of a component that maps its weights, until it is used again: that takes no time. Others
    // stay. A thread that is at an evaluation of it ends that first.
    void rest(std::string_view component);

    // What is to be said about the engines that were opened since it was asked last, each sentence once; it ends with a
    // NUL. False where there is nothing new.
    bool take_notice(std::string_view& out);

    // The variant that it draws with; null: it draws exactly.
    const Variant* variant() const { return variant_; }
    // What it keeps of a component between evaluations; null: nothing.
    const Caching* caching_of(std::string_view component) const;
    // Whether the engine runs an artefact, and which of a component's it draws with without a variant.
    bool runs(const Artefact& artefact) const;
    const Artefact& artefact_of(std::string_view component) const;
    // The engine's name, or the provider's.
    std::string_view engine_name() const;
    std::string_view library_version() const { return library_.version(); }

private:
    // What a component runs as. precision: that is computed in; none: the artefact's. engine: of a variant's way, "" of
    // none.
    struct Form {
        const Artefact* artefact = nullptr;
        bool is_on_openvino = false;
        std::optional<Precision> precision;
        std::string_view engine;
    };

    Form form_of(std::string_view component, Part part) const;
    bool is_of_variant(std::string_view component) const;
    std::string_view ort_name() const;
    // Whether a component runs on OpenVINO, or on ONNX Runtime; without_variant: one that the variant leaves alone.
    bool needs(bool openvino, bool without_variant = false) const;
    Status find(Scope& scope, std::string_view component, Part part, std::size_t& place);
    Status acquire(Scope& scope, std::string_view component, Part part, std::size_t& place);
    Status open_slot(Scope& scope, std::string_view component, const Form& form, std::size_t place, bool& is_new);
    void tell_of(const Scope& scope, std::string_view component, const Form& form, const Engine& engine,
                 double seconds) const;
    Status note_options(Scope& scope, const ort::Options& options);
    Status start_engines(Scope& scope, const Settings& settings);
    Status start_onnxruntime(Scope& scope, const Settings& settings);
    Status start_openvino(Scope& scope, const Settings& settings);
    Status load(Scope& scope, std::string_view component, const Form& form, Engine& out);
    Status open_form(Scope& scope, std::string_view component, const Form& form, Engine& out);
    Status load_session(Scope& scope, std::string_view component, const Form& form, Engine& out);
    Status check_memory(Scope& scope, std::string_view component, const Form& form, ort::SessionSettings& settings);
    std::optional<std::uint64_t> memory_left() const;
    Status keep_notice(Scope& scope, std::string_view sentence);

    Allocator& memory_;
    const package::Package& package_;
    bool is_openvino_ = false;
    bool is_for_variant_ = false;  // what was opened last is the variant's alone
    const Variant* variant_ = nullptr;
    ort::Library library_;
    ort::SessionSettings settings_;
    openvino::Plugin plugin_;
    openvino::GraphSettings graph_settings_;
    std::uint64_t large_weights_ = 0;
    std::optional<std::uint64_t> memory_left_;  // not given: what the machine or container has
    Arena arena_;
    Slots slots_;  // in the order of the manifest's components; the last one is of what reads
    bool* are_large_ = nullptr;  // components that a notice told to be too large for memory
    Array<std::string_view> notices_;
    std::size_t taken_notices_ = 0;
    std::mutex opening_;   // one graph at a time; taken before telling_
    std::mutex telling_;   // of notices_, taken_notices_ and arena_
    std::uint64_t process_ = 0;
};

}  // namespace ldm::engines

#endif
