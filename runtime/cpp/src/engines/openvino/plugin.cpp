#include "src/engines/openvino/plugin.h"

#include <iterator>

#include "core/codes.h"

namespace ldm::openvino {

namespace {

using engines::Found;

constexpr const char* variable = "LDM_OPENVINO";

#if defined(_WIN32)
constexpr std::string_view file_names[] = {"ldm_openvino.dll"};
#else
constexpr std::string_view file_names[] = {"libldm_openvino.so"};
#endif

Status find(Scope& scope, std::string_view given, files::Path& out) {
    Found found = engines::find_library(given, variable, {file_names, std::size(file_names)}, out);
    if (found == Found::yes) return Status();
    if (found == Found::not_where_named) {
        return scope.fail(codes::engine_unavailable, {"there is no plugin for OpenVINO at ", out.view(),
                                                      given.empty() ? ", which LDM_OPENVINO names" : "", "; expected ",
                                                      file_names[0]});
    }
    if (found == Found::is_folder) {
        std::string_view origin = given.empty() ? ", which LDM_OPENVINO names," : "";
        return scope.fail(codes::engine_unavailable, {out.view(), origin, " is a folder; name the plugin in it, "
                                                      "such as ",
                                                      files::Path(out, file_names[0]).view()});
    }
    if (found == Found::too_long) {
        Piece which = given.empty() ? Piece(" in LDM_OPENVINO") : quoted(given);
        return scope.fail(codes::engine_unavailable, {"the path of OpenVINO's plugin", given.empty() ? "" : ", ", which,
                                                      " is longer than the ", files::Path::room - 1,
                                                      " bytes that can be opened; give a shorter one"});
    }
    return scope.fail(codes::engine_unavailable,
                      {"the plugin for OpenVINO was not found; build it (LDM_BUILD_OPENVINO) and give "
                       "the path of ",
                       file_names[0],
                       " as the option library (--library), "
                       "or in the environment variable LDM_OPENVINO, or put it beside this "
                       "library"});
}

}  // namespace

Status Plugin::open(Scope& scope, std::string_view given) {
    files::Path path;
    LDM_TRY(find(scope, given, path));
    if (!library_.open(path)) {
        return scope.fail(codes::engine_unavailable,
                          {"the plugin for OpenVINO cannot be loaded from ", path.view(), ": ", library_.reason(),
                           "; it needs the OpenVINO that it was built with"});
    }
    auto fill = reinterpret_cast<ldm_engine_plugin_function>(library_.find("ldm_engine_plugin"));
    if (fill == nullptr) {
        return scope.fail(
            codes::engine_unavailable,
            {path.view(), " is no plugin: it has no function ldm_engine_plugin; expected ", file_names[0]});
    }
    std::int32_t version = fill(LDM_PLUGIN_ABI_VERSION, &functions_);
    if (version == LDM_PLUGIN_ABI_VERSION) return Status();
    return scope.fail(codes::engine_unavailable,
                      {path.view(), " is a plugin of version ", version, "; this library takes version ",
                       LDM_PLUGIN_ABI_VERSION, "; build both from the same release"});
}

}  // namespace ldm::openvino
