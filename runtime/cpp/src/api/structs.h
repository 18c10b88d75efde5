// Structures of the interface, which may be those of an older or a newer header than this library's: struct_size says
// how long they are. A shorter one has the fields of its time; of a longer one, what is not known here must be zero. (A
// field may be added in what was padding at the end: the init function has cleared that.)
#ifndef LDM_API_STRUCTS_H
#define LDM_API_STRUCTS_H

#include <cstddef>
#include <cstring>

namespace ldm::api {

// No structure of any version is longer.
constexpr size_t longest_struct = 4096;

// Whether a version of T may be that long: it never ends within a field, as no field is larger than T's alignment.
template <typename T>
constexpr bool is_size_of(size_t struct_size) {
    return struct_size >= sizeof(size_t) && struct_size <= longest_struct && struct_size % alignof(T) == 0;
}

// Whether a structure of the caller's was begun.
template <typename T>
bool is_begun(const T* given) {
    return given != nullptr && is_size_of<T>(given->struct_size);
}

// Write a structure of the caller's, as much of it as there is.
template <typename T>
void hand_out(T value, T& out) {
    size_t size = out.struct_size, known = size < sizeof value ? size : sizeof value;
    value.struct_size = size;
    std::memset(reinterpret_cast<char*>(&out) + known, 0, size - known);
    std::memcpy(static_cast<void*>(&out), &value, known);
}

// Begin a structure: all zero but what `fill` sets. One of no version's size is marked as such.
template <typename T, typename Fill>
void begin(T* out, size_t struct_size, Fill fill) {
    if (out == nullptr || struct_size < sizeof(size_t)) return;
    if (!is_size_of<T>(struct_size)) {
        out->struct_size = 0;
        return;
    }
    T value;
    std::memset(static_cast<void*>(&value), 0, sizeof value);
    fill(value);
    out->struct_size = struct_size;
    hand_out(value, *out);
}

// Copy what the caller filled into a structure of this version; null: nothing was filled. False for what was not begun,
// or says more than this library knows.
template <typename T>
bool take(const T* given, void (*init)(T*, size_t), T& out) {
    init(&out, sizeof out);
    if (given == nullptr) return true;
    if (!is_begun(given)) return false;
    size_t size = given->struct_size, known = size < sizeof out ? size : sizeof out;
    for (size_t place = known; place < size; ++place) {
        if (reinterpret_cast<const char*>(given)[place] != 0) return false;
    }
    std::memcpy(static_cast<void*>(&out), given, known);
    out.struct_size = sizeof out;
    return true;
}

}  // namespace ldm::api

#endif
