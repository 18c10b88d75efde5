// verify/variants/NAME.safetensors: what a variant made where its error was measured, to compare it with itself. The
// twin of ldm_export/verify/variant_file.py, which describes the file.
#ifndef LDM_VERIFY_VARIANT_RECORD_H
#define LDM_VERIFY_VARIANT_RECORD_H

#include <string_view>

#include "core/json/json.h"
#include "core/memory.h"
#include "core/package/variants.h"
#include "core/status.h"
#include "src/package/open.h"
#include "src/verify/reference.h"
#include "src/verify/tensor_file.h"

namespace ldm::verify {

// The path of a variant's record, relative to the package.
Status record_name(Scope& scope, Arena& arena, std::string_view variant, std::string_view& out);

class VariantRecord {
public:
    explicit VariantRecord(Allocator& memory) : file_(memory), cases_(memory) {}

    // Read the record of a variant beside the reference of its package, once: it has what the variant made of each of
    // its cases, in float32 and the reference's shape. Codes: file.*, json.*, weights.*, proof.invalid.
    Status open(Scope& scope, const package::Package& package, const Variant& variant, const Reference& reference);
    Status open(Scope& scope, const files::Path& path, const Variant& variant, const Reference& reference);
    Status read(Scope& scope, const Stored& stored, Loaded& out) { return file_.read(scope, stored, out); }

    // What the variant made of a case of the reference that it has a way for, in the order of the case's outputs.
    View<Stored> outputs_of(const Case& its) const;
    const Stored& image() const { return image_; }  // (3, H, W), of the reference's sampling run
    const json::Value& variant() const { return variant_; }  // as the manifest had it

private:
    struct Own {
        const Case* its;
        View<Stored> outputs;
    };

    Status take_case(Scope& scope, const Case& its);
    Status take(Scope& scope, std::initializer_list<std::string_view> key, const Stored& like, Stored& out);

    TensorFile file_;
    Array<Own> cases_;
    Stored image_;
    json::Value variant_;
};

}  // namespace ldm::verify

#endif
