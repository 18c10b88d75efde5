// The header of a safetensors file, read strictly from its first bytes.
//
// Format (https://github.com/huggingface/safetensors#format): eight bytes, the header's length N as little-endian
// uint64; N bytes of JSON, `{name: {"dtype", "shape", "data_offsets": [begin, end]}}` and perhaps `"__metadata__":
// {str: str}`, padded with spaces; then the data, little-endian and C order, offsets counted from its start, without
// holes.
#ifndef LDM_CORE_PACKAGE_SAFETENSORS_H
#define LDM_CORE_PACKAGE_SAFETENSORS_H

#include <cstdint>
#include <string_view>

#include "core/json/fields.h"
#include "core/memory.h"
#include "core/status.h"

namespace ldm {

struct Dtype {
    std::string_view name;
    std::int64_t bytes;  // of one value
};

inline constexpr std::string_view dtype_names = "F64, I64, F32, I32, F16, BF16, F8_E4M3, F8_E5M2, I8, U8, BOOL";

inline constexpr std::size_t dtype_count = 11;

// Null for a type that is not supported.
const Dtype* find_dtype(std::string_view name);

// One tensor of a file: `offset` counts from the start of the *file*, as ONNX external data does.
struct TensorInfo {
    std::string_view name;
    std::string_view dtype;
    View<std::int64_t> shape;
    std::uint64_t offset;
    std::uint64_t bytes;
};

struct SafetensorsHeader {
    View<TensorInfo> tensors;  // in file order
    json::Map<std::string_view> metadata;
    std::uint64_t data_offset;  // of the first tensor in the file

    // By its name, in the time of a look at each; null where there is none.
    const TensorInfo* find(std::string_view name) const;
};

inline constexpr std::uint64_t max_header_bytes = std::uint64_t{16} << 20;  // a model of 10,000 tensors needs 1.5 MB

// How many bytes of a file `read_header` needs to see, of one that begins with these, at least 8 where it has them.
// Never more than 8 + max_header_bytes; what is wrong with a file is for `read_header` to say.
std::uint64_t header_bytes(View<unsigned char> beginning, std::uint64_t file_size);

// Read and check names, types, shapes and places of all tensors. beginning: of the file, as many bytes as
// `header_bytes` says, or more. where: the file's name, for sentences. Codes: file.lfs-stub, weights.header,
// weights.tensor, weights.layout, json.*.
Status read_header(Scope& scope, Arena& arena, View<unsigned char> beginning, std::uint64_t file_size,
                   std::string_view where, SafetensorsHeader& out);

}  // namespace ldm

#endif
