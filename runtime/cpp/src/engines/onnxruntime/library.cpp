#include "src/engines/onnxruntime/library.h"

#include <charconv>
#include <cstdlib>
#include <cstring>
#include <iterator>
#include <mutex>

#include "core/codes.h"
#include "src/files/system.h"

namespace ldm::ort {

namespace {

using files::Path;

constexpr const char* variable = "LDM_ONNXRUNTIME";

#if defined(_WIN32)
constexpr std::string_view file_names[] = {"onnxruntime.dll"};
#elif defined(__APPLE__)
constexpr std::string_view file_names[] = {"libonnxruntime.dylib", "libonnxruntime.1.dylib"};
#else
constexpr std::string_view file_names[] = {"libonnxruntime.so", "libonnxruntime.so.1"};
#endif

// ONNX Runtime reads a variable once, when it is started, without which it writes an identity of the machine into the
// user's cache folder and sends reports. The host's environment is as it was afterwards; a host that has set it to 1
// before it started threads has an environment that nothing changes.
class NoTelemetry {
public:
    NoTelemetry(const NoTelemetry&) = delete;
    NoTelemetry& operator=(const NoTelemetry&) = delete;
#if defined(_WIN32)
    explicit NoTelemetry(Scope&) {}
    Status begin(bool) { return Status(); }  // Windows' builds are told by DisableTelemetryEvents
#else
    explicit NoTelemetry(Scope& scope) : scope_(scope), before_(scope.memory) {}
    Status begin(bool sets) {
        const char* value = std::getenv(name_);
        if (!sets || (value != nullptr && std::strcmp(value, "1") == 0)) return Status();
        LDM_NEED(scope_, value == nullptr || before_.append(value, std::strlen(value) + 1));  // however long it is
        LDM_NEED(scope_, ::setenv(name_, "1", 1) == 0);
        has_set_ = true;
        return Status();
    }
    ~NoTelemetry() {
        if (has_set_ && !before_.empty()) ::setenv(name_, before_.data(), 1);
        if (has_set_ && before_.empty()) ::unsetenv(name_);
    }

private:
    static constexpr const char* name_ = "ORT_DISABLE_TELEMETRY";
    Scope& scope_;
    Array<char> before_;  // with its NUL; empty: it was not set
    bool has_set_ = false;
#endif
};

// The environment is the process's: one thread at a time changes it and back.
std::mutex starting;

// The API version of "1.20.0": 20.
std::uint32_t api_version_of(std::string_view version) {
    std::uint32_t major = 0, minor = 0;
    const char* end = version.data() + version.size();
    auto read = std::from_chars(version.data(), end, major);
    if (read.ec != std::errc() || read.ptr == end || *read.ptr != '.') return 0;
    if (std::from_chars(read.ptr + 1, end, minor).ec != std::errc()) return 0;
    return major > 1 ? assignment_api : major == 1 ? minor : 0;
}

}  // namespace

std::string_view Outcome::first_line() const {
    std::string_view text = api_.GetErrorMessage(status_);
    std::size_t start = text.find_first_not_of(" \t\r\n");
    if (start == std::string_view::npos) return "it does not say why";
    text.remove_prefix(start);
    return text.substr(0, text.find_first_of("\r\n"));
}

Library::~Library() {
    if (memory_ != nullptr) api_.ReleaseMemoryInfo(memory_);
    if (env_ != nullptr) api_.ReleaseEnv(env_);
}

Status Library::open(Scope& scope, std::string_view path) {
    std::lock_guard<std::mutex> turn(starting);
    bool is_open = false;
    LDM_TRY(find(scope, path, is_open));
    if (!is_open) was_loaded_ = library_.open_if_loaded(path_);
    NoTelemetry off(scope);
    LDM_TRY(off.begin(!was_loaded_));
    if (!is_open) LDM_TRY(load(scope));
    LDM_TRY(read_api(scope));
    return start(scope);
}

Status Library::find(Scope& scope, std::string_view path, bool& is_open) {
    engines::Found found = engines::find_library(path, variable, {file_names, std::size(file_names)}, path_);
    if (found == engines::Found::nowhere && engines::find_highest_version(file_names[0], path_)) return Status();
    if (found == engines::Found::yes) return Status();
    if (found == engines::Found::not_where_named) {
        std::string_view origin = path.empty() ? ", which LDM_ONNXRUNTIME names" : "";
        return scope.fail(codes::engine_unavailable, {"there is no ONNX Runtime at ", path_.view(), origin,
                                                      "; expected its shared library, such as ", file_names[0]});
    }
    if (found == engines::Found::is_folder) {
        std::string_view origin = path.empty() ? ", which LDM_ONNXRUNTIME names," : "";
        return scope.fail(codes::engine_unavailable, {path_.view(), origin, " is a folder; name ONNX Runtime's shared "
                                                      "library in it, such as ",
                                                      Path(path_, file_names[0]).view()});
    }
    if (found == engines::Found::too_long) {
        Piece which = path.empty() ? Piece(" in LDM_ONNXRUNTIME") : quoted(path);
        return scope.fail(codes::engine_unavailable, {"the path of ONNX Runtime", path.empty() ? "" : ", ", which,
                                                      " is longer than the ", Path::room - 1,
                                                      " bytes that can be opened; give a shorter one"});
    }
    for (std::string_view name : file_names) {
        path_ = Path(name);
        was_loaded_ = library_.open_if_loaded(path_);
        NoTelemetry off(scope);
        LDM_TRY(off.begin(!was_loaded_));
        is_open = was_loaded_ || library_.open(path_);
        if (is_open) return Status();
    }
    return scope.fail(codes::engine_unavailable,
                      {"ONNX Runtime was not found; install it and give the path of its shared "
                       "library (",
                       file_names[0],
                       ", 1.20 or newer) as the option library "
                       "(--library), or in the environment variable LDM_ONNXRUNTIME, or "
                       "put it beside this library"});
}

Status Library::load(Scope& scope) {
    if (was_loaded_ || library_.open(path_)) return Status();
    return scope.fail(codes::engine_unavailable,
                      {"ONNX Runtime cannot be loaded from ", path_.view(), ": ", library_.reason(),
                       "; give the shared library of 1.20 or newer for this machine"});
}

Status Library::read_api(Scope& scope) {
    auto get_base = reinterpret_cast<GetApiBase>(library_.find("OrtGetApiBase"));
    if (get_base == nullptr) {
        return scope.fail(codes::engine_unavailable, {path_.view(),
                                                      " is not ONNX Runtime: it has no function OrtGetApiBase; "
                                                      "give its shared library, such as ",
                                                      file_names[0]});
    }
    const ApiBase* base = get_base();
    version_ = base->GetVersionString();
    std::uint32_t found = api_version_of(version_);
    const void* const* table = nullptr;
    for (std::uint32_t version : {assignment_api, devices_api, oldest_api}) {
        if (table != nullptr || found < version) continue;
        table = base->GetApi(version);
        if (table != nullptr) api_.read(table, version);
    }
    if (table != nullptr) return Status();
    return scope.fail(codes::engine_unavailable,
                      {path_.view(), " is ONNX Runtime ", version_, "; expected 1.20 or newer"});
}

Status Library::start(Scope& scope) {
    OrtStatus* said = api_.CreateEnv(fatal, "ldm_runtime", &env_);
    if (said == nullptr && !was_loaded_) said = api_.DisableTelemetryEvents(env_);
    if (said == nullptr) said = api_.CreateCpuMemoryInfo(device_allocator, default_memory, &memory_);
    if (said == nullptr) said = api_.GetAllocatorWithDefaultOptions(&texts_);
    Outcome outcome(api_, said);
    if (outcome.ok()) return Status();
    return scope.fail(codes::engine_failed, {"ONNX Runtime cannot start: ", outcome.first_line()});
}

}  // namespace ldm::ort
