/* ldm_runtime: draws images with packages of latent diffusion models that ldm-export made.

   The same package and the same seed give the same latents as the Python runtime. This header is the manual of record.

   One call does it all, with ONNX Runtime, which is found when it runs and never linked:

       ldm_context *context;
       ldm_package *package;
       ldm_engine *engine;
       ldm_run *run;
       ldm_run_options options;

       if (ldm_context_create(NULL, &context) != LDM_OK) return 1;  // there is nothing to ask for the reason yet
       ldm_run_options_init(&options, sizeof options);
       options.prompt = "red apple, 3d style";
       options.seed = 1;
       options.has_seed = 1;
       if (ldm_package_open(context, "./package", NULL, &package) != LDM_OK ||
           ldm_engine_open(context, package, NULL, &engine) != LDM_OK ||
           ldm_run_create(context, package, &options, &run) != LDM_OK ||
           ldm_engine_draw(context, engine, run) != LDM_OK ||
           ldm_run_save_png(context, run, 0, "apple.png", 0) != LDM_OK) {
           fprintf(stderr, "%s: %s\n", ldm_error_code(context), ldm_error_text(context));
           return 1;
       }
       ldm_run_free(run);
       ldm_engine_free(engine);
       ldm_package_free(package);
       ldm_context_free(context);

   A host with an engine of its own asks a run what it needs next, runs that graph however it likes, and gives back what
   came out, until the images are there. Stopping, progress and previews are the host's own loop:

       ldm_status status;
       ldm_task task;

       ldm_task_init(&task, sizeof task);
       while ((status = ldm_run_next(context, run, &task)) == LDM_OK && task.kind != LDM_TASK_DONE) {
           if (task.kind == LDM_TASK_STEP) printf("step %d of %d\n", (int)task.step, (int)task.steps);
           if (task.kind == LDM_TASK_EVALUATE) {
               ldm_tensor outputs[LDM_MOST_OUTPUTS];  // what the host's engine makes of task.inputs
               run_graph(&task, outputs);
               status = ldm_run_give(context, run, outputs, task.output_count);
               if (status != LDM_OK) break;
           }
       }

   Threads. A context is for one thread at a time: make one for each. Packages and engines are shared by threads once
   they are open, and each thread draws the images that it draws alone. A run is for one thread at a time, but for
   ldm_run_cancel, which any thread may call. Nothing here starts a thread but an engine and ldm_package_open, which
   hashes files while the engine starts. A thread that calls needs a stack of 256 kB, which holds
   for ONNX Runtime on the CPU; what another provider, OpenVINO, or an engine of the host's own needs comes on top.

   Life. What was made with a context may outlive it, as long as the memory functions that the context was given work:
   any context may be given with any package, engine or run. A package must outlive its engines and runs. Every *_free
   takes NULL.

   Failures. When a function that returns ldm_status fails, a handle that it makes is NULL, and its other outputs are
   as they were, unless it says otherwise. The reason, one sentence with what was got, what was expected and what to
   do, and its stable code are in the context until the next call with it. Every such function returns LDM_MISUSE for
   a context that is NULL, for which there is no sentence, and where an argument is NULL that may not be, also within
   an array. LDM_MISUSE changes no package, engine or run: the call can be made again as it should have been. Any
   function that takes memory may return LDM_NO_MEMORY. A path that is "" is LDM_BAD_REQUEST, with the code
   request.path, wherever a path is taken: it is no name for the current folder, which is ".". Text is UTF-8 and ends
   with a NUL; sizes are in bytes. No function aborts, throws or exits, also where no memory is left (an engine's own
   allocations are outside of this promise).

   Structures that begin with struct_size may grow in later versions. An init function sets all fields to "not given"; a
   program and a library of different versions understand one another: fields that the shorter structure does not have
   are not given, and where a program fills a field that an older library does not know, the call is LDM_MISUSE. A
   struct_size that no version has (0, no multiple of the structure's alignment, or over 4096) is LDM_MISUSE too; an
   init function that is given one marks the structure as not begun. ldm_text and ldm_tensor never change. */

#ifndef LDM_RUNTIME_H
#define LDM_RUNTIME_H

#include <stddef.h>
#include <stdint.h>

#if defined(LDM_STATIC)
#define LDM_API
#elif defined(_WIN32)
#if defined(LDM_BUILDING)
#define LDM_API __declspec(dllexport)
#else
#define LDM_API __declspec(dllimport)
#endif
#elif defined(__GNUC__)
#define LDM_API __attribute__((visibility("default")))
#else
#define LDM_API
#endif

#ifdef __cplusplus
extern "C" {
#endif

/* ---- Version ----------------------------------------------------------------------------------------------------- */

/* Grows by one when a program that was compiled with an older header must be compiled again. */
#define LDM_ABI_VERSION 1

/* The ABI version of the library that is loaded. Compare it with LDM_ABI_VERSION before any other call. */
LDM_API int32_t ldm_abi_version(void);

/* The version of the library, such as "0.1.0". Static; never freed. */
LDM_API const char *ldm_version(void);

/* ---- Status and errors ------------------------------------------------------------------------------------------- */

/* What kind of failure it is. The finer code is text: ldm_error_code. */
typedef enum ldm_status {
    LDM_OK = 0,
    LDM_MISUSE = 1,       /* the call itself: a NULL, a wrong order, a struct_size of no version */
    LDM_BAD_PACKAGE = 2,  /* a package or one of its files will not do: fetch or build it again */
    LDM_BAD_REQUEST = 3,  /* an option will not do: change it */
    LDM_ENGINE_FAILED = 4,
    LDM_NOT_FINITE = 5,   /* the model made NaN or infinity; no image is made of it */
    LDM_CANCELLED = 6,
    LDM_BAD_OUTPUT = 7,   /* a file cannot be written, or may not be replaced */
    LDM_NO_MEMORY = 8,
    LDM_OTHER = 9
} ldm_status;

typedef struct ldm_context ldm_context;
typedef struct ldm_package ldm_package;
typedef struct ldm_engine ldm_engine;
typedef struct ldm_run ldm_run;

/* The stable code of the last call's failure, such as "manifest.version", and its sentence. "" after a call that
   succeeded, or for NULL. They belong to the context and last until the next call with it. */
LDM_API const char *ldm_error_code(const ldm_context *context);
LDM_API const char *ldm_error_text(const ldm_context *context);

/* The name of a status, such as "LDM_BAD_PACKAGE"; "unknown status" for no status. Static; never freed. */
LDM_API const char *ldm_status_name(ldm_status status);

/* ---- Context ----------------------------------------------------------------------------------------------------- */

typedef enum ldm_log_level {
    LDM_LOG_NOTICE = 1, /* what the user should know beside the image: a prompt that was cut, an option that has no
                           effect */
    LDM_LOG_DETAIL = 2  /* what a developer wants to know, with times: a package that is opened and its hashes, an
                           engine's library, options and graphs, each evaluation, the stages of ldm_verify. A sentence
                           begins with its topic, "package: " and so on; its words may change in any version */
} ldm_log_level;

/* Where a run is. A step is a sampling step as `steps` counts them; some samplers evaluate the denoiser several times
   in a step. */
typedef struct ldm_progress {
    size_t struct_size;  /* filled by the library, with its own version's: a field that ends beyond it is not there, and
                            is not to be read. Fields are only ever added at the end */
    int32_t step;        /* steps that are done, 0 before the first */
    int32_t steps;       /* of the run */
    int32_t evaluations; /* of the denoiser so far */
    double timestep;     /* at which it was evaluated last */
    int32_t preview_step; /* of the preview that ldm_run_image has, the step after or within which it was asked for,
                             from 1: one that was asked for within the first step says 1. 0: it has no preview */
} ldm_progress;

typedef struct ldm_context_options {
    size_t struct_size;

    /* Memory: both functions, or neither (malloc and free). Blocks are aligned as malloc's are; NULL means that no
       memory is left. They are called by every thread that uses what was made with this context. */
    void *(*allocate)(void *memory_user, size_t bytes);
    void (*release)(void *memory_user, void *block, size_t bytes);
    void *memory_user;

    /* Called by the thread that made the call, within it; `text` lasts until it returns. It must not use the context,
       nor free what the call was given. NULL: nothing is logged, and no sentence is made. */
    void (*log)(void *user, ldm_log_level level, const char *text);

    /* Called by ldm_engine_draw after each sampling step, within the call. Anything but 0 cancels the run, as
       ldm_run_cancel does. It may look at the run (ldm_run_latents), with the same context. It may ask for a preview
       (ldm_run_preview), which is there (ldm_run_image, `preview_step`) when it is called next: after the next step,
       or, where it was asked for after the last step, once more with that step. It must not free the run or take it
       on. */
    int (*progress)(void *user, ldm_run *run, const ldm_progress *progress);
    void *user;
} ldm_context_options;

/* Set all fields to "not given", as all init functions do. struct_size: sizeof(ldm_context_options). A NULL is left
   alone. */
LDM_API void ldm_context_options_init(ldm_context_options *options, size_t struct_size);

/* Make a context. options: NULL for none. On failure *context is NULL, and the status is all there is to know:
   LDM_MISUSE or LDM_NO_MEMORY. Free it with ldm_context_free. */
LDM_API ldm_status ldm_context_create(const ldm_context_options *options, ldm_context **context);
LDM_API void ldm_context_free(ldm_context *context);

/* ---- Package: what was built, without an engine ------------------------------------------------------------------ */

typedef enum ldm_check {
    LDM_CHECK_CACHED = 0, /* hash each file once, and remember it in the user's cache folder */
    LDM_CHECK_FULL = 1,   /* hash every file now */
    LDM_CHECK_SIZE = 2    /* sizes and headers only */
} ldm_check;

typedef struct ldm_package_options {
    size_t struct_size;
    int32_t check; /* an ldm_check */
} ldm_package_options;

LDM_API void ldm_package_options_init(ldm_package_options *options, size_t struct_size);

/* Open the package in a folder. options: NULL for the defaults. Sizes and headers are checked now, hashes by the end of
   ldm_engine_open. On failure *package is NULL: LDM_BAD_PACKAGE, or LDM_BAD_REQUEST for a folder that cannot be one.
   Free it with ldm_package_free, after its engines and runs. */
LDM_API ldm_status ldm_package_open(ldm_context *context, const char *folder, const ldm_package_options *options,
                                    ldm_package **package);

/* The text of one file. */
typedef struct ldm_text {
    const char *text;
    size_t size;
} ldm_text;

/* Read a package from memory, for a host without files: manifest.json, and the tokenizer.json of each text encoder in
   the order of the manifest. All is copied. Such a package has no engine of ours: drive its runs with ldm_run_next. On
   failure *package is NULL (LDM_BAD_PACKAGE). */
LDM_API ldm_status ldm_package_parse(ldm_context *context, ldm_text manifest, const ldm_text *tokenizers,
                                     size_t tokenizer_count, ldm_package **package);
LDM_API void ldm_package_free(ldm_package *package);

/* Wait for the hashes of an opened package's files: LDM_BAD_PACKAGE if one is not what the manifest says.
   ldm_engine_open does it too. A package that was parsed has no files, and is fine. */
LDM_API ldm_status ldm_package_confirm(ldm_context *context, ldm_package *package);

/* Its name, and the SHA-256 of its manifest in hexadecimal. They last as long as the package; "" for NULL. */
LDM_API const char *ldm_package_name(const ldm_package *package);
LDM_API const char *ldm_package_identity(const ldm_package *package);

/* What a run has where an option is not given. */
typedef struct ldm_defaults {
    size_t struct_size;
    int32_t width, height; /* pixels */
    int32_t steps;
    double guidance;
    const char *sampler; /* lasts as long as the package */
    int32_t inpaints;    /* 1: the model inpaints, and a run needs an image and a mask */
} ldm_defaults;

LDM_API void ldm_defaults_init(ldm_defaults *defaults, size_t struct_size);

/* Fill `defaults`, which ldm_defaults_init began. Fails with LDM_MISUSE alone. */
LDM_API ldm_status ldm_package_defaults(ldm_context *context, const ldm_package *package, ldm_defaults *defaults);

/* ---- Runs -------------------------------------------------------------------------------------------------------- */

typedef enum ldm_pixel_type { LDM_UINT8 = 1, LDM_UINT16 = 2 } ldm_pixel_type;

/* An image: rows from the top, channels one after the other (grey, grey and alpha, RGB, RGB and alpha). */
typedef struct ldm_image {
    size_t struct_size;
    int32_t width, height;
    int32_t channels;          /* 1 to 4 */
    int32_t pixel_type;        /* an ldm_pixel_type; 16 bits in the byte order of the machine */
    const void *pixels;
    size_t row_bytes;          /* from one row to the next; 0: rows follow one another */
    void *owned;               /* the library's: NULL where the pixels are somebody else's, such as yours or a run's;
                                  else what ldm_image_free frees. Copies of the structure do not own it too */
} ldm_image;

/* Begin an image. One that owns pixels is freed with ldm_image_free first. */
LDM_API void ldm_image_init(ldm_image *image, size_t struct_size);

/* What to draw. What is "not given" has the package's default, or no effect. Everything is copied by ldm_run_create.
   What contradicts itself is LDM_BAD_REQUEST: an option beside the one whose place it takes, a field without what it
   belongs to, such as `variation_seed` without `has_variation`, and a count or a width of an array that is NULL. What
   is allowed and does nothing, such as `negative` without guidance, is a notice. */
typedef struct ldm_run_options {
    size_t struct_size;

    const char *prompt;          /* "" is legal; NULL where `prompts` or `prompt_embeds` are given */
    const char *const *prompts;  /* several prompts, an image for each */
    size_t prompt_count;         /* of `prompts` */
    const char *negative;        /* for all prompts; NULL: the empty one, or what the package says */
    const char *const *negatives; /* in place of `negative`, one for each prompt or embedding */
    int32_t count;               /* images for each prompt; 0: one */
    const char *syntax;          /* "plain" (NULL), or "weighted": (word:1.3), [word], BREAK and long prompts */

    int32_t steps;               /* 0: the package's */
    double guidance;             /* classifier-free guidance; 1 or less: the prompt alone. NaN: the package's */
    double guidance_rescale;     /* 0 to 1, against overexposure by guidance */
    double guidance_from, guidance_to; /* shares of the run between which guidance is on. Both NaN: 0 and 1, or what
                                    `variant` says; beside a number NaN is 0 and 1 */
    const char *sampler;         /* with options after a colon, "unipc:order=3"; NULL: the package's */

    uint64_t seed;               /* of the first image; image b has seed + b mod 2^64 */
    int32_t has_seed;            /* 0: a random seed, which ldm_run_seed tells; `seed` is 0 then. In
                                    libldm_steps.a nothing is random: there it is LDM_BAD_REQUEST */
    const uint64_t *seeds;       /* one for each image, in place of `seed`, which is 0 then, and has_seed too */
    size_t seed_count;
    const char *noise;           /* "philox" (NULL), or "torch" or "cuda": what diffusers draws from a seed */
    int32_t has_variation;       /* 1: move the noise by variation_strength, 0 to 1, towards that of another seed. 0:
                                    none, and variation_seed and variation_strength are 0 */
    uint64_t variation_seed;
    double variation_strength;

    int32_t width, height;       /* pixels; both 0: those of the first of `images`, less what is over the latents' grid,
                                    else the package's. They are required beside `latents` */
    int32_t original_width, original_height; /* what a model that reads sizes is told; 0: the image's own */
    int32_t crop_top, crop_left;
    int32_t target_width, target_height;

    const ldm_image *images;     /* to start from: one for all, or one for each; all of one struct_size */
    size_t image_count;          /* of `images`: 1 or more */
    const ldm_image *mask;       /* white where the image is inpainted */
    double strength;             /* how much the image is changed, 0 to 1. NaN: 0.8, with a mask 1 */
    int32_t stop_after;          /* end after this many steps; 0: at the end */

    const float *latents;        /* (B, C, h, w), noise of unit variance in place of the seed's; h, w: height and width
                                    over the model's downsampling */
    size_t latents_count;        /* numbers: B * C * h * w */
    const float *prompt_embeds;  /* (embeds_count, embeds_tokens, embeds_width) in place of a prompt */
    size_t embeds_count, embeds_tokens, embeds_width;
    const float *pooled_prompt_embeds; /* (embeds_count, pooled_width) beside them, where a model reads pooled text */
    size_t pooled_width;

    const char *to_prompt;       /* interpolation: the prompt and the seed at the other end (NULL: none, and to_seed and
                                    share are 0), */
    uint64_t to_seed;
    double share;                /* and how far towards them, 0 to 1; for one prompt and one image. Without a size it
                                    has the package's, also with `images` */

    const char *variant;         /* that draws, by its name (ldm_engine_variant): what it was measured with goes before
                                    the package's steps, sampler and guidance_to. NULL: it is drawn exactly */
} ldm_run_options;

LDM_API void ldm_run_options_init(ldm_run_options *options, size_t struct_size);

/* Check the options and make a run; nothing is computed yet but its plan and tokens. Notices are logged. On failure
   *run is NULL: LDM_BAD_REQUEST, or LDM_MISUSE for an image that was not begun or a NULL in an array. Free it with
   ldm_run_free, from the thread that uses it. */
LDM_API ldm_status ldm_run_create(ldm_context *context, const ldm_package *package, const ldm_run_options *options,
                                  ldm_run **run);
LDM_API void ldm_run_free(ldm_run *run);

/* End a run, from any thread, until it is freed. Calls that take it on (ldm_run_next, ldm_run_give, ldm_run_preview,
   ldm_engine_evaluate, ldm_engine_draw) return LDM_CANCELLED from the next one on; one that is under way ends first,
   but for ldm_engine_draw, which ends after the evaluation that it is at. What was drawn before can still be looked at.
   A run that is over, because it said LDM_TASK_DONE or failed, stays as it is. */
LDM_API void ldm_run_cancel(ldm_run *run);

/* The number of images, 0 for NULL, and the seed of one; image: 0 to that number less one, else LDM_MISUSE. */
LDM_API size_t ldm_run_image_count(const ldm_run *run);
LDM_API ldm_status ldm_run_seed(ldm_context *context, const ldm_run *run, size_t image, uint64_t *seed);

/* An image that is drawn, RGB of 8 bits, or of the last preview; `pixels` belong to the run and last until it is freed
   or goes on. `out` was begun with ldm_image_init; what it owned is freed. LDM_MISUSE before there is an image, while
   it is decoded, and once the run has failed: then `out` is empty. */
LDM_API ldm_status ldm_run_image(ldm_context *context, const ldm_run *run, size_t image, ldm_image *out);

/* The latents after the last evaluation of the denoiser, float32 (B, C, h, w); they belong to the run and last until it
   goes on. LDM_MISUSE before there are any. */
LDM_API ldm_status ldm_run_latents(ldm_context *context, const ldm_run *run, const float **latents, int64_t shape[4]);

/* How the image that ldm_run_image has was made, or, without one, what is drawn so far: pairs of a name and a value.
   The same options draw it again, but for what no options draw: a preview says "preview after" and where, and what is
   drawn so far says "within step" where the last evaluation ended none (heun has two in a step). *count: set to the
   number of pairs; keys and values: set to arrays of that many, which belong to the run and last until this is called
   with it again. */
LDM_API ldm_status ldm_run_metadata(ldm_context *context, ldm_run *run, size_t image, const char *const **keys,
                                    const char *const **values, size_t *count);

/* ---- Step by step, with the host's own engine -------------------------------------------------------------------- */

typedef enum ldm_element_type { LDM_FLOAT32 = 1, LDM_INT64 = 2, LDM_INT32 = 3 } ldm_element_type;

/* A tensor in C order. `bytes` are those of its shape and type. */
typedef struct ldm_tensor {
    const char *name; /* of the graph's input or output */
    int32_t element_type; /* an ldm_element_type */
    int32_t rank;     /* 0 to 4 */
    int64_t shape[4];
    const void *data;
    size_t bytes;
} ldm_tensor;

typedef enum ldm_task_kind {
    LDM_TASK_EVALUATE = 1, /* run a graph, then call ldm_run_give */
    LDM_TASK_STEP = 2,     /* a sampling step is done; nothing to do but look */
    LDM_TASK_DONE = 3,     /* the images are there */
    LDM_TASK_PREVIEW = 4   /* the preview that was asked for is there; nothing to do but look */
} ldm_task_kind;

/* No task has more outputs, in all of this ABI. */
#define LDM_MOST_OUTPUTS 8

/* What a run needs next. All pointers belong to the run and last until the next call that takes it on. */
typedef struct ldm_task {
    size_t struct_size;
    int32_t kind;             /* an ldm_task_kind */
    const char *component;    /* whose graph to run: one of components.NAME.artefacts of manifest.json */
    const ldm_tensor *inputs;
    size_t input_count;
    const ldm_tensor *outputs; /* that are needed, as they must be: name, type, shape and bytes, with data NULL. A graph
                                  may have more */
    size_t output_count;
    int32_t step, steps;      /* sampling steps that are done, and those of the run */
    int32_t evaluations;      /* of the denoiser so far */
    double timestep;
    const char *artefact;     /* the name of that graph, where the run's variant says which; NULL: any that has the
                                 inputs and outputs of the contract, such as the first. A variant with caching takes
                                 turns with two: what one gives beside its output, the run keeps, and feeds to the
                                 other. What a way of the variant says else, its engine and precision, is the host's
                                 to do */
} ldm_task;

LDM_API void ldm_task_init(ldm_task *task, size_t struct_size);

/* Say what the run needs next. Asked twice without an answer, it says the same again (a step and a preview once); after
   LDM_TASK_DONE it says that again. LDM_CANCELLED after ldm_run_cancel. After any other failure but LDM_MISUSE the run
   is over: every call that takes it on fails with that code. On failure *task is as it was. */
LDM_API ldm_status ldm_run_next(ldm_context *context, ldm_run *run, ldm_task *task);

/* Give the outputs that the last task asked for, in any order, and others if you like; they are copied. LDM_MISUSE
   without such a task, where one is missing or where `bytes` are not those of the shape; LDM_ENGINE_FAILED for another
   type or shape than was asked for: after both, give what was asked for. After LDM_NOT_FINITE, for NaN or infinity, the
   run is over; after LDM_NO_MEMORY it may be: ldm_run_next says. */
LDM_API ldm_status ldm_run_give(ldm_context *context, ldm_run *run, const ldm_tensor *outputs, size_t output_count);

/* Ask for a preview: the next tasks decode the image that the model predicts now, and LDM_TASK_PREVIEW says that
   ldm_run_image has it. After that the run goes on; a preview changes nothing of what it draws. It is asked for after
   an evaluation of the denoiser and before the next task, such as when a step was told, also the last one; at any other
   time it is LDM_MISUSE, also for the preview that is there already. No failure ends the run. */
LDM_API ldm_status ldm_run_preview(ldm_context *context, ldm_run *run);

/* ---- Engines: ONNX Runtime, OpenVINO ----------------------------------------------------------------------------- */

typedef struct ldm_engine_options {
    size_t struct_size;
    const char *library;  /* path of ONNX Runtime's shared library, 1.20 or newer. NULL: the one that the environment
                             variable LDM_ONNXRUNTIME names, else one beside this library (libonnxruntime.so, .so.1,
                             or the highest .so.VERSION), else one that the system finds.
                             Of OpenVINO's plugin; NULL: the one that LDM_OPENVINO names, else the one beside this
                             library */
    const char *provider; /* "cpu" (NULL), or one of its execution providers, by the name that it has in ldm-export
                             ("cuda", "tensorrt", …) or in ONNX Runtime ("CUDAExecutionProvider"), spelt as there:
                             "CUDA" is none; ONNX Runtime has to be 1.24 or newer for it.
                             OpenVINO's device: "CPU" (NULL), "GPU", "GPU.1", "NPU" */
    const char *const *provider_keys; /* options that are passed to the provider as they are; OpenVINO's properties */
    const char *const *provider_values;
    size_t provider_option_count;
    int32_t threads;      /* within an operator, on the CPU; 0: the engine's choice */
    int32_t maps_weights; /* 1: ONNX Runtime, on the CPU, leaves the weights in their files, and a component that is
                             done with gives its memory back: a start in less time and memory, for steps that take
                             longer. 0: those of large components alone; others are copied into what the kernels like
                             best */
    const char *engine;   /* "ort" (NULL): ONNX Runtime; "openvino": OpenVINO, which needs a plugin that was built for
                             it */
    const char *budget;   /* how far an image may be from the exact one: "exact" (NULL), "psnr=35" (dB) or "ssim=0.95".
                             The fastest variant of the package that was measured to hold it, whose engines and units
                             of the CPU are here, and whose graphs open, draws; without one it is drawn exactly. Notices
                             say why. An engine or a provider that is named is the only one that a variant may have */
    const char *variant;  /* a variant by its name, in place of the fastest; beside a budget it has to hold that. One
                             whose engine or unit of the CPU is missing, or whose graphs do not open, is
                             LDM_ENGINE_FAILED */
} ldm_engine_options;

LDM_API void ldm_engine_options_init(ldm_engine_options *options, size_t struct_size);

/* Open the engine and the graph of each component; an image's encoder is opened when it is first needed. Waits for
   the package's hashes. On failure *engine is NULL: LDM_ENGINE_FAILED, LDM_BAD_PACKAGE, LDM_BAD_REQUEST for an option,
   or LDM_MISUSE for a package that was parsed. Free it with ldm_engine_free, when no thread draws with it. While ONNX
   Runtime is opened, the environment variable ORT_DISABLE_TELEMETRY is set and restored: a host whose threads read the
   environment meanwhile sets it to 1 itself, before it starts them, and then nothing changes. */
LDM_API ldm_status ldm_engine_open(ldm_context *context, ldm_package *package, const ldm_engine_options *options,
                                   ldm_engine **engine);
LDM_API void ldm_engine_free(ldm_engine *engine);

/* The name of the variant that the engine draws with, for `variant` of ldm_run_options; NULL: it draws exactly, or
   `engine` is NULL. It lasts as long as the package. */
LDM_API const char *ldm_engine_variant(const ldm_engine *engine);

/* Do what the last task of kind LDM_TASK_EVALUATE asks, and give the outputs to the run. LDM_MISUSE without such a
   task, and where engine and run are of two packages or variants. LDM_ENGINE_FAILED does not end the run: it can be
   tried again. Other failures are those of ldm_run_give. */
LDM_API ldm_status ldm_engine_evaluate(ldm_context *context, ldm_engine *engine, ldm_run *run);

/* Take a run to its end, wherever it is, past previews that were asked for. The context's progress function is called
   after each step, and once more with the last step where a preview was asked for after that one. Failures are those of
   ldm_run_next and ldm_engine_evaluate. A run that is done stays so (LDM_OK). */
LDM_API ldm_status ldm_engine_draw(ldm_context *context, ldm_engine *engine, ldm_run *run);

/* ---- Images as files --------------------------------------------------------------------------------------------- */

/* Write image `image` of a run, or of its last preview, as PNG, with how it was made as text. It appears whole or not
   at all. force: 0 keeps what is there. LDM_BAD_OUTPUT: nothing was written; LDM_MISUSE as ldm_run_image. */
LDM_API ldm_status ldm_run_save_png(ldm_context *context, ldm_run *run, size_t image, const char *path, int32_t force);

/* Read a PNG file of 8 or 16 bits as 8 bits. *image was begun with ldm_image_init; what it owned is freed. It owns what
   was read: free it with ldm_image_free. On failure it is empty (LDM_BAD_REQUEST). */
LDM_API ldm_status ldm_image_read_png(ldm_context *context, const char *path, ldm_image *image);

/* Free the pixels that an image owns, and begin it anew. Pixels of somebody else are let go. */
LDM_API void ldm_image_free(ldm_image *image);

/* ---- Plans ------------------------------------------------------------------------------------------------------- */

/* Describe the sampling plan of a package as JSON, as `ldm-export plan --json` does: sampler NULL and steps 0 are the
   package's; start: steps left out at the beginning. *json lasts until the next ldm_plan_json with the context. On
   failure it is NULL (LDM_BAD_REQUEST). */
LDM_API ldm_status ldm_plan_json(ldm_context *context, const ldm_package *package, const char *sampler, int32_t steps,
                                 int32_t start, const char **json);

/* ---- Proof ------------------------------------------------------------------------------------------------------- */

typedef struct ldm_report ldm_report;

/* Compare the package in a folder with what torch computed, as `ldm-export verify` does: its contract, its tokens, each
   graph that the engine reads, and a sampling run, with the inputs and outputs that the package carries; and each
   variant with what was recorded of it, where its engines and units of the CPU are here. An application does so where a
   new machine or provider is to be trusted. Every file is hashed now; nothing is written. Each stage is logged as
   LDM_LOG_DETAIL before it begins. A package that does not pass is no failure of the call: ask the report. options:
   NULL for the defaults; `budget` and `variant` are NULL. An `engine` or a `provider` that is named leaves out the
   variants that run with another. On failure *report is NULL (LDM_BAD_PACKAGE for what cannot be compared,
   LDM_ENGINE_FAILED). Free it with ldm_report_free. */
LDM_API ldm_status ldm_verify(ldm_context *context, const char *folder, const ldm_engine_options *options,
                              ldm_report **report);
LDM_API void ldm_report_free(ldm_report *report);

/* 1: all of it passed; 0: not, or NULL. */
LDM_API int32_t ldm_report_passed(const ldm_report *report);

/* The findings as a table for a terminal, and as JSON, as report.json has them. They last as long as the report; "" for
   NULL. */
LDM_API const char *ldm_report_table(const ldm_report *report);
LDM_API const char *ldm_report_json(const ldm_report *report);

/* What did not pass, a sentence each, from 0; NULL after the last one. */
LDM_API const char *ldm_report_failure(const ldm_report *report, size_t index);

/* ---- What a package is, and where its images go ------------------------------------------------------------------ */

/* Describe a package that was opened from a folder, as `ldm-export inspect` does: sizes, defaults, components, proof.
   as_json: 1 for JSON, 0 for lines of text. Waits for its hashes: what is told is true of its files. Before threads
   share the package. *text lasts until the next ldm_package_describe with the context. */
LDM_API ldm_status ldm_package_describe(ldm_context *context, ldm_package *package, int32_t as_json, const char **text);

/* Fail as ldm_run_save_png would for this path, before the work: something is there already, the folder is missing or
   takes no files (LDM_BAD_OUTPUT). */
LDM_API ldm_status ldm_check_output(ldm_context *context, const char *path, int32_t force);

#ifdef __cplusplus
}
#endif

#endif
