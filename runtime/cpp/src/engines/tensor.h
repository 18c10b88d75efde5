// Tensors on their way into an engine and out of it.
#ifndef LDM_ENGINES_TENSOR_H
#define LDM_ENGINES_TENSOR_H

#include <cstddef>
#include <cstdint>
#include <string_view>

#include "core/memory.h"
#include "core/status.h"

namespace ldm::engines {

// The first three are those of ldm_element_type.
enum class ElementType : unsigned char { none = 0, float32 = 1, int64 = 2, int32 = 3, float16 = 4, float64 = 5 };

inline std::string_view name_of(ElementType type) {  // numpy's, as in manifests
    constexpr std::string_view names[] = {"no type", "float32", "int64", "int32", "float16", "float64"};
    return names[static_cast<std::size_t>(type)];
}

inline std::size_t bytes_of(ElementType type) {
    constexpr std::size_t bytes[] = {0, 4, 8, 4, 2, 8};
    return bytes[static_cast<std::size_t>(type)];
}

inline constexpr std::size_t max_rank = 8;

// A tensor in C order, whose data somebody else owns.
struct Tensor {
    const char* name = "";
    ElementType type = ElementType::none;
    std::size_t rank = 0;
    std::int64_t shape[max_rank] = {};
    const void* data = nullptr;
    std::size_t bytes = 0;
};

// null: none has this name.
inline const Tensor* find(View<Tensor> tensors, std::string_view name) {
    for (const Tensor& each : tensors) {
        if (name == each.name) return &each;
    }
    return nullptr;
}

// The outputs of one evaluation, in memory of the caller's allocator. Used again, they give back what they held.
class Results {
public:
    explicit Results(Allocator& memory) : memory_(&memory), tensors_(memory) {}
    ~Results() { clear(); }
    Results(const Results&) = delete;
    Results& operator=(const Results&) = delete;

    // Add a copy, its name too.
    [[nodiscard]] bool add(const Tensor& tensor) {
        if (!tensors_.reserve(tensors_.size() + 1)) return false;
        std::size_t name_bytes = std::strlen(tensor.name) + 1;
        auto* block = static_cast<char*>(memory_->allocate(memory_->user, tensor.bytes + name_bytes));
        if (block == nullptr) return false;
        if (tensor.bytes > 0) std::memcpy(block, tensor.data, tensor.bytes);
        std::memcpy(block + tensor.bytes, tensor.name, name_bytes);
        Tensor kept = tensor;
        kept.data = block;
        kept.name = block + tensor.bytes;
        return tensors_.push(kept);
    }
    void clear() {
        for (Tensor& each : tensors_) {
            std::size_t bytes = each.bytes + std::strlen(each.name) + 1;
            memory_->release(memory_->user, const_cast<void*>(each.data), bytes);
        }
        tensors_.clear();
    }

    View<Tensor> view() const { return tensors_.view(); }
    const Tensor* find(std::string_view name) const { return engines::find(view(), name); }

private:
    Allocator* memory_;
    Array<Tensor> tensors_;
};

}  // namespace ldm::engines

#endif
