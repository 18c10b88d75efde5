// verify/reference.safetensors beside the kit's package: one that is taken has every number that a verdict depends on.
// The input has three parts, which a NUL ends: the reference's JSON, the JSON of the tensors, and their bytes, which
// are cut or filled up to what the tensors claim. So that a change of one part leaves the file whole.
#include "src/verify/reference.h"

#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <vector>

#include "fuzz/target.h"
#include "src/verify/facts.h"
#include "src/verify/inpainting_probe.h"
#include "src/verify/proven_contract.h"
#include "src/verify/variant_record.h"
#include "tests/files.h"

using namespace ldm;

namespace {

constexpr std::size_t most_data = std::size_t{1} << 16;

// The kit's package, read once.
struct Package {
    Allocator memory = system_allocator();
    Arena arena{memory};
    Failure failure;
    Scope scope{memory, failure};
    std::string json = read_file(golden_path("package/manifest.json"));
    std::string tokenizer = read_file(golden_path("package/tokenizer/tokenizer.json"));
    Manifest manifest;
    Model model;
    verify::ProvenContract contract;

    Package() {
        Document document{tokenizer, "tokenizer.json"};
        REQUIRE(read_manifest(scope, arena, json, manifest).ok());
        REQUIRE(make_model(scope, arena, manifest, "", {&document, 1}, model).ok());
        REQUIRE(verify::proven_contract(scope, arena, manifest.contract, contract).ok());
    }
};

std::string escaped(std::string_view text) {
    std::string all;
    for (char byte : text) {
        char code[8];
        bool is_plain = byte != '"' && byte != '\\' && static_cast<unsigned char>(byte) >= 0x20;
        if (!is_plain) std::snprintf(code, sizeof code, "\\u%04x", static_cast<unsigned char>(byte));
        all += is_plain ? std::string(1, byte) : code;
    }
    return all;
}

// The last byte that a tensor claims.
std::size_t claimed(std::string_view tensors) {
    std::size_t most = 0;
    for (std::size_t at = tensors.find("data_offsets"); at != std::string_view::npos;
         at = tensors.find("data_offsets", at + 1)) {
        std::size_t comma = tensors.find(',', at);
        if (comma != std::string_view::npos) {
            std::string number(tensors.substr(comma + 1, 20));
            most = std::max<std::size_t>(most, std::strtoull(number.c_str(), nullptr, 10));
        }
    }
    return std::min(most, most_data);
}

std::string file_of(std::string_view input) {
    std::string_view parts[2];
    for (std::string_view& part : parts) {
        std::size_t end = std::min(input.find('\0'), input.size());
        part = input.substr(0, end);
        input.remove_prefix(std::min(end + 1, input.size()));
    }
    std::string header =
        "{\"__metadata__\":{\"variant\":\"{}\",\"reference\":\"" + escaped(parts[0]) + "\"}" + std::string(parts[1]) +
        "}";
    std::string file(8, '\0'), data(input);
    for (std::size_t index = 0; index < 8; ++index) file[index] = static_cast<char>(header.size() >> 8 * index);
    data.resize(claimed(parts[1]));
    return file + header + data;
}

void require_sound(verify::Reference& reference, Scope& scope) {
    const verify::SamplingRun& run = reference.run();
    View<std::int64_t> latents = reference.latents().tensor->shape, image = reference.image().tensor->shape;
    REQUIRE(run.latents_floor >= 60.0 && run.latents_floor <= 120.0 && run.image_floor >= 60.0 &&
            run.image_floor <= 120.0);
    REQUIRE(run.seed >= 0 && run.steps >= 1 && run.guidance == reference.facts().defaults.guidance);
    REQUIRE(latents.size == 4 && static_cast<std::size_t>(latents[0]) == run.timesteps.size && !run.timesteps.empty());
    REQUIRE(image.size == 3 && image[0] == 3 && image[1] == run.size[1] && image[2] == run.size[0]);
    for (const verify::Case& each : reference.cases()) {
        REQUIRE(each.tolerance > 0.0 && each.tolerance <= 1e-5 && !each.inputs.empty() && !each.outputs.empty());
        for (View<verify::Stored> tensors : {each.inputs, each.outputs}) {
            for (const verify::Stored& stored : tensors) {
                verify::Loaded loaded(scope.memory);
                Status status = reference.read(scope, stored, loaded);
                REQUIRE(status.ok() || std::string_view(status.code()) == codes::other_memory);
            }
        }
    }
}

// A reference as the record of a variant, which has the outputs of its cases, and no more: it is refused once those are
// read.
void read_as_record(const verify::Reference& reference, const files::Path& path, const Contract& contract,
                    Bounded& its) {
    std::vector<json::Entry<Way>> ways;
    for (const auto& [component, promised] : contract.components) ways.push_back({component, Way()});
    Variant variant;
    variant.ways.entries = {ways.data(), ways.size()};
    verify::VariantRecord record(its.memory);
    Status status = record.open(its.scope, path, variant, reference);
    REQUIRE(!status.ok());
    its.require_told(status, "proof");
    for (const verify::Case& each : reference.cases()) REQUIRE(record.outputs_of(each).size <= each.outputs.size);
}

}  // namespace

int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    static Package kit;
    static int descriptor = memfd_create("reference", 0);
    std::string file = file_of(text_of(data, size)), name = "/proc/self/fd/" + std::to_string(descriptor);
    REQUIRE(ftruncate(descriptor, 0) == 0);
    REQUIRE(pwrite(descriptor, file.data(), file.size(), 0) == static_cast<ssize_t>(file.size()));
    Bounded its;
    Arena arena(its.memory);
    verify::Reference reference(its.memory);
    Status status = reference.open(its.scope, files::Path(name));
    its.require_told(status, "json weights schedule proof file");
    if (!status.ok()) return 0;
    require_sound(reference, its.scope);
    read_as_record(reference, files::Path(name), kit.manifest.contract, its);
    const Contract& contract = kit.manifest.contract;
    status = reference.require_complete(its.scope, contract);
    if (status.ok()) status = verify::require_same_probe(its.scope, reference, contract);
    its.require_told(status, "proof");
    if (!status.ok()) return 0;
    Array<verify::FactResult> facts(its.memory);
    status = verify::compare_facts(its.scope, arena, kit.model, reference, kit.contract, kit.contract, facts);
    its.require_told(status, "proof request");
    for (const verify::FactResult& fact : facts) REQUIRE(!fact.name.empty());
    return 0;
}
