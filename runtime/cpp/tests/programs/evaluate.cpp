// Evaluate a component: evaluate PACKAGE COMPONENT reordered|mapped|openvino INPUTS.safetensors > OUTPUTS
// Each output is a line with its name, type and sizes, then its bytes. Without the last two, only open all components.
#include <cstdio>
#include <string>
#include <vector>

#include "core/package/safetensors.h"
#include "src/engines/components.h"
#include "tests/files.h"

using namespace ldm;
using engines::ElementType;
using engines::Tensor;

static ElementType type_of(std::string_view dtype) {
    return dtype == "F32" ? ElementType::float32 : dtype == "I64" ? ElementType::int64 : ElementType::int32;
}

static Tensor tensor_of(const TensorInfo& info, const std::string& content) {
    Tensor out;
    out.name = info.name.data();
    out.type = type_of(info.dtype);
    out.rank = info.shape.size;
    for (std::size_t axis = 0; axis < out.rank; ++axis) out.shape[axis] = info.shape[axis];
    out.data = content.data() + info.offset;
    out.bytes = static_cast<std::size_t>(info.bytes);
    return out;
}

static void print(const engines::Results& results) {
    for (const Tensor& each : results.view()) {
        std::printf("%s %s", each.name, engines::name_of(each.type).data());
        for (std::size_t axis = 0; axis < each.rank; ++axis)
            std::printf(" %lld", static_cast<long long>(each.shape[axis]));
        std::printf("\n");
        std::fwrite(each.data, 1, each.bytes, stdout);
    }
}

static Status evaluate(Scope& scope, engines::Components& components, const char* component,
                       const std::string& inputs) {
    Arena arena(scope.memory);
    SafetensorsHeader header;
    View<unsigned char> whole{reinterpret_cast<const unsigned char*>(inputs.data()), inputs.size()};
    LDM_TRY(read_header(scope, arena, whole, inputs.size(), "the inputs", header));
    std::vector<Tensor> feeds;
    for (const TensorInfo& info : header.tensors) feeds.push_back(tensor_of(info, inputs));
    engines::Results results(scope.memory);
    LDM_TRY(components.run(scope, component, {feeds.data(), feeds.size()}, results));
    print(results);
    return Status();
}

static Status work(Scope& scope, int count, char** arguments) {
    package::Package package(scope.memory);
    engines::Components components(scope.memory, package);
    engines::Settings settings;
    std::string_view how = count > 3 ? arguments[3] : "reordered";
    if (how == "mapped") settings.large_weights = 0;
    if (how == "openvino") settings.engine = how;
    LDM_TRY(package.open(scope, arguments[1], package::Check::cached));
    LDM_TRY(components.start(scope, settings));
    LDM_TRY(package.confirm(scope));
    if (count > 4) return evaluate(scope, components, arguments[2], read_file(arguments[4]));
    for (const auto& entry : package.manifest().components) LDM_TRY(components.open(scope, entry.key));
    return Status();
}

int main(int count, char** arguments) {
    Allocator memory = system_allocator();
    Failure failure;
    Scope scope{memory, failure};
    if (count < 2 || work(scope, count, arguments).ok()) return 0;
    std::printf("%s\n", failure.code);
    std::fprintf(stderr, "%s\n", failure.text);
    return 1;
}
