#include "core/package/rules.h"

#include <algorithm>

#include "core/codes.h"
#include "core/package/values.h"

namespace ldm {

namespace {

Status check_files(Scope& scope, const Manifest& manifest, const json::Where& where) {
    json::Where files(where, "files");
    for (const auto& [path, entry] : manifest.files) LDM_TRY(check_relative_path(scope, path, files));
    for (const auto& [path, entry] : manifest.files) {
        json::Where here(files, json::Key{path});
        LDM_TRY(check_digest(scope, entry.sha256, {here, "sha256"}));
        LDM_TRY(check_between(scope, entry.size, 0, max_bytes, {here, "size"}));
    }
    return Status();
}

Status check_same_components(Scope& scope, const Manifest& manifest, const json::Where& where) {
    Array<std::string_view> got(scope.memory), expected(scope.memory);
    LDM_TRY(names_of(scope, manifest.components, got));
    LDM_TRY(names_of(scope, manifest.contract.components, expected));
    return check_same_names(scope, got.view(), expected.view(), where);
}

}  // namespace

Status check_manifest(Scope& scope, const Manifest& manifest, const json::Where& where) {
    json::Where contract(where, "contract"), components(where, "components"), proof(where, "proof");
    LDM_TRY(check_name(scope, manifest.name, {where, "name"}));
    LDM_TRY(check_files(scope, manifest, where));
    LDM_TRY(check_relative_path(scope, manifest.proof.report, {proof, "report"}));
    LDM_TRY(check_contract(scope, manifest.contract, contract));
    LDM_TRY(check_same_components(scope, manifest, components));
    json::Where text(contract, "text");
    for (std::size_t index = 0; index < manifest.contract.text.size; ++index) {
        json::Where role(text, index), tokenizer(role, "tokenizer");
        LDM_TRY(check_listed(scope, manifest.contract.text[index].tokenizer.file, manifest, {tokenizer, "file"}));
    }
    for (const auto& [name, component] : manifest.components) {
        LDM_TRY(check_component(scope, name, component, manifest, {components, json::Key{name}}));
    }
    return check_variants(scope, manifest, where);
}

Status check_same_names(Scope& scope, View<std::string_view> got, View<std::string_view> expected,
                        const json::Where& where) {
    Array<std::string_view> found(scope.memory), wanted(scope.memory);
    LDM_NEED(scope, found.append(got) && wanted.append(expected));
    std::sort(found.begin(), found.end());
    std::sort(wanted.begin(), wanted.end());
    found.shrink(static_cast<std::size_t>(std::unique(found.begin(), found.end()) - found.begin()));
    wanted.shrink(static_cast<std::size_t>(std::unique(wanted.begin(), wanted.end()) - wanted.begin()));
    if (std::equal(found.begin(), found.end(), wanted.begin(), wanted.end())) return Status();
    Status status = json::fail(scope, where, codes::manifest_role, {"has "});
    add_names(scope.failure, found.view());
    scope.failure.add({"; expected exactly "});
    add_names(scope.failure, wanted.view());
    return status;
}

}  // namespace ldm
