// A test for an NVIDIA GPU with a driver, by the driver itself (CUDA driver API).
#ifndef LDM_ENGINES_ONNXRUNTIME_GPU_H
#define LDM_ENGINES_ONNXRUNTIME_GPU_H

#include "core/codes.h"
#include "core/status.h"
#include "src/engines/dynamic_library.h"

namespace ldm::ort {

// Code: engine.unavailable.
inline Status require_nvidia_gpu(Scope& scope) {
#if defined(_WIN32)
#define LDM_CUDA_CALL __stdcall
    constexpr std::string_view name = "nvcuda.dll";
#else
#define LDM_CUDA_CALL
    constexpr std::string_view name = "libcuda.so.1";
#endif
    engines::DynamicLibrary driver;
    if (!driver.open(files::Path(name))) {
        return scope.fail(codes::engine_unavailable, {"it needs an NVIDIA driver (", name, " is not on this machine)"});
    }
    auto start = reinterpret_cast<int(LDM_CUDA_CALL*)(unsigned)>(driver.find("cuInit"));
    auto count = reinterpret_cast<int(LDM_CUDA_CALL*)(int*)>(driver.find("cuDeviceGetCount"));
    int devices = 0, answer = start == nullptr || count == nullptr ? -1 : start(0);
    if (answer == 0) answer = count(&devices);
    if (answer != 0) {
        return scope.fail(codes::engine_unavailable,
                          {"it needs a working NVIDIA driver (", name, " answers with error ", answer, ")"});
    }
    if (devices > 0) return Status();
    return scope.fail(codes::engine_unavailable, {"it needs an NVIDIA GPU (the driver finds none)"});
#undef LDM_CUDA_CALL
}

}  // namespace ldm::ort

#endif
