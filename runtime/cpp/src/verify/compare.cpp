#include "src/verify/compare.h"

#include <algorithm>

#include "core/codes.h"
#include "core/sampling/arithmetic.h"
#include "core/text/words.h"
#include "src/verify/metrics.h"

namespace ldm::verify {

namespace {

constexpr Tolerance of_fp32{1e-5, 60.0, 60.0}, of_fp16{2e-2, 45.0, 40.0}, of_bf16{1.5e-1, 30.0, 25.0};
// Of the relative RMS that was recorded of a lossy form; of a TensorRT plan's, which was emulated.
constexpr double recorded_factor = 1.2, emulated_factor = 3.0;

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

class Comparison {
public:
    Comparison(Scope& scope, Arena& arena, Reference& reference, const Artefact& artefact, Array<CaseResult>& out)
        : scope_(scope),
          arena_(arena),
          reference_(reference),
          artefact_(artefact),
          out_(out),
          expected_(scope.memory) {}

    Status compare(const engines::Engine& engine, const Case& its) {
        engines::Results results(scope_.memory);
        std::string_view failure;
        Status status = evaluate(engine, its, results);
        if (!status.ok()) {
            if (status.code() == std::string_view(codes::other_memory)) return status;
            LDM_TRY(Words(scope_.memory).add(std::string_view(scope_.failure.text)).keep(scope_, arena_, failure));
            scope_.failure.clear();
        }
        for (const Stored& output : its.outputs) LDM_TRY(judge(its, output, results.find(output.name), failure));
        return Status();
    }

private:
    Status evaluate(const engines::Engine& engine, const Case& its, engines::Results& results) {
        Array<engines::Tensor> feeds(scope_.memory);
        Arena data(scope_.memory);
        Loaded loaded(scope_.memory);
        for (const Stored& input : its.inputs) {
            LDM_TRY(reference_.read(scope_, input, loaded));
            if (loaded.tensor.type == engines::ElementType::none) {
                return scope_.fail(codes::engine_failed,
                                   {input.name, " is ", input.tensor->dtype, ", which no engine takes"});
            }
            void* kept = data.take(loaded.content.size(), alignof(std::max_align_t));
            LDM_NEED(scope_, kept != nullptr);
            std::memcpy(kept, loaded.content.data(), loaded.content.size());
            loaded.tensor.data = kept;
            LDM_NEED(scope_, feeds.push(loaded.tensor));
        }
        return engine.run(engine.self, scope_, feeds.view(), results);
    }

    Status judge(const Case& its, const Stored& output, const engines::Tensor* value, std::string_view failure) {
        std::optional<Tolerance> lossy = lossy_tolerance(artefact_);
        CaseResult result;
        result.component = its.component;
        result.artefact = artefact_.name;
        result.name = its.name;
        result.output = output.name;
        result.shape = output.tensor->shape;
        result.tolerance = lossy ? lossy->relative_rms : its.tolerance;
        std::string_view problem = failure;
        if (problem.empty()) LDM_TRY(find_problem(output, value, problem));
        if (!problem.empty()) {
            result.problem = problem;
        } else {
            LDM_TRY(measure(output, *value, result));
        }
        LDM_NEED(scope_, out_.push(result));
        return Status();
    }

    // Why an output cannot be compared at all.
    Status find_problem(const Stored& output, const engines::Tensor* value, std::string_view& out) {
        if (value == nullptr) {
            out = "the engine did not return this output";
            return Status();
        }
        View<std::int64_t> shape = output.tensor->shape;
        if (value->type != engines::ElementType::float32 || !has_shape(*value, shape)) {
            Words words(scope_.memory);
            words.add("it is ", engines::name_of(value->type), " ");
            add_shape(words, value->shape, value->rank);
            words.add(", expected float32 ");
            add_shape(words, shape.data, shape.size);
            return words.keep(scope_, arena_, out);
        }
        bool is_finite = sampling::all_finite(static_cast<const float*>(value->data), value->bytes / sizeof(float));
        if (!is_finite) out = "it holds NaN or infinity";
        return Status();
    }

    Status measure(const Stored& output, const engines::Tensor& value, CaseResult& result) {
        LDM_TRY(reference_.read(scope_, output, expected_));
        std::size_t samples = value.rank == 0 ? 1 : static_cast<std::size_t>(value.shape[0]);
        Figures figures = compare_samples(static_cast<const float*>(value.data), expected_.floats(), samples,
                                          expected_.count() / samples);
        result.relative_rms = finite_or_none(figures.relative_rms);
        result.max_abs = finite_or_none(figures.max_abs);
        result.psnr = finite_or_none(figures.psnr);
        result.passed = figures.relative_rms <= result.tolerance;
        return Status();
    }

    Scope& scope_;
    Arena& arena_;
    Reference& reference_;
    const Artefact& artefact_;
    Array<CaseResult>& out_;
    Loaded expected_;
};

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

Status compare_cases(Scope& scope, Arena& arena, const engines::Engine& engine, Reference& reference,
                     std::string_view component, const Artefact& artefact, Array<CaseResult>& out) {
    Comparison comparison(scope, arena, reference, artefact, out);
    for (const Case& each : reference.cases()) {
        if (each.component == component) LDM_TRY(comparison.compare(engine, each));
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
