// Tensors between a run and what evaluates its components.
#ifndef LDM_CORE_RUN_TENSOR_H
#define LDM_CORE_RUN_TENSOR_H

#include <cstdint>
#include <string_view>

namespace ldm {

enum class ElementType { float32, int64, int32 };

// A tensor in C order.
struct Tensor {
    std::string_view name;
    ElementType type = ElementType::float32;
    std::size_t rank = 0;
    std::int64_t shape[4] = {0, 0, 0, 0};
    const void* data = nullptr;

    std::int64_t count() const {
        std::int64_t product = 1;
        for (std::size_t axis = 0; axis < rank; ++axis) product *= shape[axis];
        return product;
    }
};

}  // namespace ldm

#endif
