#include "src/engines/dynamic_library.h"

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
    Extent extent = is_a_path ? extent_of_library(path) : Extent();
    if (!extent.is_truncated()) return keep(::dlopen(path.c_str(), RTLD_NOW | RTLD_LOCAL));
    std::snprintf(reason_, sizeof reason_, "it is truncated: it has %" PRIu64 " bytes, but needs %" PRIu64, extent.there,
                  extent.needed);
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

Found find_library(std::string_view path, const char* variable, View<std::string_view> names, files::Path& out) {
    out = files::Path(path);
    bool is_named = !path.empty() || files::environment(variable, out);
    if (!out.fits()) return Found::too_long;
    if (is_named && !out.view().empty()) {
        // What is looked at is what is opened: a name alone would be looked for where the system has its libraries.
        if (out.view().find_first_of("/\\") == std::string_view::npos) out = files::Path(files::Path("."), out.view());
        return is_there(out) ? Found::yes : Found::not_where_named;
    }
    files::Path folder;
    if (!own_folder(folder)) return Found::nowhere;
    for (std::string_view name : names) {
        out = files::Path(folder, name);
        if (is_there(out)) return Found::yes;
    }
    return Found::nowhere;
}

}  // namespace ldm::engines
