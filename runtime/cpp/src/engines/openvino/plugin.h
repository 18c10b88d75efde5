// OpenVINO's plugin: found and opened while the program runs. The library knows nothing of OpenVINO but this.
#ifndef LDM_ENGINES_OPENVINO_PLUGIN_H
#define LDM_ENGINES_OPENVINO_PLUGIN_H

#include <string_view>

#include "core/status.h"
#include "src/engines/dynamic_library.h"
#include "src/engines/plugin.h"

namespace ldm::openvino {

class Plugin {
public:
    // path: of the plugin; "" takes the one that the environment variable LDM_OPENVINO names, else the one beside this
    // library. Code: engine.unavailable.
    Status open(Scope& scope, std::string_view path);

    const ldm_plugin& functions() const { return functions_; }

private:
    engines::DynamicLibrary library_;
    ldm_plugin functions_{};
};

}  // namespace ldm::openvino

#endif
