#include "core/run/model.h"

#include "core/codes.h"

namespace ldm {

Status make_model(Scope& scope, Arena& arena, const Manifest& manifest, std::string_view identity,
                  View<Document> tokenizers, Model& out) {
    View<TextRole> roles = manifest.contract.text;
    if (tokenizers.size != roles.size) {
        return scope.fail(codes::other_misuse, {tokenizers.size, " tokenizers were given for ", roles.size,
                          " text encoders; give one for each, in their order"});
    }
    out.manifest = &manifest;
    out.identity = identity;
    auto* read = arena.make<text::PromptTokenizer>(roles.size);
    LDM_NEED(scope, read != nullptr);
    for (std::size_t index = 0; index < roles.size; ++index) {
        LDM_TRY(text::read_prompt_tokenizer(scope, arena, tokenizers[index].content, tokenizers[index].where,
                                            roles[index].tokenizer, read[index]));
    }
    out.tokenizers = {read, roles.size};
    return Status();
}

}  // namespace ldm
