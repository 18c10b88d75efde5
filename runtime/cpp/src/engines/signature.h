// Checks of a graph's inputs and outputs against the contract when it is opened.
#ifndef LDM_ENGINES_SIGNATURE_H
#define LDM_ENGINES_SIGNATURE_H

#include <string_view>

#include "core/package/contract.h"
#include "core/status.h"

namespace ldm::engines {

// Fail unless the inputs and outputs of the file `path` are those that the contract promises. Code: graph.signature.
Status check_graph(Scope& scope, std::string_view path, const ComponentContract& promised, View<TensorSpec> inputs,
                   View<TensorSpec> outputs);

}  // namespace ldm::engines

#endif
