// An ONNX file before an engine opens it: the files that it names, and the tokens that it knows.
#include "core/package/onnx_file.h"

#include "fuzz/target.h"

using namespace ldm;

int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    View<unsigned char> graph{data, size};
    Bounded its;
    const std::string_view weights[] = {"model.safetensors"};
    Status status = check_external_data(its.scope, graph, {weights, 1}, "model.onnx");
    its.require_told(status, "graph");
    std::optional<std::uint64_t> known, again;
    Status counted = known_tokens(its.scope, graph, "input_ids", "model.onnx", known);
    its.require_told(counted, "graph");
    if (!counted.ok()) return 0;
    REQUIRE(known_tokens(its.scope, graph, "input_ids", "model.onnx", again).ok() && known == again);
    status = check_vocabulary(its.scope, graph, "input_ids", 517, "model.onnx", "manifest.json");
    its.require_told(status, "tokenizer");
    REQUIRE(status.ok() == (!known.has_value() || *known >= 517));
    return 0;
}
