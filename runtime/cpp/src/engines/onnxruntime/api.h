// The functions of ONNX Runtime's C API that are used here, by their places in its table.
//
// The table (OrtApi) only ever grows at its end, so that a place means the same function in every version that has it:
// https://onnxruntime.ai/docs/api/c. Its headers are not needed, and one binary runs with 1.20 and everything newer. A
// test compares names and places with those of a real header, where there is one.
#ifndef LDM_ENGINES_ONNXRUNTIME_API_H
#define LDM_ENGINES_ONNXRUNTIME_API_H

#include <cstddef>
#include <cstdint>

namespace ldm::ort {

#if defined(_WIN32)
#define LDM_ORT_CALL __stdcall
using PathChar = wchar_t;
#else
#define LDM_ORT_CALL
using PathChar = char;
#endif

struct OrtStatus;
struct OrtEnv;
struct OrtSession;
struct OrtSessionOptions;
struct OrtRunOptions;
struct OrtValue;
struct OrtTypeInfo;
struct OrtTensorTypeAndShapeInfo;
struct OrtAllocator;
struct OrtMemoryInfo;
struct OrtCudaOptions;
struct OrtTensorRtOptions;
struct OrtEpDevice;
struct OrtHardwareDevice;
struct OrtEpAssignedSubgraph;
struct OrtEpAssignedNode;

inline constexpr std::uint32_t oldest_api = 20;    // ONNX Runtime 1.20
inline constexpr std::uint32_t devices_api = 22;   // plugins and their devices
inline constexpr std::uint32_t assignment_api = 24;  // which provider runs what

enum LogLevel : int { fatal = 4 };
enum OptimizationLevel : int { extended = 2 };
enum AllocatorType : int { device_allocator = 0 };
enum MemoryType : int { default_memory = 0 };
enum DeviceType : int { cpu_device = 0, gpu_device = 1, npu_device = 2 };
// Of ONNX' TensorProto.
enum TensorType : int { tensor_float = 1, tensor_int32 = 6, tensor_int64 = 7, tensor_float16 = 10, tensor_double = 11 };

// FUNCTION(API version, place, name, result, arguments)
#define LDM_ORT_FUNCTIONS(FUNCTION)                                                                                    \
    FUNCTION(20, 2, GetErrorMessage, const char*, (const OrtStatus*))                                                  \
    FUNCTION(20, 3, CreateEnv, OrtStatus*, (int level, const char* name, OrtEnv**))                                    \
    FUNCTION(20, 6, DisableTelemetryEvents, OrtStatus*, (const OrtEnv*))                                               \
    FUNCTION(20, 7, CreateSession, OrtStatus*,                                                                         \
             (const OrtEnv*, const PathChar* path, const OrtSessionOptions*, OrtSession**))                            \
    FUNCTION(20, 9, Run, OrtStatus*,                                                                                   \
             (OrtSession*, const OrtRunOptions*, const char* const* input_names, const OrtValue* const* inputs,        \
              std::size_t input_count, const char* const* output_names, std::size_t output_count, OrtValue** outputs)) \
    FUNCTION(20, 10, CreateSessionOptions, OrtStatus*, (OrtSessionOptions**))                                          \
    FUNCTION(20, 17, DisableMemPattern, OrtStatus*, (OrtSessionOptions*))                                              \
    FUNCTION(20, 22, SetSessionLogSeverityLevel, OrtStatus*, (OrtSessionOptions*, int level))                          \
    FUNCTION(20, 23, SetSessionGraphOptimizationLevel, OrtStatus*, (OrtSessionOptions*, int level))                    \
    FUNCTION(20, 24, SetIntraOpNumThreads, OrtStatus*, (OrtSessionOptions*, int count))                                \
    FUNCTION(20, 30, SessionGetInputCount, OrtStatus*, (const OrtSession*, std::size_t*))                              \
    FUNCTION(20, 31, SessionGetOutputCount, OrtStatus*, (const OrtSession*, std::size_t*))                             \
    FUNCTION(20, 33, SessionGetInputTypeInfo, OrtStatus*, (const OrtSession*, std::size_t, OrtTypeInfo**))             \
    FUNCTION(20, 34, SessionGetOutputTypeInfo, OrtStatus*, (const OrtSession*, std::size_t, OrtTypeInfo**))            \
    FUNCTION(20, 36, SessionGetInputName, OrtStatus*, (const OrtSession*, std::size_t, OrtAllocator*, char**))         \
    FUNCTION(20, 37, SessionGetOutputName, OrtStatus*, (const OrtSession*, std::size_t, OrtAllocator*, char**))        \
    FUNCTION(20, 49, CreateTensorWithDataAsOrtValue, OrtStatus*,                                                       \
             (const OrtMemoryInfo*, void* data, std::size_t bytes, const std::int64_t* shape, std::size_t rank,        \
              int type, OrtValue**))                                                                                   \
    FUNCTION(20, 51, GetTensorMutableData, OrtStatus*, (OrtValue*, void**))                                            \
    FUNCTION(20, 55, CastTypeInfoToTensorInfo, OrtStatus*, (const OrtTypeInfo*, const OrtTensorTypeAndShapeInfo**))    \
    FUNCTION(20, 60, GetTensorElementType, OrtStatus*, (const OrtTensorTypeAndShapeInfo*, int*))                       \
    FUNCTION(20, 61, GetDimensionsCount, OrtStatus*, (const OrtTensorTypeAndShapeInfo*, std::size_t*))                 \
    FUNCTION(20, 62, GetDimensions, OrtStatus*, (const OrtTensorTypeAndShapeInfo*, std::int64_t*, std::size_t))        \
    FUNCTION(20, 63, GetSymbolicDimensions, OrtStatus*, (const OrtTensorTypeAndShapeInfo*, const char**, std::size_t)) \
    FUNCTION(20, 65, GetTensorTypeAndShape, OrtStatus*, (const OrtValue*, OrtTensorTypeAndShapeInfo**))                \
    FUNCTION(20, 69, CreateCpuMemoryInfo, OrtStatus*, (int allocator_type, int memory_type, OrtMemoryInfo**))          \
    FUNCTION(20, 76, AllocatorFree, OrtStatus*, (OrtAllocator*, void*))                                                \
    FUNCTION(20, 78, GetAllocatorWithDefaultOptions, OrtStatus*, (OrtAllocator**))                                     \
    FUNCTION(20, 92, ReleaseEnv, void, (OrtEnv*))                                                                      \
    FUNCTION(20, 93, ReleaseStatus, void, (OrtStatus*))                                                                \
    FUNCTION(20, 94, ReleaseMemoryInfo, void, (OrtMemoryInfo*))                                                        \
    FUNCTION(20, 95, ReleaseSession, void, (OrtSession*))                                                              \
    FUNCTION(20, 96, ReleaseValue, void, (OrtValue*))                                                                  \
    FUNCTION(20, 98, ReleaseTypeInfo, void, (OrtTypeInfo*))                                                            \
    FUNCTION(20, 99, ReleaseTensorTypeAndShapeInfo, void, (OrtTensorTypeAndShapeInfo*))                                \
    FUNCTION(20, 100, ReleaseSessionOptions, void, (OrtSessionOptions*))                                               \
    FUNCTION(20, 125, GetAvailableProviders, OrtStatus*, (char***, int*))                                              \
    FUNCTION(20, 126, ReleaseAvailableProviders, OrtStatus*, (char**, int))                                            \
    FUNCTION(20, 130, AddSessionConfigEntry, OrtStatus*, (OrtSessionOptions*, const char* key, const char* value))     \
    FUNCTION(20, 170, SessionOptionsAppendExecutionProvider_TensorRT_V2, OrtStatus*,                                   \
             (OrtSessionOptions*, const OrtTensorRtOptions*))                                                          \
    FUNCTION(20, 171, CreateTensorRTProviderOptions, OrtStatus*, (OrtTensorRtOptions**))                               \
    FUNCTION(20, 172, UpdateTensorRTProviderOptions, OrtStatus*,                                                       \
             (OrtTensorRtOptions*, const char* const* keys, const char* const* values, std::size_t count))             \
    FUNCTION(20, 174, ReleaseTensorRTProviderOptions, void, (OrtTensorRtOptions*))                                     \
    FUNCTION(20, 204, SessionOptionsAppendExecutionProvider_CUDA_V2, OrtStatus*,                                       \
             (OrtSessionOptions*, const OrtCudaOptions*))                                                              \
    FUNCTION(20, 205, CreateCUDAProviderOptions, OrtStatus*, (OrtCudaOptions**))                                       \
    FUNCTION(20, 206, UpdateCUDAProviderOptions, OrtStatus*,                                                           \
             (OrtCudaOptions*, const char* const* keys, const char* const* values, std::size_t count))                 \
    FUNCTION(20, 208, ReleaseCUDAProviderOptions, void, (OrtCudaOptions*))                                             \
    FUNCTION(                                                                                                          \
        20, 216, SessionOptionsAppendExecutionProvider, OrtStatus*,                                                    \
        (OrtSessionOptions*, const char* name, const char* const* keys, const char* const* values, std::size_t count)) \
    FUNCTION(22, 301, RegisterExecutionProviderLibrary, OrtStatus*, (OrtEnv*, const char* name, const PathChar* path)) \
    FUNCTION(22, 303, GetEpDevices, OrtStatus*, (const OrtEnv*, const OrtEpDevice* const**, std::size_t*))             \
    FUNCTION(22, 304, SessionOptionsAppendExecutionProvider_V2, OrtStatus*,                                            \
             (OrtSessionOptions*, OrtEnv*, const OrtEpDevice* const* devices, std::size_t device_count,                \
              const char* const* keys, const char* const* values, std::size_t count))                                  \
    FUNCTION(22, 307, HardwareDevice_Type, int, (const OrtHardwareDevice*))                                            \
    FUNCTION(22, 312, EpDevice_EpName, const char*, (const OrtEpDevice*))                                              \
    FUNCTION(22, 316, EpDevice_Device, const OrtHardwareDevice*, (const OrtEpDevice*))                                 \
    FUNCTION(24, 407, Session_GetEpGraphAssignmentInfo, OrtStatus*,                                                    \
             (const OrtSession*, const OrtEpAssignedSubgraph* const**, std::size_t*))                                  \
    FUNCTION(24, 408, EpAssignedSubgraph_GetEpName, OrtStatus*, (const OrtEpAssignedSubgraph*, const char**))          \
    FUNCTION(24, 409, EpAssignedSubgraph_GetNodes, OrtStatus*,                                                         \
             (const OrtEpAssignedSubgraph*, const OrtEpAssignedNode* const**, std::size_t*))                           \
    FUNCTION(24, 412, EpAssignedNode_GetOperatorType, OrtStatus*, (const OrtEpAssignedNode*, const char**))

// Those functions; null where the library is older.
struct Api {
#define LDM_ORT_MEMBER(version, place, name, result, arguments) result(LDM_ORT_CALL* name) arguments = nullptr;
    LDM_ORT_FUNCTIONS(LDM_ORT_MEMBER)
#undef LDM_ORT_MEMBER
    std::uint32_t version = 0;

    // table: of a library that has this version of the API.
    void read(const void* const* table, std::uint32_t available) {
        version = available;
#define LDM_ORT_READ(since, place, name, result, arguments) \
    if (available >= (since)) name = reinterpret_cast<decltype(name)>(const_cast<void*>(table[place]));
        LDM_ORT_FUNCTIONS(LDM_ORT_READ)
#undef LDM_ORT_READ
    }
};

// What the library's one exported function gives.
struct ApiBase {
    const void* const*(LDM_ORT_CALL* GetApi)(std::uint32_t version);  // null: it is older
    const char*(LDM_ORT_CALL* GetVersionString)();
};
using GetApiBase = const ApiBase*(LDM_ORT_CALL*)();

}  // namespace ldm::ort

#endif
