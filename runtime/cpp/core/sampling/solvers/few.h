// A list of a few values in place. It has room for what the options of solvers allow; what is pushed beyond is dropped.
#ifndef LDM_CORE_SAMPLING_SOLVERS_FEW_H
#define LDM_CORE_SAMPLING_SOLVERS_FEW_H

#include <cstddef>
#include <initializer_list>

namespace ldm::sampling {

template <typename T, std::size_t most>
class Few {
public:
    Few() = default;
    Few(std::initializer_list<T> values) {
        for (const T& value : values) push(value);
    }

    void push(const T& value) {
        if (size_ < most) values_[size_++] = value;
    }
    // A list that goes on with the first `count` of another.
    Few with(const Few& more, std::size_t count = most) const {
        Few all = *this;
        for (std::size_t index = 0; index < count && index < more.size_; ++index) all.push(more.values_[index]);
        return all;
    }
    Few first(std::size_t count) const { return Few().with(*this, count); }

    std::size_t size() const { return size_; }
    T& operator[](std::size_t index) { return values_[index]; }
    const T& operator[](std::size_t index) const { return values_[index]; }
    const T& back() const { return values_[size_ - 1]; }
    const T* begin() const { return values_; }
    const T* end() const { return values_ + size_; }

private:
    T values_[most] = {};
    std::size_t size_ = 0;
};

using Numbers = Few<double, 6>;

}  // namespace ldm::sampling

#endif
