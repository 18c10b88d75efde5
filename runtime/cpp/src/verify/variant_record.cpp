#include "src/verify/variant_record.h"

#include <algorithm>

#include "src/package/advice.h"
#include "src/verify/compare.h"

namespace ldm::verify {

namespace {

constexpr std::string_view variant_key = "variant";

}  // namespace

Status record_name(Scope& scope, Arena& arena, std::string_view variant, std::string_view& out) {
    return Words(scope.memory).add("verify/variants/", variant, ".safetensors").keep(scope, arena, out);
}

Status VariantRecord::open(Scope& scope, const package::Package& package, const Variant& variant,
                           const Reference& reference) {
    files::Path path;
    std::string_view name;
    LDM_TRY(record_name(scope, file_.arena(), variant.name, name));
    LDM_TRY(package.file(scope, name, path));
    return package::advise(scope, open(scope, path, variant, reference));
}

Status VariantRecord::open(Scope& scope, const files::Path& path, const Variant& variant, const Reference& reference) {
    LDM_TRY(file_.open(scope, path, variant_key, "the record of a variant", variant_));
    for (const auto& [component, way] : variant.ways) {
        for (const Case& each : reference.cases()) {
            if (each.component == component) LDM_TRY(take_case(scope, each));
        }
    }
    LDM_TRY(take(scope, {"trajectory/image"}, reference.image(), image_));
    return file_.require_none_left(scope);
}

Status VariantRecord::take_case(Scope& scope, const Case& its) {
    auto* stored = file_.arena().make<Stored>(its.outputs.size);
    LDM_NEED(scope, stored != nullptr);
    for (std::size_t index = 0; index < its.outputs.size; ++index) {
        const Stored& like = its.outputs[index];
        LDM_TRY(take(scope, {its.component, "/", its.name, "/output/", like.name}, like, stored[index]));
    }
    LDM_NEED(scope, cases_.push({&its, {stored, its.outputs.size}}));
    return Status();
}

// A tensor in float32, of the shape of another.
Status VariantRecord::take(Scope& scope, std::initializer_list<std::string_view> key, const Stored& like, Stored& out) {
    LDM_TRY(file_.take(scope, key, like.name, out));
    View<std::int64_t> shape = like.tensor->shape, its = out.tensor->shape;
    Loaded loaded(scope.memory);
    bool is_sound = out.tensor->dtype == "F32" && std::equal(shape.begin(), shape.end(), its.begin(), its.end());
    if (is_sound) {
        LDM_TRY(file_.read(scope, out, loaded));
        is_sound = are_finite(loaded.tensor);
    }
    if (is_sound) return Status();
    Words expected(scope.memory);
    LDM_NEED(scope, add_list(expected, shape).fits());
    return file_.refuse(scope, {": ", quoted(out.tensor->name), " is not float32 in the shape ", expected.view(),
                                ", or holds NaN or infinity; build the package again"});
}

View<Stored> VariantRecord::outputs_of(const Case& its) const {
    for (const Own& each : cases_) {
        if (each.its == &its) return each.outputs;
    }
    return {};
}

}  // namespace ldm::verify
