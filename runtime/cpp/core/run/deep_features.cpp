#include "core/run/deep_features.h"

#include <algorithm>
#include <iterator>

#include "core/codes.h"
#include "core/run/counts.h"

namespace ldm {

namespace {

// The numbers of one row.
std::size_t row_of(const Tensor& tensor) { return positive(tensor.count()) / positive(tensor.shape[0]); }

}  // namespace

Status DeepFeatures::begin(Scope& scope, const Manifest& manifest, const Variant* variant) {
    if (variant == nullptr || !variant->run.caching.has_value()) return Status();
    std::string_view denoiser = manifest.contract.denoiser.component;
    caching_ = &*variant->run.caching;
    own_ = manifest.contract.components.find(denoiser);
    const Component& parts = *manifest.components.find(denoiser);
    keeps_ = &promised(manifest, denoiser, *parts.find(caching_->keeps));
    reads_ = &promised(manifest, denoiser, *parts.find(caching_->reads));
    for (const TensorSpec& spec : reads_->inputs) {
        if (own_->inputs.find(spec.name) != nullptr || keeps_->outputs.find(spec.name) == nullptr) continue;
        if (count_ == most || !is_known(spec, manifest.contract.sample().dims[0])) {
            return scope.fail(codes::request_invalid,
                              {"the variant ", variant->name, " keeps ", quoted(spec.name), " of ", denoiser,
                               ", which this version does not; expected ", most,
                               " tensors at most, of float32, with 4 dimensions at most, the first of them the batch"});
        }
        specs_[count_++] = &spec;
    }
    return Status();
}

// Whether a run can tell its shape.
bool DeepFeatures::is_known(const TensorSpec& spec, const Dim& batch) const {
    auto is_size = [&](const Dim& dim) {
        return !dim.is_named || std::any_of(own_->inputs.begin(), own_->inputs.end(), [&](const TensorSpec& input) {
            return std::find(input.dims.begin(), input.dims.end(), dim) != input.dims.end();
        });
    };
    bool has_rows = !spec.dims.empty() && spec.dims.size <= std::size(Tensor().shape) && spec.dims[0] == batch;
    return has_rows && spec.dtype == "float32" && std::all_of(spec.dims.begin(), spec.dims.end(), is_size);
}

// The size of a dimension beside what is fed, which has each axis of the contract that is asked for.
std::int64_t DeepFeatures::size_of(const Dim& dim, View<Tensor> inputs) const {
    if (!dim.is_named) return dim.size;
    for (const Tensor& input : inputs) {
        const TensorSpec* spec = own_->inputs.find(input.name);
        if (spec == nullptr) continue;
        for (std::size_t axis = 0; axis < spec->dims.size && axis < input.rank; ++axis) {
            if (spec->dims[axis] == dim) return input.shape[axis];
        }
    }
    return 1;
}

View<Tensor> DeepFeatures::next(std::size_t evaluations, std::size_t rows, View<Tensor> inputs) {
    is_whole_ = evaluations % positive(caching_->interval) == 0 || kept_rows_ < rows;
    const float* place = values_.data();
    for (std::size_t index = 0; index < count_; ++index) {
        Tensor& its = tensors_[index];
        its = Tensor();
        its.name = specs_[index]->name;
        for (const Dim& dim : specs_[index]->dims) its.shape[its.rank++] = size_of(dim, inputs);
        if (is_whole_) continue;
        its.data = place + row_of(its) * (kept_rows_ - rows);
        place += row_of(its) * kept_rows_;
    }
    return {tensors_, count_};
}

Status DeepFeatures::keep(Scope& scope, View<Tensor> results) {
    kept_rows_ = 0;
    std::size_t count = 0;
    for (std::size_t index = 0; index < count_; ++index) count += positive(tensors_[index].count());
    LDM_NEED(scope, values_.resize(count));
    float* place = values_.data();
    for (std::size_t index = 0; index < count_; ++index) {
        const Tensor& its = tensors_[index];
        std::size_t numbers = positive(its.count());
        auto is_it = [&](const Tensor& each) { return each.name == its.name; };
        std::memcpy(place, std::find_if(results.begin(), results.end(), is_it)->data, numbers * sizeof(float));
        place += numbers;
    }
    kept_rows_ = positive(tensors_[0].shape[0]);
    return Status();
}

}  // namespace ldm
