// Memory: one allocator that the host may supply, and what is built on it. Nothing here aborts: every way to get
// memory can say that there is none.
#ifndef LDM_CORE_MEMORY_H
#define LDM_CORE_MEMORY_H

#include <cstddef>
#include <cstring>
#include <new>
#include <type_traits>

namespace ldm {

// Where all memory comes from. Blocks are aligned for every type of C. Threads that share a package share its
// allocator.
struct Allocator {
    void* (*allocate)(void* user, std::size_t bytes);           // null where no memory is left
    void (*release)(void* user, void* block, std::size_t bytes);  // never called with null
    void* user;
};

// malloc and free.
Allocator system_allocator();

// A read-only run of values that somebody else owns.
template <typename T>
struct View {
    const T* data = nullptr;
    std::size_t size = 0;

    const T* begin() const { return data; }
    const T* end() const { return data + size; }
    const T& operator[](std::size_t index) const { return data[index]; }
    bool empty() const { return size == 0; }
};

// A growable array of plain values. What grows it returns false where no memory is left, and leaves it as it was.
template <typename T>
class Array {
    static_assert(std::is_trivially_copyable_v<T>, "values are moved as bytes");
    static_assert(alignof(T) <= alignof(std::max_align_t));

public:
    explicit Array(Allocator& memory) : memory_(&memory) {}
    ~Array() { clear(); }
    Array(Array&& other) noexcept : memory_(other.memory_), data_(other.data_), size_(other.size_), room_(other.room_) {
        other.data_ = nullptr;
        other.size_ = other.room_ = 0;
    }
    Array& operator=(Array&& other) noexcept {
        if (this != &other) {
            clear();
            new (this) Array(static_cast<Array&&>(other));
        }
        return *this;
    }
    Array(const Array&) = delete;
    Array& operator=(const Array&) = delete;

    [[nodiscard]] bool reserve(std::size_t room) {
        if (room <= room_) return true;
        if (room > static_cast<std::size_t>(-1) / 2 / sizeof(T)) return false;
        auto* data = static_cast<T*>(memory_->allocate(memory_->user, room * sizeof(T)));
        if (data == nullptr) return false;
        if (size_ > 0) std::memcpy(static_cast<void*>(data), data_, size_ * sizeof(T));
        release();
        data_ = data;
        room_ = room;
        return true;
    }
    // New values are zero bytes.
    [[nodiscard]] bool resize(std::size_t size) {
        if (!reserve(size)) return false;
        if (size > size_) std::memset(static_cast<void*>(data_ + size_), 0, (size - size_) * sizeof(T));
        size_ = size;
        return true;
    }
    [[nodiscard]] bool push(const T& value) { return append(&value, 1); }
    // values: not of this array.
    [[nodiscard]] bool append(const T* values, std::size_t count) {
        if (count > room_ - size_) {
            std::size_t room = room_ + room_ / 2 + 8;
            if (!reserve(room < size_ + count ? size_ + count : room)) return false;
        }
        if (count > 0) std::memcpy(static_cast<void*>(data_ + size_), values, count * sizeof(T));
        size_ += count;
        return true;
    }
    [[nodiscard]] bool append(View<T> values) { return append(values.data, values.size); }
    void shrink(std::size_t size) { size_ = size < size_ ? size : size_; }
    void clear() {
        release();
        data_ = nullptr;
        size_ = room_ = 0;
    }

    T* data() { return data_; }
    const T* data() const { return data_; }
    std::size_t size() const { return size_; }
    bool empty() const { return size_ == 0; }
    T& operator[](std::size_t index) { return data_[index]; }
    const T& operator[](std::size_t index) const { return data_[index]; }
    T* begin() { return data_; }
    T* end() { return data_ + size_; }
    const T* begin() const { return data_; }
    const T* end() const { return data_ + size_; }
    T& back() { return data_[size_ - 1]; }
    View<T> view() const { return {data_, size_}; }

private:
    void release() {
        if (data_ != nullptr) memory_->release(memory_->user, data_, room_ * sizeof(T));
    }

    Allocator* memory_;
    T* data_ = nullptr;
    std::size_t size_ = 0;
    std::size_t room_ = 0;
};

// Memory that is given back all at once: what a package or a plan is made of. Its values have no destructors.
class Arena {
public:
    explicit Arena(Allocator& memory) : memory_(&memory) {}
    ~Arena() { clear(); }
    Arena(const Arena&) = delete;
    Arena& operator=(const Arena&) = delete;

    // Null where no memory is left. The bytes are anything.
    void* take(std::size_t bytes, std::size_t alignment);

    // `count` values, each as T() makes it. Null where no memory is left; never null for none.
    template <typename T>
    T* make(std::size_t count = 1) {
        static_assert(std::is_trivially_destructible_v<T>, "an arena calls no destructors");
        if (count > static_cast<std::size_t>(-1) / 2 / sizeof(T)) return nullptr;
        void* block = take(count * sizeof(T), alignof(T));
        if (block == nullptr) return nullptr;
        T* values = static_cast<T*>(block);
        for (std::size_t index = 0; index < count; ++index) new (values + index) T();
        return values;
    }

    // A copy of values. `copied` is false where no memory is left.
    template <typename T>
    [[nodiscard]] bool copy(const T* values, std::size_t count, View<T>& out) {
        static_assert(std::is_trivially_copyable_v<T>);
        T* block = static_cast<T*>(take(count * sizeof(T), alignof(T)));
        if (block == nullptr) return false;
        if (count > 0) std::memcpy(static_cast<void*>(block), values, count * sizeof(T));
        out = {block, count};
        return true;
    }

    Allocator& memory() { return *memory_; }
    void clear();

private:
    struct Chunk;
    Allocator* memory_;
    Chunk* last_ = nullptr;
    std::size_t used_ = 0;  // bytes of the last chunk
};

// Make a value on the allocator, and take it down again.
template <typename T, typename... Arguments>
T* make(Allocator& memory, Arguments&&... arguments) {
    void* block = memory.allocate(memory.user, sizeof(T));
    return block == nullptr ? nullptr : new (block) T(static_cast<Arguments&&>(arguments)...);
}

template <typename T>
void destroy(Allocator& memory, T* value) {
    if (value == nullptr) return;
    value->~T();
    memory.release(memory.user, value, sizeof(T));
}

}  // namespace ldm

#endif
