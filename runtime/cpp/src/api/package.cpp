// Packages that are read from memory, and what every package tells.
#include "src/api/handles.h"

#include "core/codes.h"
#include "core/package/manifest.h"

using namespace ldm;

namespace {

Status parse(Scope& scope, ldm_package& package, ldm_text manifest, const ldm_text* tokenizers, size_t count) {
    std::string_view text(manifest.text, manifest.size);
    LDM_TRY(read_manifest(scope, package.arena, text, package.parsed));
    Sha256 hash;
    hash.update(text);
    std::string_view identity = package.keep(hash.finish().hex().view());
    auto* documents = package.arena.make<Document>(count);
    LDM_NEED(scope, documents != nullptr);
    for (size_t index = 0; index < count; ++index) {
        documents[index] = {{tokenizers[index].text, tokenizers[index].size}, "tokenizer.json"};
    }
    return make_model(scope, package.arena, package.parsed, identity, {documents, count}, package.model);
}

ldm_defaults defaults_of(const Contract& contract) {
    ldm_defaults found;
    std::memset(&found, 0, sizeof found);
    found.width = static_cast<int32_t>(contract.image.width);
    found.height = static_cast<int32_t>(contract.image.height);
    found.steps = static_cast<int32_t>(contract.defaults.steps);
    found.guidance = contract.defaults.guidance;
    found.sampler = contract.defaults.sampler.data();
    found.inpaints = contract.inpaints() ? 1 : 0;
    return found;
}

}  // namespace

ldm_status ldm_package_parse(ldm_context* context, ldm_text manifest, const ldm_text* tokenizers,
                             size_t tokenizer_count, ldm_package** package) {
    if (package != nullptr) *package = nullptr;
    return api::called(context, [&](Scope& scope) {
        bool has_all =
            package != nullptr && manifest.text != nullptr && (tokenizers != nullptr || tokenizer_count == 0);
        for (size_t index = 0; has_all && index < tokenizer_count; ++index) has_all = tokenizers[index].text != nullptr;
        if (!has_all) {
            return api::misused(scope,
                                {"ldm_package_parse needs the texts of a manifest and its tokenizers, and a place "
                                 "for the package"});
        }
        return api::make_package(scope, *package, [&](ldm_package& made) {
            return parse(scope, made, manifest, tokenizers, tokenizer_count);
        });
    });
}

void ldm_package_free(ldm_package* package) {
    if (package == nullptr) return;
    Allocator memory = package->memory;
    destroy(memory, package);
}

const char* ldm_package_name(const ldm_package* package) {
    return package == nullptr ? "" : package->model.manifest->name.data();
}

const char* ldm_package_identity(const ldm_package* package) {
    return package == nullptr ? "" : package->model.identity.data();
}

void ldm_defaults_init(ldm_defaults* defaults, size_t struct_size) {
    api::begin(defaults, struct_size, [](ldm_defaults&) {});
}

ldm_status ldm_package_defaults(ldm_context* context, const ldm_package* package, ldm_defaults* defaults) {
    return api::called(context, [&](Scope& scope) {
        if (package == nullptr || !api::is_begun(defaults)) {
            return api::misused(scope,
                                {"ldm_package_defaults needs a package and defaults that ldm_defaults_init began"});
        }
        api::hand_out(defaults_of(package->model.contract()), *defaults);
        return Status();
    });
}
