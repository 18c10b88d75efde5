// Libraries beside this one: by their names, else by the highest version.
#include "src/engines/dynamic_library.h"

#include <cstdlib>

#include "tests/scratch.h"

using namespace ldm;
using engines::Found;

namespace {

void versions_are_compared_number_by_number() {
    using engines::is_lower;
    CHECK(is_lower("1.9.0", "1.10.0") && !is_lower("1.10.0", "1.9.0") && !is_lower("1.9", "1.9"));
    CHECK(is_lower("1.9", "1.9.0") && is_lower("", "1") && !is_lower("1", "") && !is_lower("", ""));
    using engines::version_in;
    CHECK(version_in("libnothing.so.1.24.1", "libnothing.so") == "1.24.1");
    CHECK(version_in("libnothing.1.24.1.dylib", "libnothing.dylib") == "1.24.1");
    for (std::string_view other : {"libnothing.so", "libnothing.so.", "libnothing.so.old", "nothing.so.1",
                                   "libnothing.sox1", ""}) {
        CHECK(version_in(other, "libnothing.so").empty());
    }
    CHECK(version_in("libnothing.dylib", "libnothing.dylib").empty());
}

// The program's own folder is the library's, which it is linked into.
void the_highest_version_beside_it_is_found() {
    constexpr std::string_view names[] = {"libldm-nothing.so", "libldm-nothing.so.1"};
    files::Path folder, found;
    if (!CHECK(engines::own_folder(folder))) return;
    auto find = [&] { return engines::find_library("", "LDM_NOTHING", {names, 2}, found); };
    auto find_version = [&] { return engines::find_highest_version(names[0], found); };
    auto place = [&](const char* name) { return std::string(folder.view()) + "/" + name; };
    auto write = [&](const char* name) {
        std::FILE* file = std::fopen(place(name).c_str(), "wb");
        CHECK(file != nullptr && std::fclose(file) == 0);
    };
    CHECK(find() == Found::nowhere && !find_version());
    CHECK(engines::find_library(folder.view(), "LDM_NOTHING", {names, 2}, found) == Found::is_folder);
    for (const char* name : {"libldm-nothing.so.1.9.0", "libldm-nothing.so.1.10.0", "libldm-nothing.so.1.2.0"}) {
        write(name);
    }
    CHECK(find() == Found::nowhere);  // only who asks for versions is given one
    CHECK(find_version() && found.view() == place("libldm-nothing.so.1.10.0"));
    write("libldm-nothing.so.1");
    CHECK(find() == Found::yes && found.view() == place("libldm-nothing.so.1"));  // whoever put it there chose one
    for (const char* name : {"libldm-nothing.so.1.9.0", "libldm-nothing.so.1.10.0", "libldm-nothing.so.1.2.0",
                             "libldm-nothing.so.1"}) {
        CHECK(std::remove(place(name).c_str()) == 0);
    }
}

}  // namespace

int main() {
    versions_are_compared_number_by_number();
    the_highest_version_beside_it_is_found();
    return done();
}
