#include "src/engines/dynamic_library.h"

#include <charconv>
#include <cinttypes>
#include <cstdio>
#include <cstring>

#include "src/engines/library_file.h"
#include "src/files/system.h"

#if defined(_WIN32)
#include <windows.h>
#else
#include <dlfcn.h>
#endif

namespace ldm::engines {

#if defined(_WIN32)

bool DynamicLibrary::keep(void* handle) {
    handle_ = handle;
    if (handle != nullptr) return true;
    files::Reason reason(files::Answer{static_cast<std::uint32_t>(::GetLastError())});
    std::snprintf(reason_, sizeof reason_, "%s", reason.text);
    return false;
}

bool DynamicLibrary::open(const files::Path& path) {
    files::NativePath native(path);
    return keep(reinterpret_cast<void*>(::LoadLibraryExW(native.get(), nullptr, LOAD_WITH_ALTERED_SEARCH_PATH)));
}

bool DynamicLibrary::open_if_loaded(const files::Path& path) {
    files::NativePath native(path);
    handle_ = reinterpret_cast<void*>(::GetModuleHandleW(native.get()));
    return handle_ != nullptr;
}

void* DynamicLibrary::find(const char* name) const {
    return reinterpret_cast<void*>(::GetProcAddress(reinterpret_cast<HMODULE>(handle_), name));
}

bool own_folder(files::Path& out) {
    HMODULE module = nullptr;
    constexpr DWORD flags = GET_MODULE_HANDLE_EX_FLAG_FROM_ADDRESS | GET_MODULE_HANDLE_EX_FLAG_UNCHANGED_REFCOUNT;
    wchar_t wide[files::Path::room];
    char narrow[files::Path::room];
    if (::GetModuleHandleExW(flags, reinterpret_cast<LPCWSTR>(&own_folder), &module) == 0) return false;
    DWORD size = ::GetModuleFileNameW(module, wide, files::Path::room);
    if (size == 0 || size >= files::Path::room) return false;
    if (::WideCharToMultiByte(CP_UTF8, 0, wide, -1, narrow, sizeof narrow, nullptr, nullptr) == 0) return false;
    out = files::Path(narrow).parent();
    return true;
}

#else

bool DynamicLibrary::keep(void* handle) {
    handle_ = handle;
    if (handle != nullptr) return true;
    const char* said = ::dlerror();
    std::snprintf(reason_, sizeof reason_, "%s", said == nullptr ? "the system does not say why" : said);
    return false;
}

bool DynamicLibrary::open(const files::Path& path) {
    bool is_a_path = path.view().find('/') != std::string_view::npos;
    LibraryFile file = is_a_path ? look_at_library(path) : LibraryFile();
    if (file.is_for_another_machine()) {
        say_machines(file, reason_, sizeof reason_);
        return false;
    }
    if (!file.is_truncated()) return keep(::dlopen(path.c_str(), RTLD_NOW | RTLD_LOCAL));
    constexpr const char* truncated = "it is truncated: it has %" PRIu64 " bytes, but needs %" PRIu64;
    std::snprintf(reason_, sizeof reason_, truncated, file.there, file.needed);
    return false;
}

bool DynamicLibrary::open_if_loaded(const files::Path& path) {
    handle_ = ::dlopen(path.c_str(), RTLD_NOW | RTLD_LOCAL | RTLD_NOLOAD);
    if (handle_ == nullptr) ::dlerror();
    return handle_ != nullptr;
}

void* DynamicLibrary::find(const char* name) const { return ::dlsym(handle_, name); }

bool own_folder(files::Path& out) {
    Dl_info info;
    if (::dladdr(reinterpret_cast<void*>(&own_folder), &info) == 0 || info.dli_fname == nullptr) return false;
    out = files::Path(info.dli_fname).parent();
    if (out.view().empty()) out = files::Path(".");
    return true;
}

#endif

namespace {

bool is_there(const files::Path& path) {
    files::FileStatus status;
    return files::look(path, files::Links::follow, status).ok() && status.kind == files::Kind::file;
}

}  // namespace

std::string_view version_in(std::string_view file, std::string_view name) {
    constexpr std::string_view dylib = ".dylib";
    std::string_view before = name, after;
    if (name.size() > dylib.size() && name.substr(name.size() - dylib.size()) == dylib) {
        before = name.substr(0, name.size() - dylib.size());
        after = dylib;
    }
    if (file.size() < before.size() + 2 + after.size() || file.substr(0, before.size()) != before) return {};
    if (file.substr(file.size() - after.size()) != after || file[before.size()] != '.') return {};
    std::string_view version = file.substr(before.size() + 1, file.size() - before.size() - 1 - after.size());
    return version.find_first_not_of("0123456789.") == std::string_view::npos ? version : std::string_view();
}

bool is_lower(std::string_view version, std::string_view other) {
    while (!version.empty() && !other.empty()) {
        unsigned long long numbers[2] = {};
        std::string_view* texts[] = {&version, &other};
        for (int each = 0; each < 2; ++each) {
            std::string_view& text = *texts[each];
            std::from_chars(text.data(), text.data() + text.size(), numbers[each]);
            std::size_t point = text.find('.');
            text.remove_prefix(point == std::string_view::npos ? text.size() : point + 1);
        }
        if (numbers[0] != numbers[1]) return numbers[0] < numbers[1];
    }
    return version.empty() && !other.empty();
}

Found find_library(std::string_view path, const char* variable, View<std::string_view> names, files::Path& out) {
    out = files::Path(path);
    bool is_named = !path.empty() || files::environment(variable, out);
    if (!out.fits()) return Found::too_long;
    if (is_named && !out.view().empty()) {
        // What is looked at is what is opened: a name alone would be looked for where the system has its libraries.
        if (out.view().find_first_of("/\\") == std::string_view::npos) out = files::Path(files::Path("."), out.view());
        if (is_there(out)) return Found::yes;
        files::FileStatus status;
        bool is_folder = files::look(out, files::Links::follow, status).ok() && status.kind == files::Kind::folder;
        return is_folder ? Found::is_folder : Found::not_where_named;
    }
    files::Path folder;
    if (!own_folder(folder)) return Found::nowhere;
    for (std::string_view name : names) {
        out = files::Path(folder, name);
        if (is_there(out)) return Found::yes;
    }
    return Found::nowhere;
}

bool find_highest_version(std::string_view name, files::Path& out) {
    files::Path folder;
    files::Listing listing;
    if (!own_folder(folder) || !listing.open(folder).ok()) return false;
    std::string_view file;
    files::Kind kind;
    out = files::Path();
    while (listing.next(file, kind)) {
        if (!is_lower(version_in(out.name(), name), version_in(file, name))) continue;
        files::Path its(folder, file);
        if (is_there(its)) out = its;
    }
    return !out.view().empty();
}

}  // namespace ldm::engines
