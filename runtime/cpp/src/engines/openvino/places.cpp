#include "src/engines/openvino/places.h"

#include <algorithm>

#include "core/codes.h"
#include "core/sha256.h"
#include "core/text/words.h"
#include "src/files/atomic.h"
#include "src/files/hash_cache.h"
#include "src/files/system.h"
#include "src/files/trouble.h"

namespace ldm::openvino {

namespace {

using files::Answer;
using files::Path;

// As Python shows [(sha256, [device, inode, bytes, modified]), …].
Status put_identity(Scope& scope, const package::Package& package, View<std::string_view> names, Words& out) {
    out.add("[");
    for (const std::string_view& name : names) {
        Path file;
        files::FileStatus status;
        LDM_TRY(package.file(scope, name, file));
        Answer answer = look(file, files::Links::follow, status);
        if (!answer.ok()) return files::unreadable(scope, file, answer);
        const files::Stamp& stamp = status.stamp;
        out.add(&name == names.begin() ? "('" : ", ('", package.manifest().files.find(name)->sha256, "', [");
        out.add(stamp.device, ", ", stamp.inode, ", ", stamp.size, ", ", stamp.modified, "])");
    }
    out.add("]");
    LDM_NEED(scope, out.fits());
    return Status();
}

// As Python shows precision, threads and the options in their order: ", 'bf16', None, [('device', 'GPU')])".
Status put_settings(Scope& scope, const GraphSettings& settings, Words& out) {
    struct Option {
        std::string_view key, value;
    };
    Array<Option> options(scope.memory);
    if (std::string_view(settings.device) != "CPU") LDM_NEED(scope, options.push({"device", settings.device}));
    for (std::size_t index = 0; index < settings.option_count; ++index) {
        LDM_NEED(scope, options.push({settings.keys[index], settings.values[index]}));
    }
    std::sort(options.begin(), options.end(), [](const Option& one, const Option& other) {
        return one.key < other.key || (one.key == other.key && one.value < other.value);
    });
    out.add(", ");
    settings.precision ? out.repr(name_of(*settings.precision)) : out.add("None");
    out.add(", ");
    settings.threads == 0 ? out.add("None") : out.add(settings.threads);
    out.add(", [");
    for (const Option& option : options) {
        out.add(&option == options.begin() ? "(" : ", (");
        out.repr(option.key).add(", ").repr(option.value).add(")");
    }
    out.add("])");
    LDM_NEED(scope, out.fits());
    return Status();
}

bool is_link(const Path& path) {
    files::FileStatus status;
    return look(path, files::Links::keep, status).ok() && status.kind == files::Kind::link;
}

// Whether a file's content lies in another folder than its name.
Answer leads_away(const Path& path, bool& out) {
    Path content, folder;
    Answer answer = resolve(path, content);
    if (answer.ok()) answer = resolve(path.parent().view().empty() ? Path(".") : path.parent(), folder);
    out = content.parent().view() != folder.view();
    return answer;
}

Answer link_content(const Path& path, const Path& to) {
    Path content;
    Answer answer = resolve(path, content);
    return answer.ok() ? link_file(content, to) : answer;
}

}  // namespace

Status make_cache_folder(Scope& scope, const package::Package& package, const Artefact& artefact,
                         const GraphSettings& settings, Path& out) {
    Array<std::string_view> names(scope.memory);
    LDM_NEED(scope, names.append(artefact.files));
    std::sort(names.begin(), names.end());
    Words identity(scope.memory);
    identity.add("(");
    LDM_TRY(put_identity(scope, package, names.view(), identity));
    LDM_TRY(put_settings(scope, settings, identity));
    LDM_NEED(scope, identity.fits());
    Sha256 hash;
    hash.update(identity.view());
    Digest::Hex hex = hash.finish().hex();
    if (!files::make_cache_folder({"openvino", hex.view().substr(0, 32)}, out)) out = Path();
    return Status();
}

PlainGraph::~PlainGraph() {
    if (folder_.view().empty()) return;
    for (const Path& link : links_) (void)remove_file(link).ok();
    (void)remove_folder(folder_).ok();
}

Status PlainGraph::link_all(Scope& scope, const Path& graph, View<Path> data, Answer& answer) {
    LDM_NEED(scope, links_.reserve(1 + data.size));
    for (std::size_t place = 0; place <= data.size && answer.ok(); ++place) {
        const Path& file = place == 0 ? graph : data[place - 1];
        LDM_NEED(scope, links_.push(Path(folder_, file.name())));
        answer = link_content(file, links_[place]);
    }
    return Status();
}

Status PlainGraph::make(Scope& scope, const Path& graph, View<Path> data) {
    path_ = graph;
    bool is_any_away = false;
    for (const Path& each : data) {
        bool is_away = false;
        is_any_away |= is_link(each) && (!leads_away(each, is_away).ok() || is_away);
    }
    if (!is_any_away) return Status();
    Path cache;
    Answer answer;
    std::string_view reason = "there is no cache folder";
    bool has_cache = files::make_cache_folder({}, cache);
    if (has_cache) {
        folder_ = files::partial_in(cache);
        path_ = Path(folder_, graph.name());
        answer = make_folders(folder_);
        LDM_TRY(link_all(scope, graph, data, answer));
        if (answer.ok()) return Status();
    }
    files::Reason said(answer);
    if (has_cache) reason = said;
    return scope.fail(codes::engine_unavailable, {"OpenVINO does not read weights through links, and ", graph.view(),
                                                  " cannot be "
                                                  "linked into the cache folder: ",
                                                  reason,
                                                  "; copy the package with its links "
                                                  "followed, or choose the engine ort"});
}

}  // namespace ldm::openvino
