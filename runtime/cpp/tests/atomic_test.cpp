// Outputs appear whole or not at all, and replace nothing that they may not.
#include "src/files/atomic.h"

#include "core/codes.h"
#include "tests/check.h"
#include "tests/failing_allocator.h"
#include "tests/files.h"
#include "tests/scratch.h"

using namespace ldm;
using files::Existing;

static std::string code_of(const std::string& path, const std::string& content, Existing existing) {
    Allocator memory = system_allocator();
    Failure failure;
    Scope scope{memory, failure};
    Status before = files::refuse_existing(scope, path, existing);
    Status status = files::write_file(scope, path, content, existing);
    CHECK(before.ok() || std::string_view(before.code()) == status.code());
    return status.ok() ? "" : status.code();
}

static void a_path_that_no_system_takes_is_told_by_its_name() {
    Allocator memory = system_allocator();
    Failure failure;
    Scope scope{memory, failure};
    std::string long_path(4096, 'a');
    CHECK(!files::refuse_existing(scope, long_path, Existing::keep).ok());
    std::string sentence =
        "cannot write '" + std::string(56, 'a') + "...: the path has 4096 bytes; expected at most 4095";
    if (!CHECK(failure.text == sentence)) std::fprintf(stderr, "  %s\n", failure.text);
    CHECK(!files::write_file(scope, long_path, "new", Existing::replace).ok() && failure.text == sentence);
    long_path = "/tmp/" + std::string(4090, 'a');  // it fits, but no name of a file is so long
    CHECK(!files::write_file(scope, long_path, "new", Existing::replace).ok());
    CHECK(std::string_view(failure.text).substr(0, 20) == "cannot write /tmp/aa");
}

static bool is_alone(const std::string& folder, int files) {
    std::string command = "test $(ls -A '" + folder + "' | wc -l) = " + std::to_string(files);
    return std::system(command.c_str()) == 0;
}

static void files_are_written_and_replaced() {
    Scratch scratch;
    std::string folder = scratch.folder("out"), path = folder + "/image.png";
    CHECK(code_of(path, "one", Existing::keep).empty());
    CHECK(read_file(path) == "one");
    CHECK(code_of(path, "two", Existing::keep) == codes::output_refused);
    CHECK(read_file(path) == "one");
    CHECK(::chmod(path.c_str(), 0640) == 0);
    CHECK(code_of(path, "two", Existing::replace).empty());
    CHECK(read_file(path) == "two");
    struct stat status;
    CHECK(::stat(path.c_str(), &status) == 0 && (status.st_mode & 0777) == 0640);
    CHECK(is_alone(folder, 1));
}

static void what_is_no_file_stays() {
    Scratch scratch;
    std::string folder = scratch.folder("out");
    scratch.folder("out/folder");
    scratch.write("out/target", "kept");
    scratch.write("out/fixed", "kept");
    CHECK(::chmod(scratch.at("out/fixed").c_str(), 0444) == 0);
    CHECK(::symlink("target", scratch.at("out/link").c_str()) == 0);
    CHECK(::mkfifo(scratch.at("out/pipe").c_str(), 0600) == 0);
    for (Existing existing : {Existing::keep, Existing::replace}) {
        for (const char* name :
             {"folder", "link", "pipe", "fixed", "missing/image.png", "target/image.png", "..", "."}) {
            CHECK(code_of(folder + "/" + name, "new", existing) == codes::output_refused);
        }
        CHECK(code_of(folder + "/" + std::string(300, 'a'), "new", existing) == codes::output_refused);
        CHECK(code_of(folder + "/" + std::string(5000, 'a'), "new", existing) == codes::output_refused);
        CHECK(code_of("", "new", existing) == codes::request_path);
    }
    CHECK(read_file(folder + "/target") == "kept" && read_file(folder + "/fixed") == "kept");
    CHECK(is_alone(folder, 5));
}

static void a_full_disk_leaves_nothing(const char* program) {
    Scratch scratch;
    std::string folder = scratch.folder("out");
    scratch.write("out/image.png", "kept");
    char* place = ::realpath(program, nullptr);
    CHECK(place != nullptr);
    std::string run = "ulimit -f 1; trap '' XFSZ; exec '" + std::string(place) + "' '" + folder + "/image.png'";
    std::free(place);
    CHECK(std::system(run.c_str()) == 0);
    CHECK(read_file(folder + "/image.png") == "kept");
    CHECK(is_alone(folder, 1));
}

static void a_name_alone_is_of_the_current_folder() {
    Scratch scratch;
    CHECK(::chdir(scratch.folder("here").c_str()) == 0);
    CHECK(code_of("image.png", "one", Existing::keep).empty());
    CHECK(read_file(scratch.at("here/image.png")) == "one");
    CHECK(::chdir("/") == 0);
}

int main(int count, char** arguments) {
    if (count == 2) {  // in a process that may write little
        bool is_refused = code_of(arguments[1], std::string(1000000, 'x'), Existing::replace) == codes::output_refused;
        return is_refused ? done() : 1;
    }
    files_are_written_and_replaced();
    what_is_no_file_stays();
    a_path_that_no_system_takes_is_told_by_its_name();
    a_full_disk_leaves_nothing(arguments[0]);
    a_name_alone_is_of_the_current_folder();
    return done();
}
