// The tokens that a text encoder knows: the rows of the table in its ONNX graph that token ids index.
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

constexpr std::string_view same_ids[] = {"Cast", "Identity", "Reshape"};  // whose output holds the ids of their input
constexpr std::string_view same_rows[] = {"Cast", "Identity", "DequantizeLinear"};
constexpr std::size_t most_names = 8;  // of the ids in a graph
constexpr std::size_t most_tables = 8;  // that they index

template <std::size_t N>
bool is_among(const std::string_view (&all)[N], std::string_view text) {
    return std::find(all, all + N, text) != all + N;
}

bool holds(std::string_view content, std::string_view name) { return content.find(name) != std::string_view::npos; }

template <typename Names>
bool holds_any(std::string_view content, const Names& names) {
    return std::any_of(names.begin(), names.end(), [=](std::string_view name) { return holds(content, name); });
}

// The operator of a node, its first two inputs and its first output.
struct Node {
    std::string_view op;
    std::string_view inputs[2];
    std::size_t input_count = 0;
    std::string_view output;
    bool has_output = false;

    // False where the message is malformed.
    bool read(std::string_view message) {
        Fields fields(message);
        for (Field field; fields.next(field);) {
            if (field.kind != Kind::bytes) continue;
            if (field.number == 4) op = field.content;
            if (field.number == 1 && input_count < 2) inputs[input_count++] = field.content;
            if (field.number != 2 || has_output) continue;
            output = field.content;
            has_output = true;
        }
        return !fields.is_malformed();
    }
};

// Looks for the table of one graph. Each function that returns a bool says whether no memory was missing; a malformed
// message is remembered.
class TokenTable {
public:
    explicit TokenTable(Allocator& memory) : nodes_(memory), initialisers_(memory), names_(memory), tables_(memory) {}

    bool read_parts(std::string_view model);
    bool find_tables(std::string_view ids);
    std::optional<std::uint64_t> fewest_rows();
    bool is_malformed() const { return is_malformed_; }

private:
    std::string_view origin_of(std::string_view table);
    bool is_table(std::string_view initialiser);
    std::optional<std::uint64_t> rows_of(std::string_view initialiser);
    bool read_node(std::string_view message, Node& out) {
        bool is_well = out.read(message);
        is_malformed_ = is_malformed_ || !is_well;
        return is_well;
    }

    Array<std::string_view> nodes_, initialisers_;  // messages
    Array<std::string_view> names_;                 // of tensors that hold the ids
    Array<std::string_view> tables_;                // names of initialisers
    bool is_malformed_ = false;
};

bool TokenTable::read_parts(std::string_view model) {
    Fields fields(model);
    for (Field graph; fields.next(graph);) {
        if (graph.kind != Kind::bytes || graph.number != 7) continue;
        Fields parts(graph.content);
        for (Field part; parts.next(part);) {
            if (part.kind != Kind::bytes) continue;
            if (part.number == 1 && !nodes_.push(part.content)) return false;
            if (part.number == 5 && !initialisers_.push(part.content)) return false;
        }
        is_malformed_ = is_malformed_ || parts.is_malformed();
    }
    is_malformed_ = is_malformed_ || fields.is_malformed();
    return true;
}

// Keep the tables that the ids index, by themselves or as another type.
bool TokenTable::find_tables(std::string_view ids) {
    if (!names_.push(ids)) return false;
    for (std::string_view message : nodes_) {
        if (names_.size() > most_names || !holds_any(message, names_)) continue;
        Node node;
        if (!read_node(message, node)) return true;
        auto is_ids = [&](std::string_view name) {
            return std::find(names_.begin(), names_.end(), name) != names_.end();
        };
        if (node.op == "Gather" && node.input_count == 2 && is_ids(node.inputs[1])) {
            bool is_known = std::find(tables_.begin(), tables_.end(), node.inputs[0]) != tables_.end();
            if (!is_known && tables_.size() <= most_tables && !tables_.push(node.inputs[0])) return false;
        } else if (is_among(same_ids, node.op) && node.input_count > 0 && is_ids(node.inputs[0])) {
            if (node.has_output && !is_ids(node.output) && !names_.push(node.output)) return false;
        }
    }
    if (tables_.size() > most_tables) tables_.clear();  // nothing is said plainly
    for (std::string_view& table : tables_) table = origin_of(table);
    return true;
}

// The initialiser that a table is, or is cast from.
std::string_view TokenTable::origin_of(std::string_view table) {
    for (std::size_t index = nodes_.size(); index-- > 0;) {
        Node node;
        if (!holds(nodes_[index], table) || !read_node(nodes_[index], node)) continue;
        if (is_among(same_rows, node.op) && node.has_output && node.output == table && node.input_count > 0) {
            table = node.inputs[0];
        }
    }
    return table;
}

std::optional<std::uint64_t> TokenTable::fewest_rows() {
    std::optional<std::uint64_t> fewest;
    for (std::string_view initialiser : initialisers_) {
        if (!holds_any(initialiser, tables_) || !is_table(initialiser)) continue;
        std::optional<std::uint64_t> rows = rows_of(initialiser);
        if (rows.has_value() && (!fewest.has_value() || *rows < *fewest)) fewest = rows;
    }
    return fewest;
}

bool TokenTable::is_table(std::string_view initialiser) {
    bool is_found = false;
    Fields fields(initialiser);
    for (Field field; fields.next(field);) {
        bool is_name = field.kind == Kind::bytes && field.number == 8;
        is_found = is_found || (is_name && std::find(tables_.begin(), tables_.end(), field.content) != tables_.end());
    }
    is_malformed_ = is_malformed_ || fields.is_malformed();
    return is_found;
}

// The first dimension; writers pack dimensions or give each a field of its own.
std::optional<std::uint64_t> TokenTable::rows_of(std::string_view initialiser) {
    for (Kind kind : {Kind::number, Kind::bytes}) {
        Fields fields(initialiser);
        for (Field field; fields.next(field);) {
            if (field.kind != kind || field.number != 1) continue;
            protobuf::Number rows;
            if (!protobuf::take_number(field.content, rows)) {
                is_malformed_ = true;
                return std::nullopt;
            }
            return rows.is_beyond ? static_cast<std::uint64_t>(-1) : rows.value;
        }
    }
    return std::nullopt;
}

}  // namespace

Status known_tokens(Scope& scope, View<unsigned char> graph, std::string_view ids, std::string_view where,
                    std::optional<std::uint64_t>& out) {
    TokenTable table(scope.memory);
    LDM_NEED(scope, table.read_parts({reinterpret_cast<const char*>(graph.data), graph.size}));
    LDM_NEED(scope, table.find_tables(ids));
    out = table.fewest_rows();
    if (!table.is_malformed()) return Status();
    return json::fail(scope, json::Where(where), codes::graph_format, {"is not an ONNX file"});
}

Status check_vocabulary(Scope& scope, View<unsigned char> graph, std::string_view ids, std::int64_t vocab_size,
                        std::string_view graph_name, std::string_view where) {
    std::optional<std::uint64_t> known;
    LDM_TRY(known_tokens(scope, graph, ids, graph_name, known));
    if (!known.has_value() || static_cast<std::uint64_t>(vocab_size) <= *known) return Status();
    return json::fail(scope, json::Where(where), codes::tokenizer_vocabulary,
                      {"has a tokenizer of ", vocab_size, " tokens for ", graph_name, ", which knows ", *known});
}

}  // namespace ldm
