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
    auto* read = arena.make<Tokenizer>(roles.size);
    LDM_NEED(scope, read != nullptr);
    for (std::size_t index = 0; index < roles.size; ++index) {
        const Document& document = tokenizers[index];
        const TokenizerFacts& facts = roles[index].tokenizer;
        LDM_TRY(read_tokenizer(scope, arena, document.content, document.where, read[index]));
        LDM_TRY(check_ends(scope, read[index], document.where, facts.bos_token_id, facts.eos_token_id,
                           facts.pad_token_id, facts.vocab_size));
    }
    out.tokenizers = {read, roles.size};
    return Status();
}

}  // namespace ldm
