#include "src/files/reading.h"

#include "core/codes.h"
#include "src/files/system.h"

namespace ldm::files {

Status require_path(Scope& scope, std::string_view name, std::string_view path) {
    return path.empty() ? scope.fail(codes::request_path, {name, " is ''; expected a path"}) : Status();
}

Status read_input(Scope& scope, std::string_view path, std::size_t limit, Array<char>& out) {
    auto refuse = [&](std::string_view reason) {
        return scope.fail(codes::request_image, {quoted(path), " cannot be read: ", reason});
    };
    LDM_TRY(require_path(scope, "path", path));
    ReadFile file;
    FileStatus status;
    Answer answer = file.open(Path(path), Links::follow);
    if (answer.ok()) answer = file.status(status);
    if (!answer.ok()) return refuse(Reason(answer));
    if (status.kind != Kind::file) return refuse("it is no regular file");
    if (status.stamp.size > limit) {
        return scope.fail(codes::request_image,
                          {quoted(path), " has ", status.stamp.size, " bytes; expected at most ", limit});
    }
    std::size_t size = static_cast<std::size_t>(status.stamp.size), got = 0;
    LDM_NEED(scope, out.resize(size));
    answer = file.read(0, out.data(), size, got);
    if (!answer.ok()) return refuse(Reason(answer));
    return got == size ? Status() : refuse("it became shorter meanwhile");
}

}  // namespace ldm::files
