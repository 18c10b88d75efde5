// manifest.json: the contract, identity, provenance and proof of a package, as plain structs in an arena.
// Names are those of the file, whose values docs/package.md describes.
#ifndef LDM_CORE_PACKAGE_MANIFEST_H
#define LDM_CORE_PACKAGE_MANIFEST_H

#include <cstdint>
#include <string_view>

#include "core/json/fields.h"
#include "core/memory.h"
#include "core/package/artefacts.h"
#include "core/package/contract.h"
#include "core/package/variants.h"
#include "core/status.h"

namespace ldm {

inline constexpr std::int64_t schema_version = 3;
inline constexpr std::size_t max_manifest_bytes = std::size_t{1} << 24;  // that a host should read

struct FileEntry {
    std::string_view sha256;
    std::int64_t size = 0;
};

struct Source {
    std::string_view name;
    json::Map<std::string_view> sha256;
};

struct Provenance {
    std::string_view family;  // of models, by the exporter's name; a runtime needs the contract alone
    Source source;
    json::Map<std::string_view> tools;
    std::int64_t opset = 0, ir_version = 0;
    json::Map<const json::Value*> recipe;
    std::string_view created_with;
};

struct Proof {
    bool passed = false;
    std::string_view report;
    json::Map<const json::Value*> summary;
};

// `files` lists all files but manifest.json and the reports that `verify` rewrites.
struct Manifest {
    std::int64_t schema_version = 0;
    std::string_view name;
    Contract contract;
    json::Map<Component> components;
    json::Map<FileEntry> files;
    Provenance provenance;
    View<std::string_view> dropped;
    Proof proof;
    View<Variant> variants;
};

// Whether an engine may pick an artefact of a component by itself. Of the others, a variant has the error, or their
// inputs and outputs are not the component's.
bool is_pickable(const Manifest& manifest, std::string_view component, const Artefact& artefact);

// The inputs and outputs of an artefact: its own, or the component's.
const ComponentContract& promised(const Manifest& manifest, std::string_view component, const Artefact& artefact);

// A variant by its name; null where there is none.
const Variant* find_variant(const Manifest& manifest, std::string_view name);

// Read the text of a manifest.json, which is not trusted: whatever this version does not know, or what contradicts
// itself, is refused. All of `out` is in the arena; `where` names the file in sentences. Codes: json.*, manifest.*,
// schedule.invalid.
Status read_manifest(Scope& scope, Arena& arena, std::string_view text, Manifest& out,
                     std::string_view where = "manifest.json");

}  // namespace ldm

#endif
