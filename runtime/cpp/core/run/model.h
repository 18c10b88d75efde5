// A package as a run needs it: its manifest and tokenizers. It does not change once it is made, and threads
// share it.
#ifndef LDM_CORE_RUN_MODEL_H
#define LDM_CORE_RUN_MODEL_H

#include <string_view>

#include "core/memory.h"
#include "core/package/manifest.h"
#include "core/status.h"
#include "core/text/tokenizer.h"

namespace ldm {

struct Model {
    const Manifest* manifest = nullptr;
    View<Tokenizer> tokenizers;  // of the contract's text roles, in their order
    std::string_view identity;         // SHA-256 of manifest.json, in hexadecimal

    const Contract& contract() const { return manifest->contract; }
};

// The content of a file, and what failures call it.
struct Document {
    std::string_view content;
    std::string_view where;
};

// Make a model of a manifest that is read, and of the tokenizer.json of each of its text roles, in their order. What
// they are read into is the arena, which must live as long, as must the manifest and the identity. Codes: tokenizer.*,
// manifest.text.
Status make_model(Scope& scope, Arena& arena, const Manifest& manifest, std::string_view identity,
                  View<Document> tokenizers, Model& out);

}  // namespace ldm

#endif
