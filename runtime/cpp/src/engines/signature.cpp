#include "src/engines/signature.h"

#include <algorithm>
#include <charconv>

#include "core/codes.h"

namespace ldm::engines {

namespace {

// A short text, cut where it gets long.
struct Shown {
    char text[400];
    std::size_t size = 0;

    void put(std::string_view part) {
        part = part.substr(0, sizeof text - size);
        std::memcpy(text + size, part.data(), part.size());
        size += part.size();
    }
    void put(std::int64_t number) {
        char digits[24];
        const char* end = std::to_chars(digits, digits + sizeof digits, number).ptr;
        put(std::string_view(digits, static_cast<std::size_t>(end - digits)));
    }
    void put(View<Dim> dims) {  // as (batch, 4, height, width)
        put("(");
        for (const Dim& dim : dims) {
            if (&dim != dims.begin()) put(", ");
            dim.is_named ? put(dim.axis) : put(dim.size);
        }
        put(")");
    }
    std::string_view view() const { return {text, size}; }
};

// A tensor as "float32 sample (batch, 4, height, width)".
Shown shown(const TensorSpec* spec) {
    Shown out;
    if (spec == nullptr) {
        out.put("nothing of that name");
        return out;
    }
    out.put(spec->dtype);
    out.put(" ");
    out.put(spec->name);
    out.put(" ");
    out.put(spec->dims);
    return out;
}

Shown shown(View<Dim> dims) {
    Shown out;
    out.put(dims);
    return out;
}

// A shape as numpy shows it.
Shown shape_of(const Tensor& tensor) {
    Shown out;
    out.put("(");
    for (std::size_t axis = 0; axis < tensor.rank; ++axis) {
        if (axis > 0) out.put(", ");
        out.put(tensor.shape[axis]);
    }
    out.put(tensor.rank == 1 ? ",)" : ")");
    return out;
}

// A graph may leave a size open that the contract fixes, never the other way round.
bool fits(const TensorSpec& promised, const TensorSpec& actual) {
    if (promised.dtype != actual.dtype || promised.dims.size != actual.dims.size) return false;
    for (std::size_t index = 0; index < promised.dims.size; ++index) {
        if (!actual.dims[index].is_named && actual.dims[index] != promised.dims[index]) return false;
    }
    return true;
}

const TensorSpec* find(View<TensorSpec> specs, std::string_view name) {
    for (const TensorSpec& spec : specs) {
        if (spec.name == name) return &spec;
    }
    return nullptr;
}

Status check_side(Scope& scope, std::string_view path, std::string_view what, const Tensors& promised,
                  View<TensorSpec> actual) {
    for (const TensorSpec& spec : promised) {
        const TensorSpec* found = find(actual, spec.name);
        if (found != nullptr && fits(spec, *found)) continue;
        return scope.fail(codes::graph_signature, {path, " has as ", what, " ", shown(found).view(),
                                                   ", but the manifest "
                                                   "promises ",
                                                   shown(&spec).view(), "; build the package again"});
    }
    return Status();
}

const AxisSize* find(View<AxisSize> sizes, std::string_view axis) {
    for (const AxisSize& each : sizes) {
        if (each.axis == axis) return &each;
    }
    return nullptr;
}

Status check_names(Scope& scope, std::string_view path, const Tensors& inputs, View<Tensor> feeds) {
    bool are_equal = feeds.size == inputs.all.size;
    for (const TensorSpec& spec : inputs) are_equal = are_equal && find(feeds, spec.name) != nullptr;
    if (are_equal) return Status();
    Array<std::string_view> names(scope.memory);
    for (const Tensor& feed : feeds) LDM_NEED(scope, names.push(feed.name));
    std::sort(names.begin(), names.end());
    Status status = scope.fail(codes::engine_failed, {path, " was given ", names.empty() ? "nothing" : ""});
    for (const std::string_view& name : names) scope.failure.add({&name == names.begin() ? "" : ", ", name});
    scope.failure.add({"; it takes "});
    for (const TensorSpec& spec : inputs) scope.failure.add({&spec == inputs.begin() ? "" : ", ", spec.name});
    return status;
}

Status check_size(Scope& scope, std::string_view path, const Tensor& feed, const Dim& dim, std::int64_t size,
                  const Contract& contract, Array<AxisSize>& sizes) {
    const AxisSize* known = dim.is_named ? find(sizes.view(), dim.axis) : nullptr;
    Sizes range = known != nullptr ? Sizes{known->size, known->size} : contract.range_of(dim);
    if (dim.is_named && known == nullptr) LDM_NEED(scope, sizes.push({dim.axis, size}));
    if (range.min <= size && size <= range.max) return Status();
    Status status =
        scope.fail(codes::engine_failed, {path, " was given ", feed.name, " of shape ", shape_of(feed).view(), ": ",
                                          size, " where it takes ", range.min});
    if (range.min != range.max) scope.failure.add({" to ", range.max});
    if (dim.is_named) scope.failure.add({" for ", dim.axis});
    return status;
}

}  // namespace

Status check_graph(Scope& scope, std::string_view path, const ComponentContract& promised, View<TensorSpec> inputs,
                   View<TensorSpec> outputs) {
    LDM_TRY(check_side(scope, path, "input", promised.inputs, inputs));
    for (const TensorSpec& spec : inputs) {
        if (promised.inputs.find(spec.name) != nullptr) continue;
        return scope.fail(codes::graph_signature, {path, " wants the input ", quoted(spec.name),
                                                   ", which the manifest does "
                                                   "not name; build the package again"});
    }
    return check_side(scope, path, "output", promised.outputs, outputs);
}

Status check_feeds(Scope& scope, std::string_view path, const Tensors& inputs, const Contract& contract,
                   View<Tensor> feeds, Array<AxisSize>& sizes) {
    LDM_TRY(check_names(scope, path, inputs, feeds));
    for (const TensorSpec& spec : inputs) {
        const Tensor& feed = *find(feeds, spec.name);
        if (name_of(feed.type) != spec.dtype || feed.rank != spec.dims.size) {
            return scope.fail(codes::engine_failed, {path, " was given ", spec.name, " as ", name_of(feed.type),
                                                     " of shape ", shape_of(feed).view(), "; it takes ", spec.dtype,
                                                     " of shape ", shown(spec.dims).view()});
        }
        for (std::size_t axis = 0; axis < feed.rank; ++axis) {
            LDM_TRY(check_size(scope, path, feed, spec.dims[axis], feed.shape[axis], contract, sizes));
        }
    }
    return Status();
}

Status check_results(Scope& scope, std::string_view path, const Tensors& outputs, View<AxisSize> sizes,
                     const Results& results) {
    for (const TensorSpec& spec : outputs) {
        const Tensor* result = results.find(spec.name);
        if (result == nullptr) return scope.fail(codes::engine_failed, {path, " made no ", spec.name});
        bool is_right = name_of(result->type) == spec.dtype && result->rank == spec.dims.size;
        for (std::size_t axis = 0; is_right && axis < result->rank; ++axis) {
            const Dim& dim = spec.dims[axis];
            const AxisSize* known = dim.is_named ? find(sizes, dim.axis) : nullptr;
            is_right =
                dim.is_named ? known == nullptr || known->size == result->shape[axis] : dim.size == result->shape[axis];
        }
        if (is_right) continue;
        Status status =
            scope.fail(codes::engine_failed, {path, " made ", spec.name, " as ", name_of(result->type), " of shape ",
                                              shape_of(*result).view(), ", which is not what the contract says of "});
        for (const AxisSize& each : sizes)
            scope.failure.add({&each == sizes.begin() ? "" : ", ", each.axis, " ", each.size});
        return status;
    }
    return Status();
}

}  // namespace ldm::engines
