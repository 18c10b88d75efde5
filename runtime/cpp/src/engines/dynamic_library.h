// Shared libraries that are opened while the program runs, and never closed: their threads may outlive every call.
#ifndef LDM_ENGINES_DYNAMIC_LIBRARY_H
#define LDM_ENGINES_DYNAMIC_LIBRARY_H

#include <string_view>

#include "core/memory.h"
#include "src/files/path.h"

namespace ldm::engines {

class DynamicLibrary {
public:
    // A path, or a name alone, which the system looks for. False where it cannot be loaded, or the file is not all
    // there: `reason` says why.
    bool open(const files::Path& path);
    // Whether the process has it already; if so it is opened.
    bool open_if_loaded(const files::Path& path);
    // The address of an exported function, null where there is none.
    void* find(const char* name) const;

    const char* reason() const { return reason_; }

private:
    bool keep(void* handle);

    void* handle_ = nullptr;
    char reason_[512] = {0};
};

enum class Found { yes, nowhere, not_where_named, is_folder, too_long };

// The place of a library: `path`, else what an environment variable names, else one of `names` beside this library.
// `out` is set but where it is nowhere, or named by a path that no system takes.
Found find_library(std::string_view path, const char* variable, View<std::string_view> names, files::Path& out);
// The highest version of a library beside this one, such as libonnxruntime.so.1.24.1 of libonnxruntime.so: of one whose
// versions a program may choose among. False where there is none.
bool find_highest_version(std::string_view name, files::Path& out);

// The version in a file's name, "1.24.1" of libNAME.so.1.24.1 or libNAME.1.24.1.dylib; empty for another name or none.
std::string_view version_in(std::string_view file, std::string_view name);
// Whether one version is lower than another, number by number.
bool is_lower(std::string_view version, std::string_view other);

// The folder of the library (or program) that this code is in; false where the system does not tell.
bool own_folder(files::Path& out);

}  // namespace ldm::engines

#endif
