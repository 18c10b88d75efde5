#include "src/verify/compare.h"

#include <algorithm>

#include "core/codes.h"
#include "core/sampling/arithmetic.h"
#include "core/text/words.h"

namespace ldm::verify {

namespace {

constexpr Tolerance of_fp32{1e-5, 60.0, 60.0}, of_fp16{2e-2, 45.0, 40.0}, of_bf16{1.5e-1, 30.0, 25.0};
// Of the relative RMS that was recorded of a TensorRT plan, which was emulated.
constexpr double emulated_factor = 3.0;

const Tolerance* tolerance_of(Precision precision) {
    switch (precision) {
        case Precision::fp32: return &of_fp32;
        case Precision::fp16: return &of_fp16;
        case Precision::bf16: return &of_bf16;
        case Precision::int8:
        case Precision::int4: return nullptr;  // a variant has the error, and no engine picks it by itself
    }
    return nullptr;
}

void add_shape(Words& words, const std::int64_t* sizes, std::size_t rank) {
    words.add("(");
    for (std::size_t axis = 0; axis < rank; ++axis) words.add(axis == 0 ? "" : ", ", sizes[axis]);
    words.add(rank == 1 ? ",)" : ")");
}

bool has_shape(const engines::Tensor& tensor, View<std::int64_t> shape) {
    return tensor.rank == shape.size && std::equal(shape.begin(), shape.end(), tensor.shape);
}

// Why an output cannot be compared at all; "": it can be.
Status find_problem(Scope& scope, Arena& arena, const engines::Tensor* value, const engines::Tensor& expected,
                    std::string_view& out) {
    if (value == nullptr) {
        out = "the engine did not return this output";
        return Status();
    }
    View<std::int64_t> shape{expected.shape, expected.rank};
    if (value->type != engines::ElementType::float32 || !has_shape(*value, shape)) {
        Words words(scope.memory);
        words.add("it is ", engines::name_of(value->type), " ");
        add_shape(words, value->shape, value->rank);
        words.add(", expected float32 ");
        add_shape(words, shape.data, shape.size);
        return words.keep(scope, arena, out);
    }
    if (!are_finite(*value)) out = "it holds NaN or infinity";
    return Status();
}

// Nothing is near what is not finite, which an engine may have made.
void measure(const engines::Tensor& value, const engines::Tensor& expected, CaseResult& result) {
    if (!are_finite(expected)) return;
    Figures figures = compare_tensors(value, expected);
    result.relative_rms = finite_or_none(figures.relative_rms);
    result.max_abs = finite_or_none(figures.max_abs);
    result.psnr = finite_or_none(figures.psnr);
    result.passed = figures.relative_rms <= result.tolerance;
}

// Run a case and judge its outputs.
Status compare_case(Scope& scope, Arena& arena, const engines::Engine& engine, Reference& reference, const Case& its,
                    const Artefact& artefact, Array<CaseResult>& out) {
    std::optional<Tolerance> lossy = lossy_tolerance(artefact);
    engines::Results results(scope.memory);
    Feeds feeds(scope.memory);
    std::string_view failure;
    Status status = feeds.read(scope, reference, its);
    if (status.ok()) status = engine.run(engine.self, scope, feeds.view(), results);
    if (!status.ok()) {
        if (status.code() == std::string_view(codes::other_memory)) return status;
        LDM_TRY(Words(scope.memory).add(std::string_view(scope.failure.text)).keep(scope, arena, failure));
        scope.failure.clear();
    }
    Loaded expected(scope.memory);
    for (const Stored& output : its.outputs) {
        LDM_TRY(reference.read(scope, output, expected));
        Judged judged{its.component, artefact.name, its.name, output.name,
                      lossy ? lossy->relative_rms : its.tolerance};
        LDM_TRY(judge(scope, arena, judged, results.find(output.name), expected.tensor, failure, out));
    }
    return Status();
}

}  // namespace

Tolerance exact_tolerance() { return of_fp32; }

std::optional<Tolerance> lossy_tolerance(const Artefact& artefact) {
    const Tolerance* row = tolerance_of(artefact.precision);
    if (artefact.exactness == Exactness::exact || row == nullptr || !artefact.difference) return std::nullopt;
    double factor = artefact.requires_ ? emulated_factor : recorded_factor;
    double recorded = std::max(of_fp32.relative_rms, factor * artefact.difference->relative_rms);
    Tolerance its = *row;
    its.relative_rms = std::min(its.relative_rms, recorded);
    return its;
}

bool are_finite(const engines::Tensor& tensor) {
    return sampling::all_finite(static_cast<const float*>(tensor.data), tensor.bytes / sizeof(float));
}

Figures compare_tensors(const engines::Tensor& value, const engines::Tensor& expected) {
    std::size_t samples = value.rank == 0 ? 1 : static_cast<std::size_t>(value.shape[0]);
    return compare_samples(static_cast<const float*>(value.data), static_cast<const float*>(expected.data), samples,
                           value.bytes / sizeof(float) / samples);
}

Status Feeds::read(Scope& scope, Reference& reference, const Case& its) {
    Loaded loaded(scope.memory);
    for (const Stored& input : its.inputs) {
        LDM_TRY(reference.read(scope, input, loaded));
        if (loaded.tensor.type == engines::ElementType::none) {
            return scope.fail(codes::engine_failed,
                              {input.name, " is ", input.tensor->dtype, ", which no engine takes"});
        }
        void* kept = data_.take(loaded.content.size(), alignof(std::max_align_t));
        LDM_NEED(scope, kept != nullptr);
        std::memcpy(kept, loaded.content.data(), loaded.content.size());
        loaded.tensor.data = kept;
        LDM_NEED(scope, feeds_.push(loaded.tensor));
    }
    return Status();
}

Status judge(Scope& scope, Arena& arena, const Judged& what, const engines::Tensor* value,
             const engines::Tensor& expected, std::string_view failure, Array<CaseResult>& out) {
    CaseResult result;
    result.component = what.component;
    result.artefact = what.artefact;
    result.name = what.name;
    result.output = what.output;
    result.tolerance = what.tolerance;
    LDM_NEED(scope, arena.copy(expected.shape, expected.rank, result.shape));
    std::string_view problem = failure;
    if (problem.empty()) LDM_TRY(find_problem(scope, arena, value, expected, problem));
    if (!problem.empty()) {
        result.problem = problem;
    } else {
        measure(*value, expected, result);
    }
    LDM_NEED(scope, out.push(result));
    return Status();
}

Status compare_cases(Scope& scope, Arena& arena, const engines::Engine& engine, Reference& reference,
                     std::string_view component, const Artefact& artefact, Array<CaseResult>& out) {
    for (const Case& each : reference.cases()) {
        if (each.component != component) continue;
        LDM_TRY(compare_case(scope, arena, engine, reference, each, artefact, out));
    }
    return Status();
}

Status add_uncompared(Scope& scope, Arena& arena, const Reference& reference, std::string_view component,
                      const Artefact& artefact, std::string_view problem, Array<CaseResult>& out) {
    CaseResult result;
    result.component = component;
    result.artefact = artefact.name;
    result.name = "opening";
    result.output = "graph";
    result.tolerance = 1.0;
    for (const Case& each : reference.cases()) {
        if (each.component == component) result.tolerance = std::min(result.tolerance, each.tolerance);
    }
    LDM_TRY(Words(scope.memory).add(problem).keep(scope, arena, result.problem.emplace()));
    LDM_NEED(scope, out.push(result));
    return Status();
}

}  // namespace ldm::verify
