// Checks of inputs and outputs against the contract: when a graph is opened, before every run, and after it.
#ifndef LDM_ENGINES_SIGNATURE_H
#define LDM_ENGINES_SIGNATURE_H

#include <string_view>

#include "core/package/contract.h"
#include "core/status.h"
#include "src/engines/tensor.h"

namespace ldm::engines {

// Fail unless the inputs and outputs of the file `path` are those that the contract promises. Code: graph.signature.
Status check_graph(Scope& scope, std::string_view path, const ComponentContract& promised, View<TensorSpec> inputs,
                   View<TensorSpec> outputs);

// The size of an axis of the contract in one evaluation.
struct AxisSize {
    std::string_view axis;
    std::int64_t size;
};

// Find the size of every axis in `feeds`, for an engine that does not check itself. Fail for an input that is missing
// or not known, of another type or rank, with a fixed dimension of another size, or with an axis outside of its range
// or of two sizes. Code: engine.failed.
Status check_feeds(Scope& scope, std::string_view path, const Tensors& inputs, const Contract& contract,
                   View<Tensor> feeds, Array<AxisSize>& sizes);

// Fail if an output that is promised is missing, or has another type or shape than follows from the axes of the inputs.
// Code: engine.failed.
Status check_results(Scope& scope, std::string_view path, const Tensors& outputs, View<AxisSize> sizes,
                     const Results& results);

}  // namespace ldm::engines

#endif
