#include "src/engines/signature.h"

#include <charconv>

#include "core/codes.h"

namespace ldm::engines {

namespace {

// A tensor as "float32 sample (batch, 4, height, width)".
struct Shown {
    char text[400];
    std::size_t size = 0;

    explicit Shown(const TensorSpec* spec) {
        if (spec == nullptr) {
            put("nothing of that name");
            return;
        }
        put(spec->dtype);
        put(" ");
        put(spec->name);
        for (std::size_t index = 0; index < spec->dims.size; ++index) {
            put(index == 0 ? " (" : ", ");
            put(spec->dims[index]);
        }
        put(spec->dims.empty() ? " ()" : ")");
    }
    void put(std::string_view part) {
        part = part.substr(0, sizeof text - size);
        std::memcpy(text + size, part.data(), part.size());
        size += part.size();
    }
    void put(const Dim& dim) {
        char digits[24];
        const char* end = std::to_chars(digits, digits + sizeof digits, dim.size).ptr;
        put(dim.is_named ? dim.axis : std::string_view(digits, static_cast<std::size_t>(end - digits)));
    }
    std::string_view view() const { return {text, size}; }
};

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
        return scope.fail(codes::graph_signature, {path, " has as ", what, " ", Shown(found).view(), ", but the manifest "
                                                   "promises ", Shown(&spec).view(), "; build the package again"});
    }
    return Status();
}

}  // namespace

Status check_graph(Scope& scope, std::string_view path, const ComponentContract& promised, View<TensorSpec> inputs,
                   View<TensorSpec> outputs) {
    LDM_TRY(check_side(scope, path, "input", promised.inputs, inputs));
    for (const TensorSpec& spec : inputs) {
        if (promised.inputs.find(spec.name) != nullptr) continue;
        return scope.fail(codes::graph_signature, {path, " wants the input ", quoted(spec.name), ", which the manifest does "
                                                   "not name; build the package again"});
    }
    return check_side(scope, path, "output", promised.outputs, outputs);
}

}  // namespace ldm::engines
