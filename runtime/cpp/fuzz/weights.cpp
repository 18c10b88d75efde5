// The header of a safetensors file: what is taken lies in the file, without holes, and is found by its name.
#include "core/package/file_rules.h"
#include "core/package/safetensors.h"

#include <algorithm>

#include "fuzz/target.h"

using namespace ldm;

namespace {

void require_layout(const SafetensorsHeader& header, std::uint64_t file_size) {
    std::uint64_t end = header.data_offset;
    REQUIRE(8 <= end && end <= file_size);
    for (const TensorInfo& tensor : header.tensors) {
        const Dtype* dtype = find_dtype(tensor.dtype);
        REQUIRE(dtype != nullptr && tensor.offset == end && tensor.bytes <= file_size - tensor.offset);
        end += tensor.bytes;
        auto bytes = static_cast<std::uint64_t>(dtype->bytes);
        bool is_empty = false;
        for (std::int64_t dim : tensor.shape) {
            REQUIRE(dim >= 0);
            is_empty = is_empty || dim == 0;
        }
        for (std::int64_t dim : tensor.shape) bytes = is_empty ? 0 : bytes * static_cast<std::uint64_t>(dim);
        REQUIRE(bytes == tensor.bytes);
        REQUIRE(header.find(tensor.name) == &tensor);
    }
    REQUIRE(end == file_size);
}

}  // namespace

int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    View<unsigned char> whole{data, size}, first{data, std::min(size, lfs_stub_bytes)};
    std::uint64_t needed = header_bytes(first, size);
    REQUIRE(needed <= size && needed <= 8 + max_header_bytes);
    Bounded its;
    Arena arena(its.memory);
    SafetensorsHeader header;
    Status status =
        read_header(its.scope, arena, {data, static_cast<std::size_t>(needed)}, size, "m.safetensors", header);
    its.require_told(status, "json weights file");
    if (status.ok()) require_layout(header, size);

    // The bytes behind the header are not asked for: one verdict with them.
    Bounded other;
    Arena room(other.memory);
    SafetensorsHeader same;
    Status verdict = read_header(other.scope, room, whole, size, "m.safetensors", same);
    REQUIRE(status.ok() == verdict.ok() && std::string_view(its.failure.text) == other.failure.text);
    return 0;
}
