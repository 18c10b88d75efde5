/* What a plugin is: an engine in a shared library of its own, for what is tied to one release of a library that nobody
   can be asked to link. It is opened while the program runs. Plain C on both sides, so that plugin and library may come
   of different compilers.

   A plugin exports one function, ldm_engine_plugin, which fills a table of functions. None of them throws. Threads may
   call `open` at the same time, and `run` of one graph too; nobody uses a graph while it is closed, or afterwards. All
   texts are UTF-8 and end with a NUL. */
#ifndef LDM_ENGINES_PLUGIN_H
#define LDM_ENGINES_PLUGIN_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/* Grows by one with every change to this file that a compiled plugin would notice. */
#define LDM_PLUGIN_ABI_VERSION 2

#define LDM_PLUGIN_MOST_DIMS 8

/* What a function of the table answers. */
enum {
    LDM_PLUGIN_OK = 0,
    LDM_PLUGIN_FAILED = 1,      /* the error's text is the engine's own reason, in one line */
    LDM_PLUGIN_UNAVAILABLE = 2, /* this machine cannot do it: the text is a whole sentence */
    LDM_PLUGIN_NO_MEMORY = 3
};

/* Where a function puts the text of an error, cut to `size` bytes with its NUL. */
typedef struct ldm_plugin_error {
    char *text;
    size_t size;
} ldm_plugin_error;

/* Element types are those of ldm_element_type, and 4 for float16, 5 for float64. A port may have another one: 0. */

/* An input or output of a graph. */
typedef struct ldm_plugin_port {
    const char *name;
    int32_t element_type;
    int32_t rank; /* 0 to LDM_PLUGIN_MOST_DIMS */
    int64_t dims[LDM_PLUGIN_MOST_DIMS]; /* -1: open */
} ldm_plugin_port;

/* A tensor in C order. */
typedef struct ldm_plugin_tensor {
    const char *name;
    int32_t element_type;
    int32_t rank;
    int64_t shape[LDM_PLUGIN_MOST_DIMS];
    const void *data;
    size_t bytes;
} ldm_plugin_tensor;

/* What to open, and how. */
typedef struct ldm_plugin_options {
    const char *path;    /* of an ONNX file, or of a file in the engine's own format */
    const char *weights; /* of the engine's own format; NULL: the ONNX file says where they are */
    const char *cache;   /* a folder for what was compiled, of these files alone; NULL: nothing is kept */
    const char *device;  /* by the engine's own name */
    int32_t threads;     /* of one operator; 0: the engine's choice */
    const char *const *keys; /* the engine's own properties, which go before what a plugin would set */
    const char *const *values;
    size_t option_count;
} ldm_plugin_options;

typedef struct ldm_plugin {
    /* Load a graph, which is given back with `close`. On failure *graph is NULL. The options are copied. */
    int32_t (*open)(const ldm_plugin_options *options, void **graph, ldm_plugin_error error);

    /* The inputs, or with outputs 1 the outputs. They last until the graph is closed. */
    const ldm_plugin_port *(*ports)(void *graph, int32_t outputs, size_t *count);

    /* Evaluate: `give` is called once for each output, which lasts until it returns. If that is not 0 the call ends
       with LDM_PLUGIN_NO_MEMORY. The inputs' data may be read until `run` returns. */
    int32_t (*run)(void *graph, const ldm_plugin_tensor *inputs, size_t input_count,
                   int32_t (*give)(void *user, const ldm_plugin_tensor *output), void *user, ldm_plugin_error error);

    /* The floating-point type that a graph is computed in, as the engine's own properties spell it, such as "f32"; ""
       where it does not say. It lasts until the graph is closed. */
    const char *(*precision)(void *graph);

    void (*close)(void *graph);
} ldm_plugin;

/* The exported function. version: LDM_PLUGIN_ABI_VERSION of the caller. It returns the plugin's own, and fills *plugin
   if the two are equal. */
typedef int32_t (*ldm_engine_plugin_function)(int32_t version, ldm_plugin *plugin);

#ifdef __cplusplus
}
#endif

#endif
