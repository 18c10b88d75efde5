#include "src/engines/onnxruntime/fallbacks.h"

#include "core/codes.h"
#include "core/text/words.h"

namespace ldm::ort {

namespace {

constexpr std::string_view cpu = "CPUExecutionProvider";
// Operators on shapes, which ONNX Runtime leaves on the CPU on purpose: copying them to a device would take longer.
constexpr std::string_view on_shapes[] = {
    "Shape", "Size", "Gather", "Concat", "Unsqueeze", "Squeeze",         "Slice", "Cast",
    "Add",   "Sub",  "Mul",    "Div",    "Constant",  "ConstantOfShape", "Range", "Reshape"};

struct Count {
    std::string_view op;
    std::size_t count;
};

bool is_on_shapes(std::string_view op) {
    for (std::string_view each : on_shapes) {
        if (each == op) return true;
    }
    return false;
}

struct Assignment {
    explicit Assignment(Allocator& memory) : left(memory) {}

    std::size_t nodes = 0, on_cpu = 0;
    std::size_t total_left = 0;
    Array<Count> left;  // to the CPU, without those on shapes, in the order of the graph

    [[nodiscard]] bool leave(std::string_view op) {
        if (is_on_shapes(op)) return true;
        ++total_left;
        for (Count& each : left) {
            if (each.op != op) continue;
            ++each.count;
            return true;
        }
        return left.push({op, 1});
    }
};

Status refuse(Scope& scope, const Api& api, OrtStatus* status, std::string_view path) {
    Outcome outcome(api, status);
    if (outcome.ok()) return Status();
    return scope.fail(codes::engine_failed, {"ONNX Runtime cannot tell what runs ", path, ": ", outcome.first_line()});
}

Status count(Scope& scope, const Api& api, const OrtSession* session, std::string_view path, Assignment& out) {
    const OrtEpAssignedSubgraph* const* parts = nullptr;
    std::size_t part_count = 0;
    LDM_TRY(refuse(scope, api, api.Session_GetEpGraphAssignmentInfo(session, &parts, &part_count), path));
    for (std::size_t part = 0; part < part_count; ++part) {
        const char* name = nullptr;
        const OrtEpAssignedNode* const* nodes = nullptr;
        std::size_t node_count = 0;
        OrtStatus* said = api.EpAssignedSubgraph_GetEpName(parts[part], &name);
        if (said == nullptr) said = api.EpAssignedSubgraph_GetNodes(parts[part], &nodes, &node_count);
        LDM_TRY(refuse(scope, api, said, path));
        out.nodes += node_count;
        if (name != cpu) continue;
        out.on_cpu += node_count;
        for (std::size_t node = 0; node < node_count; ++node) {
            const char* op = nullptr;
            LDM_TRY(refuse(scope, api, api.EpAssignedNode_GetOperatorType(nodes[node], &op), path));
            LDM_NEED(scope, out.leave(op));
        }
    }
    return Status();
}

// The commonest first; of equal ones the one that comes first in the graph.
void sort(Array<Count>& counts) {
    for (std::size_t index = 1; index < counts.size(); ++index) {
        for (std::size_t place = index; place > 0 && counts[place - 1].count < counts[place].count; --place) {
            Count moved = counts[place];
            counts[place] = counts[place - 1];
            counts[place - 1] = moved;
        }
    }
}

}  // namespace

Status fallbacks(Scope& scope, Arena& arena, const Library& library, const OrtSession* session,
                 std::string_view provider, std::string_view path, View<std::string_view>& out) {
    Assignment assignment(scope.memory);
    LDM_TRY(count(scope, library.api(), session, path, assignment));
    if (assignment.on_cpu == assignment.nodes) {
        return scope.fail(codes::engine_unavailable, {provider, " would run nothing of ", path,
                                                      ": ONNX Runtime leaves all of "
                                                      "it to the CPU"});
    }
    if (assignment.left.empty()) return Status();
    sort(assignment.left);
    Words words(scope.memory);
    words.add(provider, " leaves ", assignment.total_left, " of ", assignment.nodes, " nodes of ", path,
              " to the CPU: ");
    for (const Count& each : assignment.left) {
        words.add(&each == assignment.left.begin() ? "" : ", ", each.count, " ", each.op);
    }
    auto* sentence = arena.make<std::string_view>();
    LDM_NEED(scope, sentence != nullptr);
    LDM_TRY(words.keep(scope, arena, *sentence));
    out = {sentence, 1};
    return Status();
}

}  // namespace ldm::ort
