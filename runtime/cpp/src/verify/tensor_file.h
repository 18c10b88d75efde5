// A safetensors file of a proof. Nothing of it is trusted, each tensor has a name that is looked for, and one at a time
// is read.
#ifndef LDM_VERIFY_TENSOR_FILE_H
#define LDM_VERIFY_TENSOR_FILE_H

#include <cstdint>
#include <string_view>

#include "core/memory.h"
#include "core/package/safetensors.h"
#include "core/status.h"
#include "core/text/words.h"
#include "src/engines/tensor.h"
#include "src/files/system.h"

namespace ldm::verify {

// A tensor of a case, by its name in the graph.
struct Stored {
    std::string_view name;
    const TensorInfo* tensor = nullptr;
};

// A tensor that was read.
struct Loaded {
    explicit Loaded(Allocator& memory) : content(memory) {}
    Array<char> content;
    engines::Tensor tensor;

    const float* floats() const { return reinterpret_cast<const float*>(content.data()); }
    std::size_t count() const { return content.size() / sizeof(float); }
};

// Put a shape as Python's list.
Words& add_list(Words& words, View<std::int64_t> shape);

class TensorFile {
public:
    explicit TensorFile(Allocator& memory) : arena_(memory), order_(memory), used_(memory) {}

    // Read the header, once, and the text that its metadata has for a key, parsed. what: the file is, "a reference".
    // Codes: file.*, json.*, weights.*; proof.invalid where there is no such text.
    Status open(Scope& scope, const files::Path& path, std::string_view key, std::string_view what, json::Value& out);
    // Find a tensor by the parts of its name, once: proof.invalid where there is none that was not found before.
    Status take(Scope& scope, std::initializer_list<std::string_view> key, std::string_view name, Stored& out);
    // Fail where a tensor was not found: proof.invalid.
    Status require_none_left(Scope& scope) const;
    // Read a tensor, whose type is none where no engine takes it. Codes: file.*.
    Status read(Scope& scope, const Stored& stored, Loaded& out);

    // Fail with the file's path and the rest of the sentence: proof.invalid.
    Status refuse(Scope& scope, std::initializer_list<Piece> what) const;
    std::string_view metadata_place() const { return place_; }  // for sentences
    Arena& arena() { return arena_; }

private:
    Status read_header(Scope& scope);

    Arena arena_;
    files::ReadFile file_;
    files::Path path_;
    std::string_view place_;
    SafetensorsHeader tensors_;
    Array<std::uint32_t> order_;  // of the tensors, by name
    Array<bool> used_;
};

}  // namespace ldm::verify

#endif
