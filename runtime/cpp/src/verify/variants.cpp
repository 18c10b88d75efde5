#include "src/verify/variants.h"

#include <algorithm>
#include <limits>

#include "core/codes.h"
#include "core/images/pixels.h"
#include "core/json/plain.h"
#include "core/package/variant_fields.h"
#include "core/text/words.h"
#include "src/engines/machine.h"
#include "src/verify/compare.h"
#include "src/verify/reference_run.h"
#include "src/verify/variant_record.h"

namespace ldm::verify {

namespace {

// Of a case's own error, against what the variant made when it was measured.
constexpr double own_share = 0.1, smallest_own = 1e-4;
constexpr double cached_share = 0.25;  // of the component's error, between two graphs of one evaluation
constexpr double psnr_margin = 2.0;    // dB, of the sampling run's image
constexpr std::size_t max_spelt = 60;  // characters of what differs

// ---- The manifest's variant beside the recorded one ----

bool is_number(const json::Value& value) {
    return value.kind == json::Kind::integer || value.kind == json::Kind::real;
}

// Equal, where 1 is 1.0: a record may be written by who does not tell them apart.
bool are_alike(const json::Value& first, const json::Value& second) {
    if (is_number(first) && is_number(second)) return first.real == second.real;
    if (first.kind == json::Kind::list && second.kind == json::Kind::list) {
        return std::equal(first.items.begin(), first.items.end(), second.items.begin(), second.items.end(), are_alike);
    }
    if (first.kind != json::Kind::object || second.kind != json::Kind::object) return json::are_equal(first, second);
    return first.members.size == second.members.size &&
           std::all_of(first.members.begin(), first.members.end(), [&](const json::Member& member) {
               const json::Value* other = second.find(member.key);
               return other != nullptr && are_alike(member.value, *other);
           });
}

// The JSON of what is in `value` and not the same in `other`; all of it where nothing is. Cut where it is long.
Status spell_changes(Scope& scope, Arena& arena, const json::Value& value, const json::Value& other,
                     std::string_view& out) {
    Array<json::Member> changed(scope.memory);
    json::Value shown = value;
    bool are_objects = value.kind == json::Kind::object && other.kind == json::Kind::object;
    for (const json::Member& member : value.members) {
        const json::Value* its = are_objects ? other.find(member.key) : &member.value;
        if (its == nullptr || !are_alike(member.value, *its)) LDM_NEED(scope, changed.push(member));
    }
    if (!changed.empty()) shown.members = changed.view();
    Words text(scope.memory);
    LDM_NEED(scope, text.json(shown).fits());  // in ASCII
    if (text.view().size() <= max_spelt) return text.keep(scope, arena, out);
    return Words(scope.memory).add(text.view().substr(0, max_spelt - 3), "...").keep(scope, arena, out);
}

// ---- One variant ----

// An image as bytes, (height, width, 3).
class Levels {
public:
    explicit Levels(Allocator& memory) : bytes_(memory) {}

    // image: (3, height, width), around [-1, 1]. False where no memory is left.
    [[nodiscard]] bool make(const float* image, std::size_t height, std::size_t width) {
        if (!bytes_.resize(3 * height * width)) return false;
        images::to_levels(image, height, width, bytes_.data());
        return true;
    }
    const std::uint8_t* data() const { return bytes_.data(); }
    std::size_t size() const { return bytes_.size(); }

private:
    Array<std::uint8_t> bytes_;
};

class VariantComparison {
public:
    VariantComparison(Scope& scope, Arena& arena, const package::Package& package, const Model& model,
                      const engines::Settings& settings, Reference& reference, const Variant& variant)
        : scope_(scope), arena_(arena), package_(package), model_(model), settings_(settings), reference_(reference),
          variant_(variant), record_(scope.memory), components_(scope.memory, package), cases_(scope.memory) {
        settings_.variant = &variant;
    }

    // Codes: those of the record, of engines and of runs.
    Status compare(VariantResult& out) {
        FactResult fact;
        LDM_TRY(record_.open(scope_, package_, variant_, reference_));
        LDM_TRY(compare_fact(fact));
        LDM_TRY(open());
        for (const auto& [component, way] : variant_.ways) {
            for (const Case& each : reference_.cases()) {
                if (each.component == component) LDM_TRY(compare_case(each, way));
            }
        }
        LDM_TRY(draw(out));
        if (variant_.run.caching.has_value()) LDM_TRY(compare_cached(*variant_.run.caching));
        LDM_NEED(scope_, arena_.copy(&fact, 1, out.facts));
        LDM_NEED(scope_, arena_.copy(cases_.data(), cases_.size(), out.cases));
        out.passed = out.passed && fact.passed &&
                     std::all_of(cases_.begin(), cases_.end(), [](const CaseResult& each) { return each.passed; });
        return Status();
    }

private:
    // The figures of the manifest are those of the record.
    Status compare_fact(FactResult& out) {
        json::Reader reader{scope_, arena_};
        json::Value found;
        const json::Value& expected = record_.variant();
        LDM_TRY(json::plain(reader, variant_, found));
        LDM_TRY(Words(scope_.memory).add("variants[", variant_.name, "]").keep(scope_, arena_, out.name));
        LDM_TRY(spell_changes(scope_, arena_, expected, found, out.expected));
        LDM_TRY(spell_changes(scope_, arena_, found, expected, out.found));
        out.passed = are_alike(expected, found);
        return Status();
    }

    Status open() {
        Status status = components_.start(scope_, settings_);
        if (status.ok()) status = components_.open_all(scope_);
        if (!components_.failed_for_variant(status)) return status;
        Failure why = scope_.failure;
        return scope_.fail(codes::engine_unavailable,
                           {"the variant ", variant_.name, " does not run here: ", why.text});
    }

    // Evaluate what is on its own. Every number is finite.
    Status evaluate(const Case& its, engines::Results& results) {
        Feeds feeds(scope_.memory);
        LDM_TRY(feeds.read(scope_, reference_, its));
        LDM_TRY(components_.run(scope_, its.component, feeds.view(), results));
        for (const engines::Tensor& each : results.view()) {
            if (each.type != engines::ElementType::float32 || are_finite(each)) continue;
            return scope_.fail(codes::result_not_finite,
                               {its.component, " made NaN or infinity in ", each.name, "; no image is made of it: "
                                "check the package with `ldm-export verify ", package_.path().view(), "`"});
        }
        return Status();
    }

    // A case of a way: beside torch if it is of a real run, and beside the variant's own outputs.
    Status compare_case(const Case& its, const Way& way) {
        engines::Results results(scope_.memory);
        LDM_TRY(evaluate(its, results));
        for (const Stored& output : its.outputs) {
            if (results.find(output.name) != nullptr) continue;
            return scope_.fail(codes::proof_invalid,
                               {its.component, " of ", variant_.name, " gives no output '", output.name, "'"});
        }
        const Difference& recorded = *variant_.error.components.find(its.component);
        double most = std::max(smallest_own, recorded_factor * recorded.relative_rms), own = 0.0;
        if (its.is_captured()) LDM_TRY(judge_all(its, way.artefact, most, its.outputs, results, false));
        std::string_view name;
        LDM_TRY(Words(scope_.memory).add(way.artefact, ", as recorded").keep(scope_, arena_, name));
        LDM_TRY(measure_own(its, own));
        return judge_all(its, name, std::max(smallest_own, own_share * own), record_.outputs_of(its), results, true);
    }

    Status judge_all(const Case& its, std::string_view artefact, double tolerance, View<Stored> outputs,
                     const engines::Results& results, bool are_own) {
        Loaded expected(scope_.memory);
        for (const Stored& output : outputs) {
            LDM_TRY(are_own ? record_.read(scope_, output, expected) : reference_.read(scope_, output, expected));
            Judged judged{its.component, artefact, its.name, output.name, tolerance};
            LDM_TRY(judge(scope_, arena_, judged, results.find(output.name), expected.tensor, "", cases_));
        }
        return Status();
    }

    // The least of the differences of a case's outputs from torch when they were recorded.
    Status measure_own(const Case& its, double& out) {
        Loaded own(scope_.memory), exact(scope_.memory);
        View<Stored> recorded = record_.outputs_of(its);
        out = std::numeric_limits<double>::infinity();
        for (std::size_t index = 0; index < recorded.size; ++index) {
            LDM_TRY(record_.read(scope_, recorded[index], own));
            LDM_TRY(reference_.read(scope_, its.outputs[index], exact));
            out = std::min(out, compare_tensors(own.tensor, exact.tensor).relative_rms);
        }
        return Status();
    }

    // The sampling run, whose image may be as far from torch's as the variant's own was, or as the worst that was
    // measured: its prompt is not one of those. It need be no nearer than that of an exact run.
    Status draw(VariantResult& out) {
        ReferenceRun run(scope_, model_, components_, reference_);
        ReferenceRun::Event event{};
        LDM_TRY(run.begin());
        while (event != ReferenceRun::Event::end) LDM_TRY(run.advance(event));
        Levels measured(scope_.memory), own(scope_.memory), exact(scope_.memory);
        Loaded expected(scope_.memory), recorded(scope_.memory);
        LDM_TRY(reference_.read(scope_, reference_.image(), expected));
        LDM_TRY(record_.read(scope_, record_.image(), recorded));
        auto height = static_cast<std::size_t>(expected.tensor.shape[1]),
             width = static_cast<std::size_t>(expected.tensor.shape[2]);
        LDM_NEED(scope_, measured.make(run.image().data(), height, width));
        LDM_NEED(scope_, own.make(recorded.floats(), height, width) && exact.make(expected.floats(), height, width));
        double floor = std::min(psnr(own.data(), exact.data(), exact.size()), reference_.run().image_floor);
        if (variant_.error.psnr.has_value()) floor = std::min(floor, *variant_.error.psnr);
        double decibels = psnr(measured.data(), exact.data(), exact.size()), likeness = 0.0;
        LDM_NEED(scope_, ssim(scope_.memory, measured.data(), exact.data(), height, width, likeness));
        out.image_floor = floor - psnr_margin;
        out.image_psnr = finite_or_none(decibels);
        out.image_ssim = likeness;
        out.passed = decibels >= *out.image_floor;
        return Status();
    }

    // Hold the graph that reads deep features to the one that keeps them: within one evaluation nothing is stale.
    Status compare_cached(const Caching& caching) {
        std::string_view denoiser = model_.contract().denoiser.component, name;
        const Difference* recorded = variant_.error.components.find(denoiser);
        double tolerance = std::max(smallest_own, recorded == nullptr ? 0.0 : cached_share * recorded->relative_rms);
        LDM_TRY(Words(scope_.memory).add(caching.reads, ", after ", caching.keeps).keep(scope_, arena_, name));
        for (const Case& each : reference_.cases()) {
            if (each.component == denoiser) LDM_TRY(compare_cached(each, caching, name, tolerance));
        }
        return Status();
    }

    Status compare_cached(const Case& its, const Caching& caching, std::string_view name, double tolerance) {
        Feeds feeds(scope_.memory);
        Array<engines::Tensor> whole(scope_.memory), part(scope_.memory);
        engines::Results expected(scope_.memory), made(scope_.memory);
        LDM_TRY(feeds.read(scope_, reference_, its));
        const Tensors& keeps = inputs_of(its.component, caching.keeps);
        const Tensors& reads = inputs_of(its.component, caching.reads);
        for (const engines::Tensor& feed : feeds.view()) {
            if (keeps.find(feed.name) != nullptr) LDM_NEED(scope_, whole.push(feed));
            if (reads.find(feed.name) != nullptr) LDM_NEED(scope_, part.push(feed));
        }
        LDM_TRY(components_.run(scope_, its.component, whole.view(), expected));
        for (const engines::Tensor& each : expected.view()) {
            bool is_kept = reads.find(each.name) != nullptr && engines::find(feeds.view(), each.name) == nullptr;
            if (is_kept) LDM_NEED(scope_, part.push(each));
        }
        LDM_TRY(components_.run(scope_, its.component, part.view(), made, engines::Part::reading));
        for (const Stored& output : its.outputs) {
            const engines::Tensor* first = expected.find(output.name);
            if (first == nullptr || first->type != engines::ElementType::float32) {
                return scope_.fail(codes::proof_invalid, {its.component, " of ", variant_.name, " gives no output '",
                                                          output.name, "'"});
            }
            Judged judged{its.component, name, its.name, output.name, tolerance};
            LDM_TRY(judge(scope_, arena_, judged, made.find(output.name), *first, "", cases_));
        }
        return Status();
    }

    const Tensors& inputs_of(std::string_view component, std::string_view artefact) const {
        const Manifest& manifest = package_.manifest();
        return promised(manifest, component, *manifest.components.find(component)->find(artefact)).inputs;
    }

    Scope& scope_;
    Arena& arena_;
    const package::Package& package_;
    const Model& model_;
    engines::Settings settings_;
    Reference& reference_;
    const Variant& variant_;
    VariantRecord record_;
    engines::Components components_;
    Array<CaseResult> cases_;
};

}  // namespace

Status compare_variants(Scope& scope, Arena& arena, const package::Package& package, const Model& model,
                        const engines::Settings& settings, Reference& reference, Array<VariantResult>& out) {
    engines::Machine machine(scope, settings);
    LDM_TRY(machine.start());
    for (const Variant& variant : package.manifest().variants) {
        VariantResult result;
        Failure reason;
        result.name = variant.name;
        if (cannot_run(package.manifest(), variant, machine, reason)) {
            std::string_view why(reason.text);
            scope.tell("verify", {"variant ", variant.name, " left out: ", why});
            result.passed = true;
            LDM_TRY(Words(scope.memory).add(why).keep(scope, arena, result.left_out.emplace()));
            LDM_NEED(scope, out.push(result));
            continue;
        }
        scope.tell("verify", {"variant ", variant.name});
        VariantComparison comparison(scope, arena, package, model, settings, reference, variant);
        Status status = comparison.compare(result);
        if (!status.ok()) {  // the others are compared all the same
            if (status.code() == std::string_view(codes::other_memory)) return status;
            result = VariantResult();
            result.name = variant.name;
            std::string_view why(scope.failure.text);
            LDM_TRY(Words(scope.memory).add(why).keep(scope, arena, result.problem.emplace()));
            scope.failure.clear();
        }
        LDM_NEED(scope, out.push(result));
    }
    return Status();
}

}  // namespace ldm::verify
