#include "src/files/atomic.h"

#include "core/codes.h"
#include "src/files/reading.h"
#include "src/files/system.h"

namespace ldm::files {

namespace {

Status refuse(Scope& scope, const Path& path, std::string_view why) {
    return scope.fail(codes::output_refused, {"cannot write ", path.view(), ": ", why});
}

// given: the path as the caller has it; one that is too long is not in `path`.
Status refuse_folder_of(Scope& scope, const Path& path, std::string_view given) {
    LDM_TRY(require_path(scope, "path", given));
    if (!path.fits()) {
        return scope.fail(codes::output_refused, {"cannot write ", quoted(given), ": the path has ", given.size(),
                                                  " bytes; expected at most ", Path::room - 1});
    }
    std::string_view name = path.name();
    if (name.empty() || name == "." || name == "..") {
        return refuse(scope, path, "it has no name of its own; give the name of a new file");
    }
    Path folder = path.parent();
    FileStatus status;
    Answer answer = look(folder.view().empty() ? Path(".") : folder, Links::follow, status);
    if (answer.is_missing()) {
        return scope.fail(codes::output_refused, {"cannot write ", path.view(), ": the folder ", folder.view(),
                                                  " does not exist; create it first"});
    }
    if (!answer.ok()) return refuse(scope, path, Reason(answer));
    if (status.kind == Kind::folder) return Status();
    return scope.fail(codes::output_refused, {"cannot write ", path.view(), ": the folder ", folder.view(),
                                              " is not a folder"});
}

// What stands where the file shall be, and whether it may be replaced. Links are not followed.
Status refuse_file(Scope& scope, const Path& path, Existing existing, bool& is_there, FileStatus& status) {
    Answer answer = look(path, Links::keep, status);
    is_there = answer.ok();
    if (answer.is_missing()) return Status();
    if (!answer.ok()) return refuse(scope, path, Reason(answer));
    if (status.kind == Kind::link) return refuse(scope, path, "it is a link; give the place itself as output");
    if (status.kind == Kind::folder) return refuse(scope, path, "a folder has that name; choose another output");
    if (existing == Existing::keep) {
        return scope.fail(codes::output_refused, {path.view(), " exists already; choose another output or allow to "
                                                  "replace it"});
    }
    if (status.kind != Kind::file) {
        return refuse(scope, path, "what has that name is not a regular file; choose another output");
    }
    if (!status.may_be_written) return refuse(scope, path, "it is read-only; choose another output");
    answer = try_writing(path);
    return answer.ok() ? Status() : refuse(scope, path, Reason(answer));
}

Answer write_partial(const Path& partial, std::string_view content, const FileStatus* replaced) {
    NewFile file;
    Answer answer = file.create(partial);
    if (!answer.ok()) return answer;
    if (replaced != nullptr) answer = file.set_mode(replaced->mode);
    if (answer.ok()) answer = file.write(content);
    Answer closed = file.sync_and_close();
    return answer.ok() ? closed : answer;
}

}  // namespace

Path partial_in(const Path& folder) {
    Path partial(folder);
    char token[32];
    for (std::size_t half = 0; half < 2; ++half) {
        std::uint64_t number = fresh_number();
        for (std::size_t digit = 0; digit < 16; ++digit)
            token[half * 16 + digit] = "0123456789abcdef"[number >> 4 * digit & 15];
    }
    partial.enter(".ldm-");
    partial.add({token, sizeof token});
    partial.add(".partial");
    return partial;
}

Status refuse_existing(Scope& scope, std::string_view name, Existing existing) {
    Path path(name);
    bool is_there = false;
    FileStatus status;
    LDM_TRY(refuse_folder_of(scope, path, name));
    LDM_TRY(refuse_file(scope, path, existing, is_there, status));
    Path partial = partial_in(path.parent());  // whether the folder takes files is best asked by making one
    NewFile file;
    Answer answer = file.create(partial);
    if (!answer.ok()) return refuse(scope, path, Reason(answer));
    answer = file.sync_and_close();
    Answer removed = remove_file(partial);
    return answer.ok() && removed.ok() ? Status() : refuse(scope, path, Reason(answer.ok() ? removed : answer));
}

Status write_file(Scope& scope, std::string_view name, std::string_view content, Existing existing) {
    Path path(name);
    bool is_there = false;
    FileStatus status;
    LDM_TRY(refuse_folder_of(scope, path, name));
    LDM_TRY(refuse_file(scope, path, existing, is_there, status));
    Path partial = partial_in(path.parent());
    Answer answer = write_partial(partial, content, is_there ? &status : nullptr);
    if (answer.ok()) answer = existing == Existing::replace ? replace(partial, path) : rename_new(partial, path);
    if (answer.ok()) {
        sync_folder(path.parent());
        return Status();
    }
    bool was_left = !remove_file(partial).ok() && look(partial, Links::keep, status).ok();
    if (answer.is_taken()) {
        return scope.fail(codes::output_refused, {path.view(),
                                                  " exists already: another process made it meanwhile; choose "
                                                  "another output"});
    }
    return scope.fail(codes::output_refused, {"cannot write ", path.view(), ": ", std::string_view(Reason(answer)),
                                              "; ", was_left ? partial.view() : "nothing",
                                              " was left behind, free space or "
                                              "change the output and run again"});
}

}  // namespace ldm::files
