// manifest.json: read twice, it has one verdict; what is taken can be asked all that a runtime asks.
#include "core/package/manifest.h"

#include "core/sampling/plan.h"
#include "fuzz/target.h"

using namespace ldm;

namespace {

// What a run asks of a contract before anything is computed.
void ask_contract(Bounded& its, Arena& arena, const Contract& contract) {
    REQUIRE(!contract.text.empty() && contract.window() > 0 && contract.pooled_width() >= 0);
    for (std::size_t axis = 0; axis < 4; ++axis) {
        Sizes range = contract.range_of(contract.sample().dims[axis]);
        REQUIRE(0 < range.min && range.min <= range.max);
    }
    REQUIRE(contract.context().dims.size == 3);
    REQUIRE(contract.reads_sizes() || contract.embeds_guidance() || contract.pooled_width() > 0 ||
            contract.denoiser.extra.size() == 0);
    REQUIRE(contract.inpaints() == !contract.concat.empty());
    contract.encodes_moments();
    sampling::Sampler sampler;
    sampling::Plan plan;
    Status status = sampling::read_sampler(its.scope, contract.defaults.sampler, sampler);
    REQUIRE(status.ok());
    if (contract.defaults.steps > 50) return;  // a matter of time alone
    status = sampling::compile_plan(its.scope, arena, contract.schedule, sampler, contract.defaults.steps, 0, plan);
    its.require_told(status, "request schedule");
    REQUIRE(!status.ok() || plan.taken() == contract.defaults.steps);
}

}  // namespace

int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    std::string_view text = text_of(data, size);
    Bounded first, second;
    Arena arena(first.memory), again(second.memory);
    Manifest manifest, same;
    Status status = read_manifest(first.scope, arena, text, manifest);
    first.require_told(status, "json manifest schedule");
    Status verdict = read_manifest(second.scope, again, text, same);
    REQUIRE(status.ok() == verdict.ok() && std::string_view(first.failure.text) == second.failure.text);
    if (!status.ok()) return 0;
    REQUIRE(manifest.name == same.name && manifest.files.size() == same.files.size());
    for (const auto& [name, component] : manifest.components) {
        REQUIRE(!component.canonical().file().empty() && is_pickable(manifest, name, component.canonical()));
        for (const Artefact& artefact : component.artefacts) {
            REQUIRE(!artefact.needs_variant() || !is_pickable(manifest, name, artefact));
        }
    }
    ask_contract(first, arena, manifest.contract);
    return 0;
}
