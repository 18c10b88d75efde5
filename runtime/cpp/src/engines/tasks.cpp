#include "src/engines/tasks.h"

#include <algorithm>

#include "core/codes.h"

namespace ldm::engines {

namespace {

Tensor fed(const ldm::Tensor& tensor) {
    constexpr ElementType types[] = {ElementType::float32, ElementType::int64, ElementType::int32};  // as in the core
    Tensor out;
    out.name = tensor.name.data();  // texts of a manifest end with a NUL
    out.type = types[static_cast<std::size_t>(tensor.type)];
    out.rank = tensor.rank;
    std::copy(tensor.shape, tensor.shape + tensor.rank, out.shape);
    out.data = tensor.data;
    out.bytes = static_cast<std::size_t>(tensor.count()) * bytes_of(out.type);
    return out;
}

}  // namespace

Status evaluate(Scope& scope, Components& components, const Task& task, Results& results, Array<ldm::Tensor>& out) {
    Array<Tensor> feeds(scope.memory);
    for (const ldm::Tensor& input : task.inputs) LDM_NEED(scope, feeds.push(fed(input)));
    const Caching* caching = components.caching_of(task.component);
    bool reads = caching != nullptr && task.artefact == caching->reads;
    LDM_TRY(components.run(scope, task.component, feeds.view(), results, reads ? Part::reading : Part::own));
    for (const ldm::Tensor& wanted : task.outputs) {
        const Tensor* found = results.find(wanted.name);
        if (found == nullptr || found->type != ElementType::float32 || found->rank > std::size(wanted.shape)) {
            return scope.fail(codes::engine_failed, {task.component, " gave no float32 output ", quoted(wanted.name)});
        }
        ldm::Tensor output = wanted;
        output.rank = found->rank;
        std::copy(found->shape, found->shape + found->rank, output.shape);
        output.data = found->data;
        LDM_NEED(scope, out.push(output));
    }
    return Status();
}

}  // namespace ldm::engines
