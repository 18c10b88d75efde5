// Deep features of a denoiser, kept in a run for the next rows of its plan (DeepCache, Ma et al. 2023,
// arXiv:2312.00858). One artefact evaluates all of the network and gives, beside its output, what the deep part made;
// another one takes that in place of the deep part. The twin of the Python runtime's deep_features.py.
#ifndef LDM_CORE_RUN_DEEP_FEATURES_H
#define LDM_CORE_RUN_DEEP_FEATURES_H

#include <cstddef>
#include <string_view>

#include "core/memory.h"
#include "core/package/manifest.h"
#include "core/run/tensor.h"
#include "core/status.h"

namespace ldm {

class DeepFeatures {
public:
    static constexpr std::size_t most = 6;  // tensors that are kept

    explicit DeepFeatures(Allocator& memory) : values_(memory) {}

    // Read what a variant keeps, which both have to outlive this; null: nothing. Code: request.invalid for what no run
    // keeps, which is anything but float32 of 4 dimensions at most, the first of them the batch.
    Status begin(Scope& scope, const Manifest& manifest, const Variant* variant);
    bool are_kept() const { return caching_ != nullptr; }

    // Begin an evaluation: all of the network every few ones, and where more rows are asked for than were kept. Where
    // guidance has ended since, the last rows are read: the negative prompts' are the first half. inputs: of the whole
    // network. Returns what it gives to be kept, without data, or what was kept, for the part that reads that.
    View<Tensor> next(std::size_t evaluations, std::size_t rows, View<Tensor> inputs);
    // Of the evaluation that began: whether it is of all of the network, its artefact, and whether that has an input.
    bool is_whole() const { return are_kept() && is_whole_; }
    std::string_view artefact() const { return is_whole_ ? caching_->keeps : caching_->reads; }
    bool reads(std::string_view input) const {
        return (is_whole_ ? keeps_ : reads_)->inputs.find(input) != nullptr;
    }
    // Keep what a whole evaluation gave. Once memory is missing nothing is kept.
    Status keep(Scope& scope, View<Tensor> results);

private:
    bool is_known(const TensorSpec& spec, const Dim& batch) const;
    std::int64_t size_of(const Dim& dim, View<Tensor> inputs) const;

    const Caching* caching_ = nullptr;
    const ComponentContract *own_ = nullptr, *keeps_ = nullptr, *reads_ = nullptr;
    const TensorSpec* specs_[most] = {};
    Tensor tensors_[most];  // of the last evaluation
    std::size_t count_ = 0;
    std::size_t kept_rows_ = 0;
    bool is_whole_ = false;
    Array<float> values_;   // of `kept_rows_`, one tensor after the other
};

}  // namespace ldm

#endif
