#include "core/package/contract.h"

#include <algorithm>
#include <cmath>

namespace ldm {

std::size_t Tensors::place_of(std::string_view name) const {
    auto below = [this](std::uint32_t place, std::string_view wanted) { return all[place].name < wanted; };
    const std::uint32_t* found = std::lower_bound(sorted.begin(), sorted.end(), name, below);
    return found != sorted.end() && all[*found].name == name ? *found : none;
}

const TensorSpec* Tensors::find(std::string_view name) const {
    std::size_t place = place_of(name);
    return place == none ? nullptr : &all[place];
}

const TensorSpec* ComponentContract::find(std::string_view name) const {
    const TensorSpec* input = inputs.find(name);
    return input != nullptr ? input : outputs.find(name);
}

float LatentSpec::sampled(float mean, float log_variance, float noise) const {
    float clipped = std::min(std::max(log_variance, -30.0f), 20.0f);
    auto deviation = static_cast<float>(std::exp(static_cast<double>(0.5f * clipped)));  // the same on every machine
    return scaled(mean + deviation * noise);
}

const TensorSpec* Contract::find_tensor(std::string_view component, std::string_view name) const {
    const ComponentContract* found = components.find(component);
    return found == nullptr ? nullptr : found->find(name);
}

const TensorSpec& Contract::tensor(std::string_view component, std::string_view name) const {
    static constexpr TensorSpec nothing;
    const TensorSpec* found = find_tensor(component, name);
    return found == nullptr ? nothing : *found;
}

bool Contract::inpaints() const {
    return std::find(concat.begin(), concat.end(), ConcatChannels::mask) != concat.end();
}

bool Contract::reads(ExtraRule rule) const {
    return std::any_of(denoiser.extra.begin(), denoiser.extra.end(),
                       [=](const auto& each) { return each.value == rule; });
}

std::int64_t Contract::pooled_width() const {
    std::int64_t width = 0;
    for (const auto& [name, rule] : denoiser.extra) {
        if (rule == ExtraRule::pooled_text) width += tensor(denoiser.component, name).dims[1].size;
    }
    return width;
}

bool Contract::encodes_moments() const {
    return tensor(codec.encoder.component, codec.encoder.output).dims[1].is(2 * latent.channels);
}

Sizes Contract::range_of(const Dim& dim) const { return dim.is_named ? range_of(dim.axis) : Sizes{dim.size, dim.size}; }

Sizes Contract::range_of(std::string_view axis) const {
    const Axis* found = axes.find(axis);
    return found == nullptr ? Sizes{0, 0} : Sizes{found->min, found->max};
}

}  // namespace ldm
