// Manifests: those of every family, each way to be wrong with its code, and what a runtime asks of a contract.
#include "core/package/manifest.h"

#include <charconv>
#include <string>

#include "core/codes.h"
#include "tests/check.h"
#include "tests/edited_json.h"
#include "tests/failing_allocator.h"
#include "tests/files.h"
#include "tests/splices.h"

using namespace ldm;

static const char* const good_name = "package/manifest.json";

// The code of a refusal, "ok" without one; the failure's sentence is kept for a message.
static std::string code_of(std::string_view text, std::string* sentence = nullptr) {
    Allocator memory = system_allocator();
    Failure failure;
    Scope scope{memory, failure};
    Arena arena(memory);
    Manifest manifest;
    Status status = read_manifest(scope, arena, text, manifest);
    if (sentence != nullptr) *sentence = failure.text;
    CHECK(status.ok() || std::string_view(failure.text).substr(0, 13) == "manifest.json");
    return status.ok() ? "ok" : status.code();
}

static void expect(std::string_view why, std::string_view text, std::string_view expected) {
    std::string sentence, got = code_of(text, &sentence);
    if (!CHECK(got == expected)) {
        std::fprintf(stderr, "  %.*s: %s, expected %.*s: %s\n", static_cast<int>(why.size()), why.data(), got.c_str(),
                     static_cast<int>(expected.size()), expected.data(), sentence.c_str());
    }
}

static std::string_view code_in(const json::Value& value) {
    return value.kind == json::Kind::null ? std::string_view("ok") : value.text;
}

static void golden_changes_have_their_codes() {
    const std::string good = read_file(golden_path(good_name));
    expect("nothing is changed", good, "ok");
    GoldenJson cases("manifests.json");
    for (const json::Value& each : cases.value.items) {
        std::string text = read_file(golden_path(std::string(each.find("file")->text)));
        text.replace(static_cast<std::size_t>(each.find("offset")->integer),
                     static_cast<std::size_t>(each.find("removed")->integer), each.find("text")->text);
        expect(each.find("why")->text, text, code_in(*each.find("code")));
    }
    CHECK(cases.value.items.size > 230);
}

static void changes_have_their_codes(const char* name, std::size_t count) {
    const std::string good = read_file(golden_path(name));
    GoldenJson cases("mutations.json");
    const json::Value& all = *cases.value.find(name);
    for (const json::Value& each : all.items) {
        Splice splice(each.text);
        expect(each.text, splice.applied(good), splice.result);
    }
    CHECK(all.items.size == count);
}

// The cases of packages.json that change nothing but the manifest.
static void edited_packages_have_their_codes() {
    GoldenJson cases("packages.json");
    const std::string good = read_file(golden_path(good_name));
    int count = 0;
    for (const json::Value& each : cases.value.items) {
        std::string_view code = code_in(*each.find("code"));
        std::string text = good;
        if (!apply_edits(*each.find("edits"), text)) continue;
        // What other files say is not asked here.
        bool is_beyond =
            code == codes::tokenizer_vocabulary || code == codes::graph_signature || code == codes::file_lfs_stub;
        if (!is_beyond) expect(each.find("why")->text, text, code);
        ++count;
    }
    CHECK(count > 40);
}

static bool equals(Sizes range, const json::Value& pair) {
    return range.min == pair.items[0].integer && range.max == pair.items[1].integer;
}

static bool equal(const Contract& contract, View<Dim> dims, const json::Value& ranges) {
    bool same = dims.size == ranges.items.size;
    for (std::size_t index = 0; same && index < dims.size; ++index) {
        same = equals(contract.range_of(dims[index]), ranges.items[index]);
    }
    return same;
}

static void every_family_is_read() {
    GoldenJson families("families.json");
    for (const json::Member& family : families.value.members) {
        const json::Value& facts = family.value;
        const std::string text = read_file(golden_path("manifests/" + std::string(family.key) + ".json"));
        Allocator memory = system_allocator();
        Failure failure;
        Scope scope{memory, failure};
        Arena arena(memory);
        Manifest manifest;
        if (!CHECK(read_manifest(scope, arena, text, manifest).ok())) {
            std::fprintf(stderr, "  %s\n", failure.text);
            continue;
        }
        const Contract& contract = manifest.contract;
        CHECK(contract.window() == facts.find("window")->integer);
        CHECK(contract.inpaints() == facts.find("inpaints")->boolean);
        CHECK(contract.pooled_width() == facts.find("pooled_width")->integer);
        CHECK(contract.reads_sizes() == facts.find("reads_sizes")->boolean);
        CHECK(contract.encodes_moments() == facts.find("encodes_moments")->boolean);
        CHECK(contract.embeds_guidance() == facts.find("embeds_guidance")->boolean);
        const json::Value& negative = *facts.find("evaluates_negative");
        CHECK(contract.evaluates_negative(0.0) == negative.items[0].boolean);
        CHECK(contract.evaluates_negative(1.0) == negative.items[1].boolean);
        CHECK(contract.evaluates_negative(1.5) == negative.items[2].boolean);
        CHECK(equal(contract, contract.sample().dims, *facts.find("sample")));
        CHECK(equal(contract, contract.context().dims, *facts.find("context")));
        CHECK(contract.text.size == facts.find("text")->items.size);
        for (std::size_t index = 0; index < contract.text.size; ++index) {
            CHECK(contract.text[index].component == facts.find("text")->items[index].text);
        }
        CHECK(contract.image.width == facts.find("image")->items[0].integer);
        CHECK(contract.image.height == facts.find("image")->items[1].integer);
        CHECK(contract.defaults.zero_negative == facts.find("zero_negative")->boolean);
        CHECK(manifest.name == family.key && manifest.provenance.opset == 18);
    }
    CHECK(families.value.members.size == 7);
}

static void values_have_their_types() {
    const std::string text = read_file(golden_path("../../runtime/ldm_runtime/builtin/manifest.json"));
    Allocator memory = system_allocator();
    Failure failure;
    Scope scope{memory, failure};
    Arena arena(memory);
    Manifest manifest;
    if (!CHECK(read_manifest(scope, arena, text, manifest).ok()))
        return void(std::fprintf(stderr, "  %s\n", failure.text));
    const Contract& contract = manifest.contract;
    CHECK(contract.tensor("unet", "sample").dims.size == 4 && contract.tensor("unet", "sample").dims[1].is(4));
    CHECK(contract.find_tensor("unet", "x") == nullptr && contract.find_tensor("x", "sample") == nullptr);
    CHECK(contract.range_of("height").max == 256 && contract.range_of(Dim::of(7)).min == 7);
    const Component& unet = *manifest.components.find("unet");
    CHECK(unet.canonical().file() == "unet/model.onnx" && unet.keys.size() == 326);
    CHECK(manifest.files.find(unet.weights) != nullptr && manifest.files.find(unet.weights)->size > 1000000);
    CHECK(manifest.proof.passed && manifest.provenance.recipe.find("steps") != nullptr);
    LatentSpec latent{4, 8, 0.5, 0.1};
    CHECK(latent.scaled(1.1f) == (1.1f - 0.1f) * 0.5f && latent.unscaled(0.5f) == 1.0f + 0.1f);
    CHECK(latent.sampled(1.1f, 0.0f, 0.0f) == latent.scaled(1.1f) && latent.sampled(0.1f, 1000.0f, 1.0f) < 1e5f);
}

static Status read_whole(Scope& scope, const std::string& text) {
    Arena arena(scope.memory);
    Manifest manifest;
    return read_manifest(scope, arena, text, manifest);
}

int main() {
    golden_changes_have_their_codes();
    changes_have_their_codes(good_name, 2000);
    changes_have_their_codes("manifests/sdxl_inpaint.json", 1200);
    changes_have_their_codes("manifests/lcm.json", 600);
    changes_have_their_codes("manifests/tiny_autoencoder.json", 600);
    changes_have_their_codes("manifests/variants.json", 800);
    edited_packages_have_their_codes();
    every_family_is_read();
    values_have_their_types();
    const std::string sdxl = read_file(golden_path("manifests/sdxl_inpaint.json"));
    check_every_allocation("the manifest of SDXL", [&](Scope& scope) { return read_whole(scope, sdxl); });
    return done();
}
