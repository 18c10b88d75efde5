// What a runtime has to know of an ONNX file before an engine opens it, read from its protobuf encoding: the files that
// it reads, and the tokens that a text encoder knows. Field numbers: onnx.proto3 of ONNX 1.18.
#ifndef LDM_CORE_PACKAGE_ONNX_FILE_H
#define LDM_CORE_PACKAGE_ONNX_FILE_H

#include <cstdint>
#include <optional>
#include <string_view>

#include "core/memory.h"
#include "core/status.h"

namespace ldm {

// A graph without its weights; Stable Diffusion 1.5's UNet has 0.7 MB.
inline constexpr std::uint64_t max_graph_bytes = std::uint64_t{1} << 28;

// Refuse a graph that is larger, before it is read: file.too-large. weights: a file that could hold what it holds.
Status check_graph_size(Scope& scope, std::uint64_t bytes, std::string_view weights, std::string_view where);

// Require that every external tensor of an ONNX file is in one of the files `data` (names) beside it: an engine opens
// whatever file such an entry names. Codes: graph.format, graph.external-data.
Status check_external_data(Scope& scope, View<unsigned char> graph, View<std::string_view> data,
                           std::string_view where);

// How many tokens a graph knows whose input `ids` are token ids: the rows of the table that they index; none where it
// does not say that plainly. graph.format.
Status known_tokens(Scope& scope, View<unsigned char> graph, std::string_view ids, std::string_view where,
                    std::optional<std::uint64_t>& out);

// Require that a text encoder's canonical graph knows all tokens of its tokenizer. graph_name, where: the graph's path
// in the package, and the manifest's. Codes: tokenizer.vocabulary, graph.format.
Status check_vocabulary(Scope& scope, View<unsigned char> graph, std::string_view ids, std::int64_t vocab_size,
                        std::string_view graph_name, std::string_view where);

}  // namespace ldm

#endif
