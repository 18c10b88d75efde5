// The places of an ONNX file's external data.
#include <algorithm>

#include "core/codes.h"
#include "core/json/where.h"
#include "core/package/onnx_file.h"
#include "core/package/protobuf.h"

namespace ldm {

namespace {

using protobuf::Field;
using protobuf::Fields;
using protobuf::Kind;

constexpr std::string_view location_key = "location";
constexpr int deepest = 100;  // messages within one another, as protobuf's own parsers have it

enum class Message : unsigned char { none, model, training, function, graph, node, attribute, sparse, tensor, entry };

// The message in a field, as far as a TensorProto can be inside.
Message child_of(Message message, std::uint64_t field) {
    switch (message) {
        case Message::model:
            return field == 7    ? Message::graph
                   : field == 20 ? Message::training
                   : field == 25 ? Message::function
                                 : Message::none;
        case Message::training: return field == 1 || field == 2 ? Message::graph : Message::none;
        case Message::function: return field == 7 ? Message::node : field == 11 ? Message::attribute : Message::none;
        case Message::graph:
            return field == 1    ? Message::node
                   : field == 5  ? Message::tensor
                   : field == 15 ? Message::sparse
                                 : Message::none;
        case Message::node: return field == 5 ? Message::attribute : Message::none;
        case Message::attribute:
            if (field == 5 || field == 10) return Message::tensor;
            if (field == 6 || field == 11) return Message::graph;
            return field == 22 || field == 23 ? Message::sparse : Message::none;
        case Message::sparse: return field == 1 || field == 2 ? Message::tensor : Message::none;
        case Message::tensor: return field == 13 ? Message::entry : Message::none;
        default: return Message::none;
    }
}

// Looks through a file for data that is elsewhere than in some files.
struct Walk {
    View<std::string_view> data;
    bool found = false;
    std::string_view elsewhere;  // the first such place in alphabetical order

    // False where the file is malformed.
    bool visit(std::string_view content, Message message, int depth) {
        if (message == Message::entry) return visit_entry(content);
        if (depth == deepest) return false;
        Fields fields(content);
        for (Field field; fields.next(field);) {
            Message child = field.kind == Kind::bytes ? child_of(message, field.number) : Message::none;
            // Most parts of a graph, and all its nodes, cannot hold an entry: its key would be among their bytes.
            if (child == Message::none || field.content.find(location_key) == std::string_view::npos) continue;
            if (!visit(field.content, child, depth + 1)) return false;
        }
        return !fields.is_malformed();
    }

    bool visit_entry(std::string_view content) {
        std::string_view key, value;
        Fields fields(content);
        for (Field field; fields.next(field);) {
            if (field.kind != Kind::bytes) continue;
            // A field given twice: the last one counts, as in every protobuf parser.
            if (field.number == 1) key = field.content;
            if (field.number == 2) value = field.content;
        }
        if (fields.is_malformed()) return false;
        if (key != location_key || (found && value >= elsewhere)) return true;
        if (std::find(data.begin(), data.end(), value) != data.end()) return true;
        elsewhere = value;
        found = true;
        return true;
    }
};

}  // namespace

Status check_graph_size(Scope& scope, std::uint64_t bytes, std::string_view weights, std::string_view where) {
    if (bytes <= max_graph_bytes) return Status();
    return json::fail(scope, json::Where(where), codes::file_too_large,
                      {"has ", bytes, " bytes, more than the ", max_graph_bytes,
                       " of a graph without weights; expected those in ", weights});
}

Status check_external_data(Scope& scope, View<unsigned char> graph, View<std::string_view> data,
                           std::string_view where) {
    Walk walk{data, false, {}};
    std::string_view content(reinterpret_cast<const char*>(graph.data), graph.size);
    if (!walk.visit(content, Message::model, 0)) {
        return json::fail(scope, json::Where(where), codes::graph_format, {"is not an ONNX file"});
    }
    if (!walk.found) return Status();
    Status status = json::fail(scope, json::Where(where), codes::graph_external_data,
                               {"keeps data in ", quoted(walk.elsewhere), ", expected only "});
    for (std::size_t file = 0; file < data.size; ++file) {
        scope.failure.add({file == 0 ? "" : " or ", quoted(data[file])});
    }
    scope.failure.add({" in the same folder"});
    return status;
}

}  // namespace ldm
