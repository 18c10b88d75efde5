/* A plugin in C for the tests of what opens one. Its graph is the denoiser of the conformance kit's package: what comes
   out is its sample. The name of the device says how it behaves. FAKE_VERSION: the version of the ABI that it
   claims. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "src/engines/plugin.h"

#ifndef FAKE_VERSION
#define FAKE_VERSION LDM_PLUGIN_ABI_VERSION
#endif

#if defined(_WIN32)
#define EXPORT __declspec(dllexport)
#else
#define EXPORT __attribute__((visibility("default")))
#endif

typedef struct fake_graph {
    char device[16];
    ldm_plugin_port inputs[3], outputs[1];
} fake_graph;

static int32_t is(const char *device, const char *name) { return strcmp(device, name) == 0; }

/* What it was told to open, in one line. */
static void echo(const ldm_plugin_options *options, ldm_plugin_error error) {
    size_t used =
        (size_t)snprintf(error.text, error.size, "%s|%s|%s|%d", options->path, options->weights ? options->weights : "",
                         options->cache ? options->cache : "", options->threads);
    for (size_t index = 0; index < options->option_count && used < error.size; ++index) {
        used += (size_t)snprintf(error.text + used, error.size - used, "|%s=%s", options->keys[index],
                                 options->values[index]);
    }
}

static int32_t open_graph(const ldm_plugin_options *options, void **graph, ldm_plugin_error error) {
    const ldm_plugin_port inputs[3] = {{"sample", 1, 4, {-1, 4, -1, -1}},
                                       {"timestep", 1, 0, {0}},
                                       {"encoder_hidden_states", 1, 3, {-1, -1, 6}}};
    const ldm_plugin_port output = {"out_sample", 1, 4, {-1, 4, -1, -1}};
    fake_graph *made;
    *graph = NULL;
    if (is(options->device, "ECHO")) {
        echo(options, error);
        return LDM_PLUGIN_FAILED;
    }
    if (is(options->device, "ABSENT")) {
        snprintf(error.text, error.size, "there is no abacus here");
        return LDM_PLUGIN_UNAVAILABLE;
    }
    if (is(options->device, "FULL")) return LDM_PLUGIN_NO_MEMORY;
    made = calloc(1, sizeof *made);
    if (made == NULL) return LDM_PLUGIN_NO_MEMORY;
    strncpy(made->device, options->device, sizeof made->device - 1);
    memcpy(made->inputs, inputs, sizeof inputs);
    made->outputs[0] = output;
    if (is(made->device, "BYTES")) made->inputs[0].element_type = 0;
    if (is(made->device, "NARROW")) made->inputs[0].dims[1] = 3;
    *graph = made;
    return LDM_PLUGIN_OK;
}

static const ldm_plugin_port *ports_of(void *graph, int32_t outputs, size_t *count) {
    fake_graph *its = graph;
    *count = outputs ? 1 : 3;
    return outputs ? its->outputs : its->inputs;
}

/* Whatever it was asked for. */
static const char *precision_of(void *graph) {
    (void)graph;
    return "f32";
}

static int32_t run_graph(void* graph, const ldm_plugin_tensor* inputs, size_t input_count,
                         int32_t (*give)(void* user, const ldm_plugin_tensor* output), void* user,
                         ldm_plugin_error error) {
    const char *device = ((fake_graph *)graph)->device;
    ldm_plugin_tensor output = inputs[0];
    for (size_t index = 0; index < input_count; ++index) {
        if (is(inputs[index].name, "sample")) output = inputs[index];
    }
    output.name = "out_sample";
    if (is(device, "BROKEN")) {
        snprintf(error.text, error.size, "a bead is missing");
        return LDM_PLUGIN_FAILED;
    }
    if (is(device, "MUTE")) return LDM_PLUGIN_OK;
    if (is(device, "TURNED")) {
        int64_t height = output.shape[2];
        output.shape[2] = output.shape[3];
        output.shape[3] = height;
    }
    return give(user, &output) == 0 ? LDM_PLUGIN_OK : LDM_PLUGIN_NO_MEMORY;
}

EXPORT int32_t ldm_engine_plugin(int32_t version, ldm_plugin *plugin);

EXPORT int32_t ldm_engine_plugin(int32_t version, ldm_plugin *plugin) {
    const ldm_plugin functions = {open_graph, ports_of, run_graph, precision_of, free};
    if (version == FAKE_VERSION) *plugin = functions;
    return FAKE_VERSION;
}
