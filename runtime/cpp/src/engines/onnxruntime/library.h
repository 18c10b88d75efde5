// ONNX Runtime itself: its shared library, found and opened while the program runs, and never linked.
#ifndef LDM_ENGINES_ONNXRUNTIME_LIBRARY_H
#define LDM_ENGINES_ONNXRUNTIME_LIBRARY_H

#include <string_view>

#include "core/status.h"
#include "src/engines/dynamic_library.h"
#include "src/engines/onnxruntime/api.h"
#include "src/files/path.h"

namespace ldm::ort {

// An environment that sessions live in. It outlives them, does not move, and threads share it.
class Library {
public:
    Library() = default;
    ~Library();
    Library(const Library&) = delete;
    Library& operator=(const Library&) = delete;

    // Find and open it, its telemetry off. path: of the shared library; "" takes the one that the environment variable
    // LDM_ONNXRUNTIME names, else one beside this library, else one that the system finds. Code: engine.unavailable.
    Status open(Scope& scope, std::string_view path);

    const Api& api() const { return api_; }
    OrtEnv* env() const { return env_; }
    const OrtMemoryInfo* memory() const { return memory_; }  // of the CPU
    OrtAllocator* texts() const { return texts_; }           // of names that it gives
    std::string_view version() const { return version_; }    // such as "1.32.0"
    std::string_view path() const { return path_; }

private:
    Status find(Scope& scope, std::string_view path, bool& is_open);
    Status load(Scope& scope);
    Status read_api(Scope& scope);
    Status start(Scope& scope);

    engines::DynamicLibrary library_;
    files::Path path_;
    Api api_;
    std::string_view version_;  // in the library
    OrtEnv* env_ = nullptr;
    OrtMemoryInfo* memory_ = nullptr;
    OrtAllocator* texts_ = nullptr;
    bool was_loaded_ = false;  // by the host, before
};

// What a call answered. It is given back at the end of the scope.
class Outcome {
public:
    Outcome(const Api& api, OrtStatus* status) : api_(api), status_(status) {}
    ~Outcome() {
        if (status_ != nullptr) api_.ReleaseStatus(status_);
    }
    Outcome(const Outcome&) = delete;
    Outcome& operator=(const Outcome&) = delete;

    bool ok() const { return status_ == nullptr; }
    std::string_view first_line() const;

private:
    const Api& api_;
    OrtStatus* status_;
};

// Something of ONNX Runtime's that is given back at the end of the scope.
template <typename T>
class Owned {
public:
    using Release = void(LDM_ORT_CALL*)(T*);

    explicit Owned(Release release) : release_(release) {}
    ~Owned() { reset(); }
    Owned(const Owned&) = delete;
    Owned& operator=(const Owned&) = delete;

    T* get() const { return value_; }
    T** out() {
        reset();
        return &value_;
    }
    void reset() {
        if (value_ != nullptr) release_(value_);
        value_ = nullptr;
    }

private:
    Release release_;
    T* value_ = nullptr;
};

}  // namespace ldm::ort

#endif
