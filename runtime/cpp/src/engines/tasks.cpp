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

// The last rows of what was kept: where guidance has ended since, the negative prompts' are the first half.
Tensor last_rows(const Tensor& kept, std::int64_t rows) {
    Tensor out = kept;
    std::size_t bytes = kept.bytes / static_cast<std::size_t>(kept.shape[0]) * static_cast<std::size_t>(rows);
    out.shape[0] = rows;
    out.data = static_cast<const char*>(kept.data) + (kept.bytes - bytes);
    out.bytes = bytes;
    return out;
}

// Whether something was kept, of as many rows at least.
bool holds(const Results& kept, std::int64_t rows) {
    View<Tensor> all = kept.view();
    return !all.empty() && std::all_of(all.begin(), all.end(), [&](const Tensor& each) {
        return each.rank > 0 && each.shape[0] >= rows;
    });
}

// Evaluate all of the denoiser, and keep what its other part reads; or that part on what was kept. Inputs that a part
// does not have are not passed on to it.
Status run_cached(Scope& scope, Components& components, const Task& task, const Caching& caching, View<Tensor> all,
                  Results& kept, Results& results) {
    std::int64_t rows = all[0].rank > 0 ? all[0].shape[0] : 1;
    bool is_whole = task.evaluations % caching.interval == 0 || !holds(kept, rows);
    Part part = is_whole ? Part::own : Part::reading;
    const Tensors& read = components.promised_of(task.component, Part::reading).inputs;
    const Tensors& taken = components.promised_of(task.component, part).inputs;
    Array<Tensor> feeds(scope.memory);
    for (const Tensor& feed : all) {
        if (taken.find(feed.name) != nullptr) LDM_NEED(scope, feeds.push(feed));
    }
    for (const Tensor& each : kept.view()) {
        if (!is_whole) LDM_NEED(scope, feeds.push(last_rows(each, rows)));
    }
    LDM_TRY(components.run(scope, task.component, feeds.view(), results, part));
    if (!is_whole) return Status();
    kept.clear();
    for (const Tensor& each : results.view()) {
        bool is_kept = read.find(each.name) != nullptr && find(all, each.name) == nullptr;
        if (is_kept) LDM_NEED(scope, kept.add(each));
    }
    return Status();
}

}  // namespace

Status evaluate(Scope& scope, Components& components, const Task& task, Results& kept, Results& results,
                Array<ldm::Tensor>& out) {
    Array<Tensor> feeds(scope.memory);
    for (const ldm::Tensor& input : task.inputs) LDM_NEED(scope, feeds.push(fed(input)));
    const Caching* caching = components.caching_of(task.component);
    if (caching == nullptr) {
        LDM_TRY(components.run(scope, task.component, feeds.view(), results));
    } else {
        LDM_TRY(run_cached(scope, components, task, *caching, feeds.view(), kept, results));
    }
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
