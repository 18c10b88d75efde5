// Packages: opened from a folder, or read from memory.
#include "src/api/handles.h"

#include "core/codes.h"
#include "core/package/manifest.h"
#include "src/package/advice.h"

using namespace ldm;

namespace {

constexpr size_t max_tokenizer_bytes = size_t{1} << 24;

std::string_view keep(ldm_package& package, std::string_view identity) {
    std::memcpy(package.identity, identity.data(), sizeof package.identity - 1);
    return {package.identity, sizeof package.identity - 1};
}

// Read the tokenizers of an opened package into an arena, each file once.
Status read_tokenizers(Scope& scope, const ldm_package& package, Arena& arena, View<Document>& out) {
    View<TextRole> roles = package.opened->manifest().contract.text;
    auto* documents = arena.make<Document>(roles.size);
    LDM_NEED(scope, documents != nullptr);
    for (size_t index = 0; index < roles.size; ++index) {
        Array<char> content(scope.memory);
        LDM_TRY(package.opened->read(scope, roles[index].tokenizer.file, max_tokenizer_bytes, content));
        View<char> kept;
        LDM_NEED(scope, arena.copy(content.data(), content.size(), kept));
        documents[index] = {{kept.data, kept.size}, roles[index].tokenizer.file};
    }
    out = {documents, roles.size};
    return Status();
}

Status open(Scope& scope, ldm_package& package, const char* folder, std::int32_t check) {
    package.opened = make<package::Package>(package.memory, package.memory);
    LDM_NEED(scope, package.opened != nullptr);
    LDM_TRY(package.opened->open(scope, folder, static_cast<package::Check>(check)));
    Arena texts(package.memory);  // of no use once they are read: CLIP's has 3.6 MB
    View<Document> tokenizers;
    LDM_TRY(read_tokenizers(scope, package, texts, tokenizers));
    std::string_view identity = keep(package, package.opened->identity());
    Status status = make_model(scope, package.arena, package.opened->manifest(), identity, tokenizers, package.model);
    return package::advise(scope, status);
}

Status parse(Scope& scope, ldm_package& package, ldm_text manifest, const ldm_text* tokenizers, size_t count) {
    std::string_view text(manifest.text, manifest.size);
    LDM_TRY(read_manifest(scope, package.arena, text, package.parsed));
    Sha256 hash;
    hash.update(text);
    std::string_view identity = keep(package, hash.finish().hex().view());
    auto* documents = package.arena.make<Document>(count);
    LDM_NEED(scope, documents != nullptr);
    for (size_t index = 0; index < count; ++index) {
        documents[index] = {{tokenizers[index].text, tokenizers[index].size}, "tokenizer.json"};
    }
    return make_model(scope, package.arena, package.parsed, identity, {documents, count}, package.model);
}

// Make a package, and fill it with work(scope, package).
template <typename Work>
Status make_package(Scope& scope, ldm_package*& out, Work work) {
    auto* made = make<ldm_package>(scope.memory, scope.memory);
    LDM_NEED(scope, made != nullptr);
    Status status = work(*made);
    if (status.ok()) {
        out = made;
    } else {
        ldm_package_free(made);
    }
    return status;
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

void ldm_package_options_init(ldm_package_options* options, size_t struct_size) {
    api::begin(options, struct_size, [](ldm_package_options& it) { it.check = LDM_CHECK_CACHED; });
}

ldm_status ldm_package_open(ldm_context* context, const char* folder, const ldm_package_options* options,
                            ldm_package** package) {
    if (package != nullptr) *package = nullptr;
    return api::called(context, [&](Scope& scope) {
        ldm_package_options taken;
        if (folder == nullptr || package == nullptr || !api::take(options, ldm_package_options_init, taken) ||
            taken.check < LDM_CHECK_CACHED || taken.check > LDM_CHECK_SIZE) {
            return api::misused(scope, {"ldm_package_open needs a folder, a place for the package, and options that "
                                        "ldm_package_options_init began"});
        }
        return make_package(scope, *package, [&](ldm_package& made) { return open(scope, made, folder, taken.check); });
    });
}

ldm_status ldm_package_parse(ldm_context* context, ldm_text manifest, const ldm_text* tokenizers, size_t tokenizer_count,
                             ldm_package** package) {
    if (package != nullptr) *package = nullptr;
    return api::called(context, [&](Scope& scope) {
        bool has_all = package != nullptr && manifest.text != nullptr && (tokenizers != nullptr || tokenizer_count == 0);
        for (size_t index = 0; has_all && index < tokenizer_count; ++index) has_all = tokenizers[index].text != nullptr;
        if (!has_all) {
            return api::misused(scope, {"ldm_package_parse needs the texts of a manifest and its tokenizers, and a place "
                                        "for the package"});
        }
        return make_package(scope, *package, [&](ldm_package& made) {
            return parse(scope, made, manifest, tokenizers, tokenizer_count);
        });
    });
}

void ldm_package_free(ldm_package* package) {
    if (package == nullptr) return;
    Allocator memory = package->memory;
    destroy(memory, package);
}

ldm_status ldm_package_confirm(ldm_context* context, ldm_package* package) {
    return api::called(context, [&](Scope& scope) {
        if (package == nullptr) return api::misused(scope, {"ldm_package_confirm needs a package"});
        return package->opened == nullptr ? Status() : package->opened->confirm(scope);
    });
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
            return api::misused(scope, {"ldm_package_defaults needs a package and defaults that ldm_defaults_init began"});
        }
        api::hand_out(defaults_of(package->model.contract()), *defaults);
        return Status();
    });
}
