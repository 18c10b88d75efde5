#include "src/engines/onnxruntime/session.h"

#include "core/codes.h"
#include "src/engines/onnxruntime/fallbacks.h"
#include "src/files/system.h"

namespace ldm::ort {

namespace {

using engines::ElementType;
using engines::Results;
using engines::Tensor;

ElementType type_of(int type) {
    switch (type) {
        case tensor_float: return ElementType::float32;
        case tensor_int64: return ElementType::int64;
        case tensor_int32: return ElementType::int32;
        case tensor_float16: return ElementType::float16;
        case tensor_double: return ElementType::float64;
        default: return ElementType::none;
    }
}

int type_of(ElementType type) {
    constexpr int types[] = {0, tensor_float, tensor_int64, tensor_int32, tensor_float16, tensor_double};
    return types[static_cast<std::size_t>(type)];
}

class Session {
public:
    Session(Allocator& memory, Library& library, const files::Path& path)
        : memory_(&memory), library_(library), path_(path), arena_(memory), session_(library.api().ReleaseSession) {}

    Status open(Scope& scope, const SessionSettings& settings);
    Status run(Scope& scope, View<Tensor> feeds, Results& out);

    Allocator& memory() { return *memory_; }
    engines::Engine table() const;

private:
    const Api& api() const { return library_.api(); }
    Status failed(Scope& scope, OrtStatus* status, std::string_view what);
    OrtStatus* set(OrtSessionOptions* options, const SessionSettings& settings);
    Status read_ports(Scope& scope, bool are_outputs, View<TensorSpec>& out);
    Status read_port(Scope& scope, bool is_output, std::size_t index, TensorSpec& out);
    Status read_dims(Scope& scope, const OrtTensorTypeAndShapeInfo* info, View<Dim>& out);
    Status copy_text(Scope& scope, const char* text, std::string_view& out);
    Status read_result(Scope& scope, std::size_t index, OrtValue* value, Results& out);

    Allocator* memory_;
    Library& library_;
    files::Path path_;
    Arena arena_;
    Owned<OrtSession> session_;
    View<TensorSpec> inputs_, outputs_;
    View<const char*> output_names_;
    View<std::string_view> notices_;
    bool maps_weights_ = false, takes_turns_ = false;
    std::mutex turn_;
};

Status Session::failed(Scope& scope, OrtStatus* status, std::string_view what) {
    Outcome outcome(api(), status);
    if (outcome.ok()) return Status();
    return scope.fail(codes::engine_failed, {"ONNX Runtime ", what, " ", path_.view(), ": ", outcome.first_line()});
}

OrtStatus* Session::set(OrtSessionOptions* options, const SessionSettings& settings) {
    const Api& ort = api();
    // Errors come as a status; saying them twice on stderr helps nobody.
    OrtStatus* said = ort.SetSessionLogSeverityLevel(options, fatal);
    // One block for all activations takes 40 % more memory than the arena alone (VAE decoder), for no speed.
    if (said == nullptr) said = ort.DisableMemPattern(options);
    // Threads wait actively inside a run only: not while another session or the host wants the cores.
    if (said == nullptr) said = ort.AddSessionConfigEntry(options, "session.force_spinning_stop", "1");
    constexpr const char* bfloat16 = "mlas.enable_gemm_fastmath_arm64_bfloat16";
    if (said == nullptr && settings.is_bfloat16) said = ort.AddSessionConfigEntry(options, bfloat16, "1");
    if (said == nullptr && settings.has_whole_sums) {
        said = ort.AddSessionConfigEntry(options, "session.x64quantprecision", "1");
    }
    // Else values would be rounded to eight bits, too, where weights alone are.
    constexpr const char* level = "session.qdq_matmulnbits_accuracy_level";
    if (said == nullptr && settings.has_narrow_weights) said = ort.AddSessionConfigEntry(options, level, "1");
    if (!settings.reorders) {
        if (said == nullptr) said = ort.SetSessionGraphOptimizationLevel(options, extended);
        if (said == nullptr) said = ort.AddSessionConfigEntry(options, "session.disable_prepacking", "1");
        // It would fold casts of the weights. The graphs hold no other constant arithmetic.
        constexpr const char* key = "optimization.disable_specified_optimizers";
        if (said == nullptr) said = ort.AddSessionConfigEntry(options, key, "ConstantFolding");
    }
    if (said == nullptr && settings.threads > 0)
        said = ort.SetIntraOpNumThreads(options, static_cast<int>(settings.threads));
    if (said == nullptr && settings.provider != nullptr) {
        said = ort.AddSessionConfigEntry(options, "session.record_ep_graph_assignment_info", "1");
    }
    return said;
}

Status Session::open(Scope& scope, const SessionSettings& settings) {
    const Provider* provider = settings.provider;
    Owned<OrtSessionOptions> options(api().ReleaseSessionOptions);
    LDM_TRY(failed(scope, api().CreateSessionOptions(options.out()), "cannot load"));
    LDM_TRY(failed(scope, set(options.get(), settings), "cannot load"));
    if (provider != nullptr) LDM_TRY(append_provider(scope, library_, *provider, settings.options, options.get()));
    files::NativePath place(path_);
    OrtStatus* said = api().CreateSession(library_.env(), place.get(), options.get(), session_.out());
    LDM_TRY(failed(scope, said, "cannot load"));
    maps_weights_ = !settings.reorders;
    takes_turns_ = provider != nullptr && provider->takes_turns;
    if (provider != nullptr) {
        LDM_TRY(fallbacks(scope, arena_, library_, session_.get(), provider->ort_name, path_, notices_));
    }
    LDM_TRY(read_ports(scope, false, inputs_));
    LDM_TRY(read_ports(scope, true, outputs_));
    auto* names = arena_.make<const char*>(outputs_.size);
    LDM_NEED(scope, names != nullptr);
    for (std::size_t index = 0; index < outputs_.size; ++index) names[index] = outputs_[index].name.data();
    output_names_ = {names, outputs_.size};
    return Status();
}

Status Session::read_ports(Scope& scope, bool are_outputs, View<TensorSpec>& out) {
    std::size_t count = 0;
    OrtStatus* said = are_outputs ? api().SessionGetOutputCount(session_.get(), &count)
                                  : api().SessionGetInputCount(session_.get(), &count);
    LDM_TRY(failed(scope, said, "cannot load"));
    auto* specs = arena_.make<TensorSpec>(count);
    LDM_NEED(scope, specs != nullptr);
    for (std::size_t index = 0; index < count; ++index) LDM_TRY(read_port(scope, are_outputs, index, specs[index]));
    out = {specs, count};
    return Status();
}

Status Session::read_port(Scope& scope, bool is_output, std::size_t index, TensorSpec& out) {
    const Api& ort = api();
    char* name = nullptr;
    OrtStatus* said = is_output ? ort.SessionGetOutputName(session_.get(), index, library_.texts(), &name)
                                : ort.SessionGetInputName(session_.get(), index, library_.texts(), &name);
    LDM_TRY(failed(scope, said, "cannot load"));
    Status copied = copy_text(scope, name, out.name);
    Outcome freed(ort, ort.AllocatorFree(library_.texts(), name));
    LDM_TRY(copied);

    Owned<OrtTypeInfo> type(ort.ReleaseTypeInfo);
    const OrtTensorTypeAndShapeInfo* info = nullptr;
    int element = 0;
    said = is_output ? ort.SessionGetOutputTypeInfo(session_.get(), index, type.out())
                     : ort.SessionGetInputTypeInfo(session_.get(), index, type.out());
    if (said == nullptr) said = ort.CastTypeInfoToTensorInfo(type.get(), &info);
    if (said == nullptr && info != nullptr) said = ort.GetTensorElementType(info, &element);
    LDM_TRY(failed(scope, said, "cannot load"));
    if (type_of(element) == ElementType::none) {
        return scope.fail(codes::graph_signature, {path_.view(), " has ", quoted(out.name),
                                                   " of a type that no component "
                                                   "uses (ONNX' number ",
                                                   element, "); build the package again"});
    }
    out.dtype = engines::name_of(type_of(element));
    return read_dims(scope, info, out.dims);
}

Status Session::read_dims(Scope& scope, const OrtTensorTypeAndShapeInfo* info, View<Dim>& out) {
    std::size_t rank = 0;
    LDM_TRY(failed(scope, api().GetDimensionsCount(info, &rank), "cannot load"));
    auto* dims = arena_.make<Dim>(rank);
    auto* sizes = arena_.make<std::int64_t>(rank);
    auto* axes = arena_.make<const char*>(rank);
    LDM_NEED(scope, dims != nullptr && sizes != nullptr && axes != nullptr);
    LDM_TRY(failed(scope, api().GetDimensions(info, sizes, rank), "cannot load"));
    LDM_TRY(failed(scope, api().GetSymbolicDimensions(info, axes, rank), "cannot load"));
    for (std::size_t index = 0; index < rank; ++index) {
        dims[index].is_named = sizes[index] < 0;
        if (!dims[index].is_named) dims[index].size = sizes[index];
        if (dims[index].is_named) LDM_TRY(copy_text(scope, axes[index], dims[index].axis));
    }
    out = {dims, rank};
    return Status();
}

// A copy that ends with a NUL.
Status Session::copy_text(Scope& scope, const char* text, std::string_view& out) {
    std::size_t size = text == nullptr ? 0 : std::strlen(text);
    char* copy = arena_.make<char>(size + 1);
    LDM_NEED(scope, copy != nullptr);
    if (size > 0) std::memcpy(copy, text, size);
    out = {copy, size};
    return Status();
}

// The tensors of one evaluation, given back at its end.
class Values {
public:
    Values(const Api& api, Allocator& memory) : api_(api), values_(memory) {}
    ~Values() {
        for (OrtValue* value : values_) {
            if (value != nullptr) api_.ReleaseValue(value);
        }
    }
    Values(const Values&) = delete;
    Values& operator=(const Values&) = delete;

    [[nodiscard]] bool resize(std::size_t count) { return values_.resize(count); }
    OrtValue** data() { return values_.data(); }
    OrtValue*& operator[](std::size_t index) { return values_[index]; }

private:
    const Api& api_;
    Array<OrtValue*> values_;
};

Status Session::run(Scope& scope, View<Tensor> feeds, Results& out) {
    out.clear();
    Values inputs(api(), scope.memory), outputs(api(), scope.memory);
    Array<const char*> names(scope.memory);
    LDM_NEED(scope, inputs.resize(feeds.size) && outputs.resize(outputs_.size) && names.resize(feeds.size));
    for (std::size_t index = 0; index < feeds.size; ++index) {
        const Tensor& feed = feeds[index];
        names[index] = feed.name;
        OrtStatus* said =
            api().CreateTensorWithDataAsOrtValue(library_.memory(), const_cast<void*>(feed.data), feed.bytes,
                                                 feed.shape, feed.rank, type_of(feed.type), &inputs[index]);
        LDM_TRY(failed(scope, said, "cannot take an input of"));
    }
    {
        std::unique_lock<std::mutex> turn(turn_, std::defer_lock);
        if (takes_turns_) turn.lock();
        OrtStatus* said = api().Run(session_.get(), nullptr, names.data(), inputs.data(), feeds.size,
                                    output_names_.data, outputs_.size, outputs.data());
        LDM_TRY(failed(scope, said, "failed in"));
    }
    for (std::size_t index = 0; index < outputs_.size; ++index) LDM_TRY(read_result(scope, index, outputs[index], out));
    return Status();
}

Status Session::read_result(Scope& scope, std::size_t index, OrtValue* value, Results& out) {
    Owned<OrtTensorTypeAndShapeInfo> info(api().ReleaseTensorTypeAndShapeInfo);
    Tensor result;
    int element = 0;
    void* data = nullptr;
    OrtStatus* said = api().GetTensorTypeAndShape(value, info.out());
    if (said == nullptr) said = api().GetTensorElementType(info.get(), &element);
    if (said == nullptr) said = api().GetDimensionsCount(info.get(), &result.rank);
    if (said == nullptr && result.rank <= engines::max_rank)
        said = api().GetDimensions(info.get(), result.shape, result.rank);
    if (said == nullptr) said = api().GetTensorMutableData(value, &data);
    LDM_TRY(failed(scope, said, "failed in"));
    if (result.rank > engines::max_rank) {
        return scope.fail(codes::engine_failed, {path_.view(), " made ", outputs_[index].name, " of ", result.rank,
                                                 " dimensions; expected at most ", engines::max_rank});
    }
    result.name = output_names_[index];
    result.type = type_of(element);
    result.data = data;
    result.bytes = engines::bytes_of(result.type);
    for (std::size_t axis = 0; axis < result.rank; ++axis) result.bytes *= static_cast<std::size_t>(result.shape[axis]);
    LDM_NEED(scope, out.add(result));
    return Status();
}

engines::Engine Session::table() const {
    engines::Engine engine;
    engine.self = const_cast<Session*>(this);
    engine.path = path_.view();
    engine.inputs = inputs_;
    engine.outputs = outputs_;
    engine.notices = notices_;
    engine.maps_weights = maps_weights_;
    engine.run = [](void* self, Scope& scope, View<Tensor> feeds, Results& out) {
        return static_cast<Session*>(self)->run(scope, feeds, out);
    };
    engine.close = [](void* self) {
        auto* session = static_cast<Session*>(self);
        destroy(session->memory(), session);
    };
    return engine;
}

}  // namespace

Status open_session(Scope& scope, Allocator& memory, Library& library, const files::Path& path,
                    const SessionSettings& settings, engines::Engine& out) {
    auto* session = make<Session>(memory, memory, library, path);
    LDM_NEED(scope, session != nullptr);
    Status status = session->open(scope, settings);
    if (status.ok()) {
        out = session->table();
    } else {
        destroy(memory, session);
    }
    return status;
}

}  // namespace ldm::ort
