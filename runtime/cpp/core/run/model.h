// A package as a run needs it: its manifest, schedule and tokenizers, read from text. It does not change once it is read,
// and threads share it.
#ifndef LDM_CORE_RUN_MODEL_H
#define LDM_CORE_RUN_MODEL_H

#include <string_view>

#include "core/memory.h"
#include "core/package/manifest.h"
#include "core/sampling/schedule.h"
#include "core/sha256.h"
#include "core/status.h"
#include "core/text/tokenizer.h"

namespace ldm {

struct Model {
    Arena arena;
    Manifest manifest;
    sampling::Schedule schedule;
    View<text::Tokenizer> tokenizers;  // of the contract's text roles, in their order
    Digest identity;                   // SHA-256 of manifest.json

    explicit Model(Allocator& memory) : arena(memory) {}
    const Contract& contract() const { return manifest.contract; }
};

// Read manifest.json. where: what failures call it.
Status read_model(Scope& scope, std::string_view manifest, std::string_view where, Model& out);

// Read the tokenizer.json of each text role, in their order; `wheres` are what failures call them.
Status read_tokenizers(Scope& scope, View<std::string_view> contents, View<std::string_view> wheres, Model& out);

}  // namespace ldm

#endif
