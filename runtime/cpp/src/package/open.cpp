#include "src/package/open.h"

#include <algorithm>

#include "core/codes.h"
#include "core/package/file_rules.h"
#include "core/package/onnx_file.h"
#include "src/files/reading.h"
#include "src/files/stopwatch.h"
#include "src/files/trouble.h"
#include "src/package/advice.h"
#include "src/package/unlisted.h"

namespace ldm::package {

namespace {

using files::Answer;
using files::FileStatus;
using files::Links;
using files::Path;

constexpr std::string_view manifest_name = "manifest.json";

View<unsigned char> bytes_of(const Array<char>& content) {
    return {reinterpret_cast<const unsigned char*>(content.data()), content.size()};
}

// A path that the system can look up, existing or not.
Status check_path(Scope& scope, const Path& path, std::string_view given, bool& exists, FileStatus& status) {
    Answer answer = look(path, Links::follow, status);
    exists = answer.ok();
    if (answer.ok() && status.kind == files::Kind::folder) {
        FileStatus inside;
        answer = look(Path(path, "."), Links::follow, inside);  // a folder that may not be entered
    }
    if (answer.ok() || answer.is_nowhere()) return Status();
    return scope.fail(codes::request_path, {"path is ", quoted(given), ", which cannot be looked up: ",
                                            std::string_view(files::Reason(answer))});
}

// given: the path as the caller has it; one that is too long is not in `path`.
Status find_package(Scope& scope, const Path& path, std::string_view given) {
    bool exists = false;
    FileStatus status;
    LDM_TRY(check_path(scope, path, given, exists, status));
    if (!exists) {
        return scope.fail(codes::package_missing,
                          {"there is no package at ", path.view(), ": the folder does not exist"});
    }
    if (status.kind != files::Kind::folder) {
        return scope.fail(codes::package_missing, {path.view(), " is a file; expected the folder of a package"});
    }
    if (look(Path(path, manifest_name), Links::keep, status).ok()) return Status();
    return scope.fail(codes::package_missing, {path.view(), " is not a package: it has no ", manifest_name,
                                               "; make one with `ldm-export build ", path.view(), " --out ...`"});
}

Status copy(Scope& scope, Arena& arena, const Array<char>& content, std::string_view& out) {
    View<char> kept;
    LDM_NEED(scope, arena.copy(content.data(), content.size(), kept));
    out = {kept.data, kept.size};
    return Status();
}

std::uint64_t count_values(const TensorInfo& tensor) {
    return tensor.bytes / static_cast<std::uint64_t>(find_dtype(tensor.dtype)->bytes);
}

// Sum up the shared tensors whose place own ones take: "to_k.weight" for "to_k.weight/int8".
Status count_replaced(Scope& scope, View<TensorInfo> own, View<TensorInfo> shared, Weights& out) {
    Array<std::string_view> names(scope.memory);
    for (const TensorInfo& each : own) {
        std::size_t end = each.name.rfind('/');
        if (end != std::string_view::npos) LDM_NEED(scope, names.push(each.name.substr(0, end)));
    }
    std::sort(names.begin(), names.end());
    for (const TensorInfo& each : shared) {
        if (!std::binary_search(names.begin(), names.end(), each.name)) continue;
        out.values += count_values(each);
        out.bytes += each.bytes;
    }
    return Status();
}

}  // namespace

Status Package::open(Scope& scope, std::string_view name, Check check) {
    return advise(scope, open_checked(scope, name, check));
}

Status Package::open_checked(Scope& scope, std::string_view name, Check check) {
    files::Stopwatch stopwatch;
    Path path(name);
    LDM_TRY(files::require_path(scope, "path", name));
    LDM_TRY(find_package(scope, path, name));
    LDM_TRY(folder_.open(scope, path));
    LDM_TRY(read_manifest(scope));
    LDM_TRY(check_sizes(scope));
    LDM_TRY(refuse_unlisted(scope, path, manifest_));
    View<files::Expected> expected;
    LDM_TRY(list_expected(scope, check == Check::size, expected));
    LDM_TRY(hashes_.prepare(scope, folder_, expected, check != Check::full));
    if (check == Check::size) LDM_TRY(hashes_.confirm(scope));
    LDM_TRY(check_components(scope));
    for (const TextRole& text : manifest_.contract.text) LDM_TRY(check_vocabulary(scope, text));
    if (check != Check::size) hashes_.start();
    scope.tell("package", {path.view(), " is ", quoted(manifest_.name), " with ", manifest_.files.size(), " files, ",
                           files::megabytes(bytes_of_files()), " MB; sizes and headers are right, opened in ",
                           stopwatch.seconds(), " s"});
    for (const auto& [component, its] : manifest_.components) {
        const Weights& found = weights(component);
        scope.tell("package", {component, " has ", found.values, " weights, ", files::megabytes(found.bytes),
                               " MB, in ", its.weights});
    }
    return Status();
}

Status Package::read_manifest(Scope& scope) {
    Array<char> content(scope.memory);
    Path where = folder_.place_of(manifest_name);
    std::string_view text;
    LDM_TRY(folder_.read(scope, manifest_name, max_manifest_bytes, content));
    LDM_TRY(refuse_lfs_stub(scope, bytes_of(content), where.view()));
    LDM_TRY(copy(scope, arena_, content, text));
    Sha256 hash;
    hash.update(text);
    identity_ = hash.finish().hex();
    return ldm::read_manifest(scope, arena_, text, manifest_, where.view());
}

Status Package::check_sizes(Scope& scope) {
    Array<char> start(scope.memory);
    for (const auto& [name, entry] : manifest_.files) {
        std::uint64_t size = 0;
        LDM_TRY(folder_.size(scope, name, size));
        if (size == static_cast<std::uint64_t>(entry.size)) continue;
        LDM_TRY(folder_.read_start(scope, name, lfs_stub_bytes, start));
        LDM_TRY(check_file_size(scope, entry, size, bytes_of(start), folder_.place_of(name).view()));
    }
    return Status();
}

Status Package::check_components(Scope& scope) {
    weights_ = arena_.make<Weights>(manifest_.components.size());
    LDM_NEED(scope, weights_ != nullptr);
    Weights* next = weights_;
    for (const auto& [name, component] : manifest_.components) {
        LDM_TRY(check_weights(scope, component.weights, *next++));
        LDM_TRY(check_data(scope, component));
        for (const Artefact& artefact : component.artefacts) {
            if (artefact.format == "onnx") LDM_TRY(check_graph(scope, artefact));
        }
    }
    return Status();
}

// The headers of data files that graphs have of their own.
Status Package::check_data(Scope& scope, const Component& component) {
    Array<std::string_view> data(scope.memory);
    for (const Artefact& artefact : component.artefacts) {
        for (std::size_t place = 1; artefact.format == "onnx" && place < artefact.files.size; ++place) {
            if (artefact.files[place] != component.weights) LDM_NEED(scope, data.push(artefact.files[place]));
        }
    }
    std::sort(data.begin(), data.end());
    data.shrink(static_cast<std::size_t>(std::unique(data.begin(), data.end()) - data.begin()));
    if (data.empty()) return Status();
    Arena scratch(scope.memory);
    SafetensorsHeader shared, own;
    LDM_TRY(read_data_header(scope, component.weights, scratch, shared));
    for (std::string_view file : data) {
        DataFile its{file, {}, {}};
        LDM_TRY(check_weights(scope, file, its.weights));
        LDM_TRY(read_data_header(scope, file, scratch, own));
        LDM_TRY(count_replaced(scope, own.tensors, shared.tensors, its.replaced));
        LDM_NEED(scope, data_.push(its));
    }
    return Status();
}

Weights Package::weights(std::string_view component, const Artefact& artefact) const {
    if (!is_integer(artefact.precision)) return weights(component);
    const Component& its = *manifest_.components.find(component);
    const Weights& shared = weights(component);
    Weights sum, replaced;
    bool shares = false;
    for (std::size_t place = 1; place < artefact.files.size; ++place) {
        shares |= artefact.files[place] == its.weights;
        for (const DataFile& own : data_) {
            if (own.name != artefact.files[place]) continue;
            sum.values += own.weights.bytes / sizeof(float);
            sum.bytes += own.weights.bytes;
            replaced.values += own.replaced.values;
            replaced.bytes += own.replaced.bytes;
        }
    }
    if (shares) {
        sum.values += shared.values - std::min(shared.values, replaced.values);
        sum.bytes += shared.bytes - std::min(shared.bytes, replaced.bytes);
    }
    return sum;
}

Status Package::read_data_header(Scope& scope, std::string_view name, Arena& scratch, SafetensorsHeader& out) {
    Array<char> start(scope.memory);
    std::uint64_t size = 0;
    LDM_TRY(folder_.size(scope, name, size));
    LDM_TRY(folder_.read_start(scope, name, lfs_stub_bytes, start));
    std::uint64_t needed = header_bytes(bytes_of(start), size);
    if (needed > start.size()) LDM_TRY(folder_.read_start(scope, name, static_cast<std::size_t>(needed), start));
    return read_header(scope, scratch, bytes_of(start), size, folder_.place_of(name).view(), out);
}

Status Package::check_weights(Scope& scope, std::string_view name, Weights& out) {
    Arena scratch(scope.memory);
    SafetensorsHeader header;
    LDM_TRY(read_data_header(scope, name, scratch, header));
    for (const TensorInfo& tensor : header.tensors) {
        const Dtype& dtype = *find_dtype(tensor.dtype);
        std::uint64_t values = count_values(tensor);
        out.values += values;
        Weights::OfType* type = out.types;
        while (!type->dtype.empty() && type->dtype != dtype.name) ++type;
        *type = {dtype.name, type->values + values};
        out.bytes += tensor.bytes;
        if (tensor.bytes < 4 * values && values > out.widest_narrow) out.widest_narrow = values;
    }
    return Status();
}

Status Package::check_graph(Scope& scope, const Artefact& artefact) {
    std::string_view name = artefact.file();
    Path place = folder_.place_of(name);
    std::uint64_t size = 0;
    Array<std::string_view> data(scope.memory);
    for (std::size_t file = 1; file < artefact.files.size; ++file) {
        LDM_NEED(scope, data.push(name_of_file(artefact.files[file])));
    }
    LDM_TRY(folder_.size(scope, name, size));
    LDM_TRY(check_graph_size(scope, size, data[0], place.view()));
    Array<char> graph(scope.memory);
    LDM_TRY(folder_.read(scope, name, max_graph_bytes, graph));
    return check_external_data(scope, bytes_of(graph), data.view(), place.view());
}

Status Package::check_vocabulary(Scope& scope, const TextRole& text) {
    const Component* component = manifest_.components.find(text.component);
    std::string_view name = component->canonical().file();
    Array<char> graph(scope.memory);
    LDM_TRY(folder_.read(scope, name, max_graph_bytes, graph));
    Path where = folder_.place_of(manifest_name);
    return ldm::check_vocabulary(scope, bytes_of(graph), text.input, text.tokenizer.vocab_size, name, where.view());
}

Status Package::list_expected(Scope& scope, bool in_blobs_only, View<files::Expected>& out) {
    auto* expected = arena_.make<files::Expected>(manifest_.files.size());
    LDM_NEED(scope, expected != nullptr);
    std::size_t count = 0;
    for (const auto& [name, entry] : manifest_.files) {
        bool is_in_blobs = false;
        LDM_TRY(folder_.is_in_blobs(scope, name, is_in_blobs));
        if (is_in_blobs || !in_blobs_only) expected[count++] = {name, entry.sha256};
    }
    out = {expected, count};
    return Status();
}

std::uint64_t Package::bytes_of_files() const {
    std::uint64_t bytes = 0;
    for (const auto& [name, entry] : manifest_.files) bytes += static_cast<std::uint64_t>(entry.size);
    return bytes;
}

Status Package::read(Scope& scope, std::string_view name, std::size_t limit, Array<char>& out) {
    LDM_TRY(folder_.require_unchanged(scope, name));
    return folder_.read(scope, name, limit, out);
}

Status Package::confirm(Scope& scope) {
    files::Stopwatch stopwatch;
    LDM_TRY(hashes_.confirm(scope));
    LDM_TRY(folder_.require_unchanged(scope));
    scope.tell("package", {"of ", manifest_.files.size(), " files of ", path().view(), " the hashes of ",
                           hashes_.known() + hashes_.measured(), " are right, ", hashes_.known(), " remembered and ",
                           hashes_.measured(), " computed; no file has changed since it was opened; waited ",
                           stopwatch.seconds(), " s"});
    return Status();
}

Status Package::file(Scope& scope, std::string_view name, Path& out) const {
    LDM_TRY(folder_.require_unchanged(scope, name));
    out = folder_.place_of(name);
    return Status();
}

}  // namespace ldm::package
