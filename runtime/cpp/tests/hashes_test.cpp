// The identity of files: the wrong content is refused, what was measured is remembered until a file changes.
#include "src/files/hashes.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "core/codes.h"
#include "core/sha256.h"
#include "src/files/fast_sha256.h"
#include "tests/check.h"
#include "tests/failing_allocator.h"
#include "tests/files.h"
#include "tests/scratch.h"

using namespace ldm;
using files::Expected;
using files::Folder;
using files::Hashes;

enum class Work { on_a_thread, in_confirm };

static std::string digest_of(const std::string& content) {
    Sha256 hash;
    hash.update(content);
    return std::string(hash.finish().hex().view());
}

static std::string code_of(Status status) { return status.ok() ? "" : status.code(); }

static void the_fast_hash_is_the_same() {
    std::string text;
    for (int index = 0; index < 1000; ++index) text += static_cast<char>(index * index * 31 + index);
    for (std::size_t size = 0; size <= text.size(); size += size < 200 ? 1 : 37) {
        Sha256 hash(files::fastest_mix());
        hash.update(std::string_view(text).substr(0, size / 3));
        hash.update(std::string_view(text).substr(size / 3, size - size / 3));
        CHECK(std::string(hash.finish().hex().view()) == digest_of(text.substr(0, size)));
    }
}

static Status check_files(Scope& scope, const std::string& path, View<Expected> expected, bool use_cache, Work work) {
    Folder folder(scope.memory);
    LDM_TRY(folder.open(scope, path));
    Hashes hashes(scope.memory);
    LDM_TRY(hashes.prepare(scope, folder, expected, use_cache));
    if (work == Work::on_a_thread) hashes.start();
    Status first = hashes.confirm(scope), second = hashes.confirm(scope);
    CHECK(code_of(first) == code_of(second) || code_of(first) == codes::other_memory);
    return first;
}

static std::string code_of(const std::string& path, View<Expected> expected, bool use_cache,
                           Work work = Work::on_a_thread) {
    Allocator memory = system_allocator();
    Failure failure;
    Scope scope{memory, failure};
    return code_of(check_files(scope, path, expected, use_cache, work));
}

// The one file of remembered hashes.
static std::string remembered(const Scratch& scratch) {
    std::string command = "cat '" + scratch.at("cache") + "'/ldm_runtime/hashes/*.json 2>/dev/null";
    std::FILE* pipe = ::popen(command.c_str(), "r");
    std::string content;
    for (int each; (each = std::fgetc(pipe)) != EOF;) content += static_cast<char>(each);
    ::pclose(pipe);
    return content;
}

static void content_is_checked() {
    Scratch scratch;
    std::string path = scratch.folder("package"), big(3000000, 'b');
    scratch.write("package/a", "content");
    scratch.write("package/b", big);
    std::string first = digest_of("content"), second = digest_of(big), wrong = digest_of("else");
    for (Work work : {Work::on_a_thread, Work::in_confirm}) {
        for (bool use_cache : {false, true, true}) {
            Expected right[] = {{"a", first}, {"b", second}};
            CHECK(code_of(path, {right, 2}, use_cache, work).empty());
            Expected changed[] = {{"a", first}, {"b", wrong}};
            CHECK(code_of(path, {changed, 2}, use_cache, work) == codes::file_hash);
            Expected missing[] = {{"a", first}, {"c", wrong}};
            CHECK(code_of(path, {missing, 2}, use_cache, work) == codes::file_missing);
            CHECK(code_of(path, {}, use_cache, work).empty());
        }
    }
}

static void hashes_are_remembered_until_a_file_changes() {
    Scratch scratch;
    std::string path = scratch.folder("package");
    scratch.write("package/a", "content");
    std::string right = digest_of("content"), other = digest_of("CONTENT");
    Expected a[] = {{"a", right}};
    CHECK(code_of(path, {a, 1}, true).empty());
    CHECK(remembered(scratch).find(right) != std::string::npos);

    // What is remembered is taken: a forged entry is believed, but by a full check.
    std::string forged = remembered(scratch);
    forged.replace(forged.find(right), right.size(), other);
    std::string command = "cat > \"$(echo '" + scratch.at("cache") + "'/ldm_runtime/hashes/*.json)\"";
    std::FILE* pipe = ::popen(command.c_str(), "w");
    std::fwrite(forged.data(), 1, forged.size(), pipe);
    ::pclose(pipe);
    CHECK(code_of(path, {a, 1}, true) == codes::file_hash);
    CHECK(code_of(path, {a, 1}, false).empty());
    CHECK(code_of(path, {a, 1}, true).empty());

    scratch.write("package/a", "CONTENT");  // another time of modification, the same size
    CHECK(code_of(path, {a, 1}, true) == codes::file_hash);
}

// As a careless copy or bit rot has it, or somebody who hides what he did: the modification time is put back.
static void a_change_that_hides_from_the_modification_time_is_noticed() {
    Scratch scratch;
    std::string path = scratch.folder("package"), file = path + "/a";
    scratch.write("package/a", "content");
    std::string right = digest_of("content");
    Expected a[] = {{"a", right}};
    CHECK(code_of(path, {a, 1}, true).empty());
    files::FileStatus before, after;
    CHECK(look(files::Path(file), files::Links::follow, before).ok());
    scratch.write("package/a", "CONTENT");
    constexpr std::int64_t second = 1000000000;
    timespec modified{before.stamp.modified / second, before.stamp.modified % second}, times[] = {modified, modified};
    for (after = before;
         after.changed == before.changed;) {  // the system's clock for files ticks some hundred times a second
        CHECK(::utimensat(AT_FDCWD, file.c_str(), times, 0) == 0);
        if (!CHECK(look(files::Path(file), files::Links::follow, after).ok() && after.stamp == before.stamp)) return;
    }
    CHECK(code_of(path, {a, 1}, true) == codes::file_hash);
}

static void a_cache_that_is_no_cache_is_left_aside() {
    Scratch scratch;
    std::string path = scratch.folder("package");
    scratch.write("package/a", "content");
    std::string right = digest_of("content");
    Expected a[] = {{"a", right}};
    std::string place = scratch.at("cache/ldm_runtime/hashes/") + digest_of(path).substr(0, 32) + ".json";
    for (const char* content :
         {"", "{", "[]", "null", "{\"a\": 1}", "{\"a\": [1, 2, 3, 4, 5, 6]}", "{\"a\": [1, 2, 3, 4]}",
          "{\"a\": [1, 2, 3, 4, \"x\"]}", "{\"a\": [-1, 99999999999999999999, 3, 4, 5, \"x\"]}", "\xff"}) {
        scratch.folder("cache/ldm_runtime/hashes");
        std::FILE* file = std::fopen(place.c_str(), "wb");
        std::fputs(content, file);
        std::fclose(file);
        CHECK(code_of(path, {a, 1}, true).empty());
        CHECK(remembered(scratch).find(right) != std::string::npos);
    }
    ::setenv("XDG_CACHE_HOME", "/dev/null", 1);  // nothing can be kept there
    CHECK(code_of(path, {a, 1}, true).empty());
    ::setenv("XDG_CACHE_HOME", "relative", 1);
    ::setenv("HOME", "relative", 1);
    CHECK(code_of(path, {a, 1}, true).empty());
}

static void a_folder_that_is_being_written_is_not_remembered() {
    Scratch scratch;
    std::string name = ".ldm-" + std::string(32, 'a') + ".partial";
    std::string path = scratch.folder(name);
    scratch.write(name + "/a", "content");
    std::string right = digest_of("content");
    Expected a[] = {{"a", right}};
    CHECK(code_of(path, {a, 1}, true).empty());
    CHECK(remembered(scratch).empty());
}

static void hashing_ends_when_nobody_waits() {
    Scratch scratch;
    std::string path = scratch.folder("package");
    scratch.write("package/a", std::string(20000000, 'a'));
    std::string wrong = digest_of("else");
    Allocator memory = system_allocator();
    Failure failure;
    Scope scope{memory, failure};
    Folder folder(memory);
    CHECK(folder.open(scope, path).ok());
    Expected a[] = {{"a", wrong}};
    Hashes hashes(memory);
    CHECK(hashes.prepare(scope, folder, {a, 1}, true).ok());
    hashes.start();
}

// The thread stays behind: what it had not hashed is hashed by the new process.
static void a_forked_process_hashes_for_itself() {
    Scratch scratch;
    std::string path = scratch.folder("package"), big(40'000'000, 'b');
    scratch.write("package/a", big);
    std::string right = digest_of(big), wrong = digest_of("else");
    for (const std::string& digest : {right, wrong}) {
        Allocator memory = system_allocator();
        Failure failure;
        Scope scope{memory, failure};
        Folder folder(memory);
        CHECK(folder.open(scope, path).ok());
        Expected a[] = {{"a", digest}};
        Hashes hashes(memory);
        CHECK(hashes.prepare(scope, folder, {a, 1}, false).ok());
        hashes.start();
        pid_t child = ::fork();
        bool is_refused = code_of(hashes.confirm(scope)) == codes::file_hash;
        if (child == 0) ::_exit(is_refused ? 3 : 4);
        int status = 0;
        CHECK(::waitpid(child, &status, 0) == child && WIFEXITED(status));
        CHECK(is_refused == (digest == wrong) && WEXITSTATUS(status) == (is_refused ? 3 : 4));
    }
}

static void memory_may_run_out() {
    Scratch scratch;
    std::string path = scratch.folder("package");
    scratch.write("package/a", "content");
    std::string right = digest_of("content");
    Expected a[] = {{"a", right}};
    for (bool is_known : {false, true}) {
        if (is_known) CHECK(code_of(path, {a, 1}, true).empty());
        check_every_allocation("hashes", [&](Scope& scope) {
            if (!is_known) CHECK(std::system(("rm -rf '" + scratch.at("cache") + "'").c_str()) == 0);
            return check_files(scope, path, {a, 1}, true, Work::on_a_thread);
        });
    }
}

int main() {
    the_fast_hash_is_the_same();
    content_is_checked();
    hashes_are_remembered_until_a_file_changes();
    a_change_that_hides_from_the_modification_time_is_noticed();
    a_cache_that_is_no_cache_is_left_aside();
    a_folder_that_is_being_written_is_not_remembered();
    hashing_ends_when_nobody_waits();
    a_forked_process_hashes_for_itself();
    memory_may_run_out();
    return done();
}
