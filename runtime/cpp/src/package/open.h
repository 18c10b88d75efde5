// Open a package folder: manifest read, every file in place, inside the folder, of the promised content.
//
// Sizes, places and headers are checked at once. Hashes are computed on a thread while the caller opens its engine, and
// remembered by (path, device, inode, size, mtime, ctime) in the user's cache folder; `confirm` waits for them. Nothing
// of a package is trusted before that call succeeds.
#ifndef LDM_PACKAGE_OPEN_H
#define LDM_PACKAGE_OPEN_H

#include "core/memory.h"
#include "core/package/manifest.h"
#include "core/package/safetensors.h"
#include "core/sha256.h"
#include "core/status.h"
#include "src/files/folder.h"
#include "src/files/hashes.h"

namespace ldm::package {

// cached: hash each file once and remember it; full: hash now; size: hash only what is kept outside of the folder, in a
// hub's cache, and that before `open` returns.
enum class Check { cached, full, size };

// The weights of a component, by the header of their file.
struct Weights {
    std::uint64_t values = 0;
    std::uint64_t bytes = 0;
    std::uint64_t widest_narrow = 0;  // values of the largest tensor that takes less than float32 would

    // How many values there are of a type, by safetensors' name.
    struct OfType {
        std::string_view dtype;
        std::uint64_t values = 0;
    };
    OfType types[dtype_count] = {};  // in the order of the file; the last ones may have no name
};

// An opened package. It does not move; threads may call what is const, and `confirm`.
class Package {
public:
    explicit Package(Allocator& memory) : arena_(memory), folder_(memory), data_(memory), hashes_(memory) {}

    // Once. Codes: request.path, package.*, file.*, json.*, manifest.*, schedule.*, weights.*, graph.*, tokenizer.*.
    Status open(Scope& scope, std::string_view path, Check check);
    // Read a listed file whole, of at most `limit` bytes. Before threads share the package. Codes: file.*.
    Status read(Scope& scope, std::string_view name, std::size_t limit, Array<char>& out);
    // Wait for the hashes. Codes: file.hash, file.changed, file.missing, file.unreadable.
    Status confirm(Scope& scope);

    // The path of a listed file, unless it has changed since the package was opened: file.changed. It keeps its name
    // and its neighbours, also where it is a link: graphs find their weights beside them.
    Status file(Scope& scope, std::string_view name, files::Path& out) const;

    const files::Path& path() const { return folder_.path(); }
    const Manifest& manifest() const { return manifest_; }
    // Of a component of the manifest.
    const Weights& weights(std::string_view component) const {
        return weights_[manifest_.components.place_of(component)];
    }
    // Of one of its graphs, without their types: of data of its own in integers, as many values of float32 as take the
    // same bytes; shared ones whose place it takes do not count.
    Weights weights(std::string_view component, const Artefact& artefact) const;
    std::string_view identity() const { return identity_.view(); }  // SHA-256 of manifest.json, in hexadecimal

private:
    // A data file that a graph has of its own.
    struct DataFile {
        std::string_view name;
        Weights weights;
        Weights replaced;  // of the component's, whose place it takes: "to_k.weight" of "to_k.weight/int8"
    };

    Status open_checked(Scope& scope, std::string_view path, Check check);
    Status read_manifest(Scope& scope);
    Status check_sizes(Scope& scope);
    Status check_components(Scope& scope);
    Status check_weights(Scope& scope, std::string_view name, Weights& out);
    Status check_data(Scope& scope, const Component& component);
    Status read_data_header(Scope& scope, std::string_view name, Arena& scratch, SafetensorsHeader& out);
    Status check_graph(Scope& scope, const Artefact& artefact);
    Status check_vocabulary(Scope& scope, const TextRole& text);
    std::uint64_t bytes_of_files() const;
    Status list_expected(Scope& scope, bool in_blobs_only, View<files::Expected>& out);

    Arena arena_;
    files::Folder folder_;
    Manifest manifest_;
    Weights* weights_ = nullptr;  // in the order of manifest_.components
    Array<DataFile> data_;
    Digest::Hex identity_{};
    files::Hashes hashes_;
};

}  // namespace ldm::package

#endif
