// OpenVINO as a plugin: graphs of a package, compiled for a CPU, GPU or NPU of this machine. https://docs.openvino.ai
#include "src/engines/plugin.h"

#include <cstdio>
#include <cstring>
#include <new>
#include <string_view>

#include "plugins/openvino/graph.h"

#if defined(_WIN32)
#define LDM_PLUGIN_EXPORT extern "C" __declspec(dllexport)
#else
#define LDM_PLUGIN_EXPORT extern "C" __attribute__((visibility("default")))
#endif

namespace {

using ldm::openvino::Graph;

int32_t failed(int32_t status, std::string_view text, ldm_plugin_error error) noexcept {
    std::snprintf(error.text, error.size, "%.*s", static_cast<int>(text.size()), text.data());
    return status;
}

// The last line of OpenVINO's message, which is the cause; the first ones are places in its source.
std::string_view last_line(std::string_view text) noexcept {
    constexpr std::string_view blanks = " \t\r\n";
    text = text.substr(0, text.find_last_not_of(blanks) + 1);
    text.remove_prefix(text.find_last_of('\n') + 1);
    return text.empty() ? "it does not say why" : text.substr(text.find_first_not_of(blanks));
}

// Nothing that is thrown leaves the plugin.
template <typename Work>
int32_t guarded(ldm_plugin_error error, Work work) noexcept {
    try {
        work();
        return LDM_PLUGIN_OK;
    } catch (const std::bad_alloc&) {
        return LDM_PLUGIN_NO_MEMORY;
    } catch (const ldm::openvino::Unavailable& missing) {
        return failed(LDM_PLUGIN_UNAVAILABLE, missing.what(), error);
    } catch (const std::exception& thrown) {
        return failed(LDM_PLUGIN_FAILED, last_line(thrown.what()), error);
    } catch (...) {
        return failed(LDM_PLUGIN_FAILED, "it threw what is no exception", error);
    }
}

int32_t open_graph(const ldm_plugin_options* options, void** graph, ldm_plugin_error error) {
    *graph = nullptr;
    return guarded(error, [&] { *graph = new Graph(*options); });
}

const ldm_plugin_port* ports_of(void* graph, int32_t outputs, size_t* count) {
    const std::vector<ldm_plugin_port>& ports = static_cast<Graph*>(graph)->ports(outputs != 0);
    *count = ports.size();
    return ports.data();
}

int32_t run_graph(void* graph, const ldm_plugin_tensor* inputs, size_t input_count,
                  int32_t (*give)(void* user, const ldm_plugin_tensor* output), void* user, ldm_plugin_error error) {
    return guarded(error, [&] { static_cast<Graph*>(graph)->run(inputs, input_count, give, user); });
}

const char* precision_of(void* graph) { return static_cast<Graph*>(graph)->precision(); }

void close_graph(void* graph) {
    char unheard[1];
    guarded({unheard, sizeof unheard}, [&] { delete static_cast<Graph*>(graph); });
}

}  // namespace

LDM_PLUGIN_EXPORT int32_t ldm_engine_plugin(int32_t version, ldm_plugin* plugin) {
    if (version == LDM_PLUGIN_ABI_VERSION) *plugin = {open_graph, ports_of, run_graph, precision_of, close_graph};
    return LDM_PLUGIN_ABI_VERSION;
}
