// Packages that are opened from a folder.
#include "src/api/handles.h"

#include "src/package/advice.h"
#include "src/package/open.h"

using namespace ldm;

namespace {

constexpr size_t max_tokenizer_bytes = size_t{1} << 24;

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
    package.close = [](ldm_package& its) { destroy(its.memory, its.opened); };
    LDM_TRY(package.opened->open(scope, folder, static_cast<package::Check>(check)));
    Arena texts(package.memory);  // of no use once they are read: CLIP's has 3.6 MB
    View<Document> tokenizers;
    LDM_TRY(read_tokenizers(scope, package, texts, tokenizers));
    std::string_view identity = package.keep(package.opened->identity());
    Status status = make_model(scope, package.arena, package.opened->manifest(), identity, tokenizers, package.model);
    return package::advise(scope, status);
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
        return api::make_package(scope, *package, [&](ldm_package& made) {
            return open(scope, made, folder, taken.check);
        });
    });
}

ldm_status ldm_package_confirm(ldm_context* context, ldm_package* package) {
    return api::called(context, [&](Scope& scope) {
        if (package == nullptr) return api::misused(scope, {"ldm_package_confirm needs a package"});
        return package->opened == nullptr ? Status() : package->opened->confirm(scope);
    });
}
