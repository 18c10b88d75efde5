// Which files of a package's folder are read: hostile links, kinds and sizes are refused, each with its code.
#include "src/files/folder.h"

#include <fcntl.h>

#include "core/codes.h"
#include "tests/check.h"
#include "tests/failing_allocator.h"
#include "tests/files.h"
#include "tests/scratch.h"

using namespace ldm;
using files::Folder;

static std::string code_of(Status status) { return status.ok() ? "" : status.code(); }

struct Opened {
    Allocator memory = system_allocator();
    Failure failure;
    Scope scope{memory, failure};
    Folder folder{memory};

    explicit Opened(const std::string& path) { CHECK(folder.open(scope, path).ok()); }

    std::string code_of(const std::string& name) {
        std::uint64_t size = 0;
        return ::code_of(folder.size(scope, name, size));
    }
    std::string read(const std::string& name, std::size_t limit) {
        Array<char> content(memory);
        Status status = folder.read(scope, name, limit, content);
        return status.ok() ? std::string(content.data(), content.size()) : std::string(status.code());
    }
};

static void plain_files_are_read() {
    Scratch scratch;
    std::string path = scratch.folder("package/unet");
    scratch.write("package/unet/model.onnx", "hello");
    Opened opened(scratch.at("package/"));
    CHECK(opened.code_of("unet/model.onnx").empty());
    CHECK(opened.read("unet/model.onnx", 5) == "hello");
    CHECK(opened.read("unet/model.onnx", 4) == codes::file_too_large);
    CHECK(opened.code_of("unet/other.onnx") == codes::file_missing);
    CHECK(opened.code_of("unet/model.onnx/more") == codes::file_unreadable);
    CHECK(opened.code_of(std::string(5000, 'a')) == codes::file_unreadable);
}

static void links_out_of_the_folder_are_refused() {
    Scratch scratch;
    scratch.folder("package");
    scratch.folder("package2");
    scratch.write("secret", "secret");
    scratch.write("package2/secret", "secret");
    scratch.write("package/real", "real");
    CHECK(::symlink("../secret", scratch.at("package/out").c_str()) == 0);
    CHECK(::symlink("../package2/secret", scratch.at("package/beside").c_str()) == 0);
    CHECK(::symlink("..", scratch.at("package/up").c_str()) == 0);
    CHECK(::symlink("real", scratch.at("package/inside").c_str()) == 0);
    CHECK(::symlink("loop", scratch.at("package/loop").c_str()) == 0);
    CHECK(::symlink("nowhere", scratch.at("package/dangling").c_str()) == 0);
    CHECK(::symlink("package", scratch.at("by-link").c_str()) == 0);
    for (const char* name : {"package", "by-link"}) {
        Opened opened(scratch.at(name));
        CHECK(opened.code_of("out") == codes::file_link);
        CHECK(opened.code_of("beside") == codes::file_link);
        CHECK(opened.code_of("up/secret") == codes::file_link);
        CHECK(opened.read("out", 100) == codes::file_link);
        CHECK(opened.read("inside", 100) == "real");
        CHECK(opened.code_of("loop") == codes::file_unreadable);
        CHECK(opened.code_of("dangling") == codes::file_missing);
    }
}

static void the_cache_of_one_repository_is_followed() {
    Scratch scratch;
    std::string snapshot = scratch.folder("hub/models--owner--name/snapshots/123/unet");
    scratch.folder("hub/models--owner--name/blobs/deep");
    scratch.folder("hub/models--other--name/blobs");
    scratch.write("hub/models--owner--name/blobs/abc", "ours");
    scratch.write("hub/models--owner--name/blobs/deep/abc", "deep");
    scratch.write("hub/models--other--name/blobs/abc", "theirs");
    auto link = [&](const char* target, const char* name) {
        CHECK(::symlink(target, scratch.at(std::string("hub/models--owner--name/snapshots/123/") + name).c_str()) == 0);
    };
    link("../../blobs/abc", "ours");
    link("../../../blobs/abc", "unet/ours");
    link("../../blobs/deep/abc", "deep");
    link("../../../models--other--name/blobs/abc", "theirs");
    scratch.write("hub/models--owner--name/snapshots/123/plain", "plain");
    Opened opened(scratch.at("hub/models--owner--name/snapshots/123"));
    CHECK(opened.read("ours", 100) == "ours");
    CHECK(opened.read("unet/ours", 100) == "ours");
    CHECK(opened.code_of("deep") == codes::file_link);
    CHECK(opened.code_of("theirs") == codes::file_link);
    bool is_in_blobs = false;
    CHECK(opened.folder.is_in_blobs(opened.scope, "ours", is_in_blobs).ok() && is_in_blobs);
    CHECK(opened.folder.is_in_blobs(opened.scope, "plain", is_in_blobs).ok() && !is_in_blobs);

    Opened below(scratch.at("hub/models--owner--name/snapshots/123/unet"));  // a package inside of a repository
    CHECK(below.read("ours", 100) == "ours");
}

static void only_regular_files_count() {
    Scratch scratch;
    scratch.folder("package/folder");
    CHECK(::mkfifo(scratch.at("package/pipe").c_str(), 0600) == 0);
    CHECK(::symlink("/dev/null", scratch.at("package/device").c_str()) == 0);
    Opened opened(scratch.at("package"));
    CHECK(opened.code_of("folder") == codes::file_kind);
    CHECK(opened.code_of("pipe") == codes::file_kind);
    CHECK(opened.read("pipe", 100) == codes::file_kind);
    CHECK(opened.code_of("device") == codes::file_link);
    scratch.write("package/plain", "x");
    CHECK(opened.code_of("plain").empty());
    CHECK(::chmod(scratch.at("package/plain").c_str(), 0) == 0);
    if (::geteuid() != 0) CHECK(opened.read("plain", 100) == codes::file_unreadable);
}

static void changes_are_noticed() {
    Scratch scratch;
    scratch.folder("package");
    scratch.write("package/a", "one");
    scratch.write("package/b", "one");
    Opened opened(scratch.at("package"));
    CHECK(opened.code_of("a").empty() && opened.code_of("b").empty());
    CHECK(opened.folder.require_unchanged(opened.scope).ok());
    scratch.write("package/b", "longer");
    CHECK(opened.folder.require_unchanged(opened.scope, "a").ok());
    CHECK(opened.folder.require_unchanged(opened.scope, "never-used").ok());
    CHECK(code_of(opened.folder.require_unchanged(opened.scope, "b")) == codes::file_changed);
    CHECK(code_of(opened.folder.require_unchanged(opened.scope)) == codes::file_changed);
    CHECK(opened.read("b", 100) == codes::file_changed);
    CHECK(::unlink(scratch.at("package/b").c_str()) == 0);
    CHECK(code_of(opened.folder.require_unchanged(opened.scope)) == codes::file_missing);
}

static void memory_may_run_out() {
    Scratch scratch;
    scratch.folder("package");
    scratch.write("package/a", std::string(50000, 'x'));
    check_every_allocation("folder", [&](Scope& scope) {
        Folder folder(scope.memory);
        Array<char> content(scope.memory);
        std::uint64_t size = 0;
        LDM_TRY(folder.open(scope, scratch.at("package")));
        LDM_TRY(folder.size(scope, "a", size));
        return folder.read(scope, "a", 100000, content);
    });
}

int main() {
    plain_files_are_read();
    links_out_of_the_folder_are_refused();
    the_cache_of_one_repository_is_followed();
    only_regular_files_count();
    changes_are_noticed();
    memory_may_run_out();
    return done();
}
