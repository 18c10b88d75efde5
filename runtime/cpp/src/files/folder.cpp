#include "src/files/folder.h"

#include "src/files/trouble.h"

namespace ldm::files {

namespace {

bool is_repository(std::string_view name) {
    for (std::string_view kind : {"models--", "datasets--", "spaces--"}) {
        if (name.size() > kind.size() && name.substr(0, kind.size()) == kind) return true;
    }
    return false;
}

// Where a hub's cache keeps the contents of the repository of which `real` is (part of) a snapshot; "" where it is
// none. The place is spelt, not resolved: a `blobs` that is a link itself leads out of the repository.
Path blobs_of(const Path& real) {
    for (Path folder = real; !folder.name().empty(); folder = folder.parent()) {
        Path snapshots = folder.parent(), repository = snapshots.parent();
        if (snapshots.name() == "snapshots" && is_repository(repository.name())) return Path(repository, "blobs");
    }
    return Path();
}

}  // namespace

Status Folder::open(Scope& scope, std::string_view path) {
    path_ = Path(path.empty() ? "." : path);
    Answer answer = files::resolve(path_, real_);
    if (!answer.ok()) return unreadable(scope, path_, answer);
    blobs_ = blobs_of(real_);
    return Status();
}

Status Folder::resolve(Scope& scope, std::string_view name, Path& real, FileStatus& status) {
    Path file = place_of(name);
    Answer answer = files::resolve(file, real);
    if (!answer.ok()) return unreadable(scope, file, answer);
    bool in_blobs = !blobs_.view().empty() && real.parent().view() == blobs_.view();
    if (!real.lies_in(real_) && !in_blobs) {
        return scope.fail(codes::file_link, {file.view(), " is a link to ", real.view(),
                                             ", outside the package; copy the file into the package"});
    }
    answer = look(real, Links::keep, status);
    if (!answer.ok()) return unreadable(scope, file, answer);
    if (status.kind != Kind::file) {
        return scope.fail(codes::file_kind, {file.view(), " is not a regular file", fetch_again});
    }
    return remember(scope, name, status.stamp);
}

const Folder::Seen* Folder::find(std::string_view name) const {
    for (std::size_t step = 0; step < seen_.size(); ++step) {
        const Seen& seen = seen_[(last_ + step) % seen_.size()];
        if (seen.name == name) return &seen;
    }
    return nullptr;
}

Status Folder::remember(Scope& scope, std::string_view name, const Stamp& stamp) {
    if (const Seen* known = find(name)) {
        last_ = static_cast<std::size_t>(known - seen_.data());
        return Status();
    }
    View<char> kept;
    LDM_NEED(scope, names_.copy(name.data(), name.size(), kept));
    LDM_NEED(scope, seen_.push({{kept.data, kept.size}, stamp}));
    last_ = seen_.size() - 1;
    return Status();
}

Status Folder::size(Scope& scope, std::string_view name, std::uint64_t& out) {
    Path real;
    FileStatus status;
    LDM_TRY(resolve(scope, name, real, status));
    out = status.stamp.size;
    return Status();
}

Status Folder::is_in_blobs(Scope& scope, std::string_view name, bool& out) {
    out = false;
    if (blobs_.view().empty()) return Status();
    Path real;
    FileStatus status;
    LDM_TRY(resolve(scope, name, real, status));
    out = real.parent().view() == blobs_.view() && !real.lies_in(real_);
    return Status();
}

Status Folder::read(Scope& scope, std::string_view name, std::size_t limit, Array<char>& out) {
    LDM_TRY(read_start(scope, name, limit + 1, out));
    if (out.size() > limit) {
        std::uint64_t bytes = 0;
        LDM_TRY(size(scope, name, bytes));
        return scope.fail(codes::file_too_large, {place_of(name).view(), " has ", bytes, " bytes; expected at most ",
                                                  limit, ": it is not such a file"});
    }
    return require_unchanged(scope, name);
}

Status Folder::read_start(Scope& scope, std::string_view name, std::size_t bytes, Array<char>& out) {
    Path real;
    FileStatus status;
    LDM_TRY(resolve(scope, name, real, status));
    if (bytes > status.stamp.size) bytes = static_cast<std::size_t>(status.stamp.size) + 1;  // it may have grown
    out.shrink(0);
    LDM_NEED(scope, out.resize(bytes));
    ReadFile file;
    std::size_t got = 0;
    Answer answer = file.open(real, Links::keep);  // resolved before: a link that has come since is not followed
    if (answer.ok()) answer = file.status(status);
    if (answer.ok() && status.kind == Kind::file) answer = file.read(0, out.data(), bytes, got);
    if (!answer.ok()) return unreadable(scope, place_of(name), answer);
    out.shrink(got);
    return Status();
}

Status Folder::require_same(Scope& scope, const Seen& seen) const {
    Path file = place_of(seen.name);
    FileStatus status;
    Answer answer = look(file, Links::follow, status);
    if (!answer.ok()) return unreadable(scope, file, answer);
    if (status.stamp == seen.stamp) return Status();
    return scope.fail(codes::file_changed, {file.view(),
                                            " has changed since the package was opened; let nothing write to "
                                            "it meanwhile, and start again"});
}

Status Folder::require_unchanged(Scope& scope, std::string_view name) const {
    const Seen* seen = find(name);
    return seen == nullptr ? Status() : require_same(scope, *seen);
}

Status Folder::require_unchanged(Scope& scope) const {
    for (const Seen& seen : seen_) LDM_TRY(require_same(scope, seen));
    return Status();
}

}  // namespace ldm::files
