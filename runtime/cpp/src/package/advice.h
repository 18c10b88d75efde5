// What to do about a package of which a file is not of its form, as package/open.py of the Python runtime has it.
#ifndef LDM_PACKAGE_ADVICE_H
#define LDM_PACKAGE_ADVICE_H

#include "core/codes.h"
#include "core/status.h"
#include "src/files/trouble.h"

namespace ldm::package {

// Say behind a failure's sentence what to do, where a file of a package is not of its form.
inline Status advise(Scope& scope, Status status) {
    struct Advice {
        std::string_view code, text;  // or the beginning of a code
    };
    constexpr Advice all[] = {
        {codes::graph_external_data, "; do not use this package, build it again"},
        {codes::json_unknown_key, "; build it again, or install the version that wrote it"},
        {codes::manifest_version,
         "; build the package again from its checkpoint with `ldm-export build`, or install the "
         "version that wrote it"},
        {"graph.", files::fetch_or_build_again},
        {"json.", files::fetch_or_build_again},
        {"manifest.", files::fetch_or_build_again},
        {"schedule.", files::fetch_or_build_again},
        {"tokenizer.", files::fetch_or_build_again},
        {"weights.", files::fetch_or_build_again},
    };
    if (status.ok()) return status;
    for (const Advice& each : all) {
        if (std::string_view(status.code()).substr(0, each.code.size()) != each.code) continue;
        scope.failure.add({each.text});
        break;
    }
    return status;
}

}  // namespace ldm::package

#endif
