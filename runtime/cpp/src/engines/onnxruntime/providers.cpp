#include "src/engines/onnxruntime/providers.h"

#include <mutex>

#include "core/codes.h"
#include "src/engines/onnxruntime/gpu.h"
#include "src/files/system.h"

namespace ldm::ort {

namespace {

constexpr const char* device_key = "device";
constexpr const char* library_key = "library";

constexpr Provider providers[] = {
    {"cuda", "CUDAExecutionProvider", nullptr, Append::cuda, true, false, false, "use_tf32", "0"},
    {"tensorrt", "TensorrtExecutionProvider", nullptr, Append::tensorrt, true},
    {"nv_tensorrt_rtx", "NvTensorRTRTXExecutionProvider", "NvTensorRtRtx", Append::generic, true, true},
    {"directml", "DmlExecutionProvider", "DML", Append::generic, false, false, true},
    {"coreml", "CoreMLExecutionProvider", "CoreML"},
    {"openvino", "OpenVINOExecutionProvider", "OpenVINO", Append::generic, false, true},
    {"qnn", "QNNExecutionProvider", "QNN", Append::generic, false, true},
    {"webgpu", "WebGpuExecutionProvider", "WebGPU", Append::generic, false, true},
};
constexpr std::string_view names = "cpu, cuda, tensorrt, nv_tensorrt_rtx, directml, coreml, openvino, qnn, webgpu";

// Options for a call: the provider's default where it is not given, and none of ours.
struct Passed {
    Passed(Allocator& memory) : keys(memory), values(memory) {}

    Array<const char*> keys, values;

    [[nodiscard]] bool fill(const Provider& provider, const Options& given) {
        bool needs_default = provider.default_key != nullptr && given.find(provider.default_key) == nullptr;
        if (needs_default && !put(provider.default_key, provider.default_value)) return false;
        for (std::size_t index = 0; index < given.count; ++index) {
            std::string_view key = given.keys[index];
            bool is_ours = provider.may_be_plugin && (key == device_key || key == library_key);
            if (!is_ours && !put(given.keys[index], given.values[index])) return false;
        }
        return true;
    }
    [[nodiscard]] bool put(const char* key, const char* value) { return keys.push(key) && values.push(value); }
};

Status refuse(Scope& scope, const Api& api, OrtStatus* status, const Provider& provider) {
    Outcome outcome(api, status);
    if (outcome.ok()) return Status();
    return scope.fail(codes::engine_failed,
                      {"ONNX Runtime cannot load ", provider.ort_name, ": ", outcome.first_line()});
}

Status is_built_in(Scope& scope, const Api& api, const Provider& provider, bool& out) {
    char** available = nullptr;
    int count = 0;
    LDM_TRY(refuse(scope, api, api.GetAvailableProviders(&available, &count), provider));
    out = false;
    for (int index = 0; index < count; ++index) out = out || std::string_view(available[index]) == provider.ort_name;
    return refuse(scope, api, api.ReleaseAvailableProviders(available, count), provider);
}

Status append_cuda(Scope& scope, const Api& api, const Provider& provider, const Passed& passed,
                   OrtSessionOptions* options) {
    Owned<OrtCudaOptions> own(api.ReleaseCUDAProviderOptions);
    OrtStatus* said = api.CreateCUDAProviderOptions(own.out());
    if (said == nullptr) {
        said = api.UpdateCUDAProviderOptions(own.get(), passed.keys.data(), passed.values.data(), passed.keys.size());
    }
    if (said == nullptr) said = api.SessionOptionsAppendExecutionProvider_CUDA_V2(options, own.get());
    return refuse(scope, api, said, provider);
}

Status append_tensorrt(Scope& scope, const Api& api, const Provider& provider, const Passed& passed,
                       OrtSessionOptions* options) {
    Owned<OrtTensorRtOptions> own(api.ReleaseTensorRTProviderOptions);
    OrtStatus* said = api.CreateTensorRTProviderOptions(own.out());
    if (said == nullptr && !passed.keys.empty()) {
        said =
            api.UpdateTensorRTProviderOptions(own.get(), passed.keys.data(), passed.values.data(), passed.keys.size());
    }
    if (said == nullptr) said = api.SessionOptionsAppendExecutionProvider_TensorRT_V2(options, own.get());
    return refuse(scope, api, said, provider);
}

struct DeviceKind {
    std::string_view name;
    int type;
};
constexpr DeviceKind device_kinds[] = {{"CPU", cpu_device}, {"GPU", gpu_device}, {"NPU", npu_device}};

// The devices of a plugin, as far as it has registered.
class Devices {
public:
    Devices(Library& library, const Provider& provider) : api_(library.api()), provider_(provider) {
        Outcome asked(api_, api_.GetEpDevices(library.env(), &all_, &count_));
        if (!asked.ok()) count_ = 0;
    }
    // The first of a type; of any type, where it is below 0.
    const OrtEpDevice* find(int type) const {
        for (std::size_t index = 0; index < count_; ++index) {
            if (std::string_view(api_.EpDevice_EpName(all_[index])) != provider_.ort_name) continue;
            if (type < 0 || api_.HardwareDevice_Type(api_.EpDevice_Device(all_[index])) == type) return all_[index];
        }
        return nullptr;
    }

private:
    const Api& api_;
    const Provider& provider_;
    const OrtEpDevice* const* all_ = nullptr;
    std::size_t count_ = 0;
};

Status find_device(Scope& scope, Library& library, const Provider& provider, const char* kind,
                   const OrtEpDevice*& out) {
    Devices devices(library, provider);
    int type = -1;
    for (const DeviceKind& each : device_kinds) {
        if (kind != nullptr && each.name == kind) type = each.type;
    }
    bool is_known = kind == nullptr || type >= 0;
    out = is_known ? devices.find(type) : nullptr;
    if (out != nullptr) return Status();
    if (devices.find(-1) == nullptr) {
        return scope.fail(codes::engine_unavailable, {"it needs a device that ", provider.ort_name, " can use"});
    }
    std::string_view has[3];
    for (std::size_t index = 0; index < 3; ++index) {
        if (devices.find(device_kinds[index].type) != nullptr) has[index] = device_kinds[index].name;
    }
    return scope.fail(codes::request_engine, {"the option device is ", quoted(kind), "; ", provider.ort_name,
                                              " has here ", has[0], " ", has[1], " ", has[2]});
}

// Plugins are the process's: one thread at a time looks for one and registers it.
std::mutex registering;

Status append_plugin(Scope& scope, Library& library, const Provider& provider, const Options& given,
                     const Passed& passed, OrtSessionOptions* options) {
    const Api& api = library.api();
    std::lock_guard<std::mutex> turn(registering);
    const char* place = given.find(library_key);
    bool is_registered = api.version >= devices_api && Devices(library, provider).find(-1) != nullptr;
    if (!is_registered && (place == nullptr || api.version < devices_api)) {
        return scope.fail(codes::engine_unavailable,
                          {provider.ort_name, " is not in ONNX Runtime ", library.version(), " at ", library.path(),
                           "; give the path of its plugin in the option library "
                           "(1.22 or newer takes one)"});
    }
    if (!is_registered) {
        files::Path path(place);
        files::NativePath native(path);
        LDM_TRY(refuse(scope, api, api.RegisterExecutionProviderLibrary(library.env(), provider.ort_name, native.get()),
                       provider));
    }
    const OrtEpDevice* device = nullptr;
    LDM_TRY(find_device(scope, library, provider, given.find(device_key), device));
    return refuse(scope, api,
                  api.SessionOptionsAppendExecutionProvider_V2(options, library.env(), &device, 1, passed.keys.data(),
                                                               passed.values.data(), passed.keys.size()),
                  provider);
}

}  // namespace

const char* Options::find(std::string_view key) const {
    for (std::size_t index = 0; index < count; ++index) {
        if (key == keys[index]) return values[index];
    }
    return nullptr;
}

Status find_provider(Scope& scope, std::string_view name, const Provider*& out) {
    out = nullptr;
    if (name.empty() || name == "cpu" || name == "CPUExecutionProvider") return Status();
    for (const Provider& each : providers) {
        if (name != each.name && name != each.ort_name) continue;
        out = &each;
        return Status();
    }
    return scope.fail(codes::request_engine, {"the provider is ", quoted(name), "; expected one of ", names});
}

Status append_provider(Scope& scope, Library& library, const Provider& provider, const Options& options,
                       OrtSessionOptions* session_options) {
    const Api& api = library.api();
    bool built_in = false;
    LDM_TRY(is_built_in(scope, api, provider, built_in));
    if (!built_in && !provider.may_be_plugin) {
        return scope.fail(codes::engine_unavailable,
                          {provider.ort_name, " is not in ONNX Runtime ", library.version(), " at ", library.path(),
                           "; give the library of a build that has it"});
    }
    if (provider.needs_nvidia_gpu) LDM_TRY(require_nvidia_gpu(scope));
    if (api.version < assignment_api) {
        return scope.fail(codes::engine_unavailable, {"ONNX Runtime ", library.version(),
                                                      " does not tell which provider runs "
                                                      "what; ",
                                                      provider.ort_name,
                                                      " needs 1.24 or newer, so that nothing runs "
                                                      "on the CPU unsaid"});
    }
    Passed passed(scope.memory);
    LDM_NEED(scope, passed.fill(provider, options));
    if (!built_in) return append_plugin(scope, library, provider, options, passed, session_options);
    if (provider.append == Append::cuda) return append_cuda(scope, api, provider, passed, session_options);
    if (provider.append == Append::tensorrt) return append_tensorrt(scope, api, provider, passed, session_options);
    return refuse(scope, api,
                  api.SessionOptionsAppendExecutionProvider(session_options, provider.short_name, passed.keys.data(),
                                                            passed.values.data(), passed.keys.size()),
                  provider);
}

}  // namespace ldm::ort
