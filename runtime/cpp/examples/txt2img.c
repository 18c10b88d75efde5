/* Draws an image: txt2img PACKAGE PROMPT OUT.png [SEED [STEPS]].

   cc -std=c99 txt2img.c $(pkg-config --cflags --libs ldm_runtime) -o txt2img
   LDM_ONNXRUNTIME=/path/to/libonnxruntime.so ./txt2img ./package "red apple, 3d style" apple.png 1 */

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#include "ldm_runtime.h"

static void print_notice(void *user, ldm_log_level level, const char *text) {
    (void)user;
    if (level == LDM_LOG_NOTICE) fprintf(stderr, "note: %s\n", text);
}

static int print_step(void *user, ldm_run *run, const ldm_progress *progress) {
    (void)user;
    (void)run;
    fprintf(stderr, "\rstep %" PRId32 " of %" PRId32, progress->step, progress->steps);
    if (progress->step == progress->steps) fputc('\n', stderr);
    return 0; /* go on */
}

/* Returns 0 for what is no whole number from 0 up. */
static int read_number(const char *text, uint64_t *number) {
    char *end;
    errno = 0;
    *number = strtoull(text, &end, 10);
    return text[0] >= '0' && text[0] <= '9' && *end == '\0' && errno == 0;
}

static ldm_status draw(ldm_context *context, const char *folder, const ldm_run_options *options, const char *out) {
    ldm_package *package = NULL;
    ldm_engine *engine = NULL;
    ldm_run *run = NULL;
    ldm_status status = ldm_package_open(context, folder, NULL, &package);

    if (status == LDM_OK) status = ldm_engine_open(context, package, NULL, &engine);
    if (status == LDM_OK) status = ldm_run_create(context, package, options, &run);
    if (status == LDM_OK) status = ldm_engine_draw(context, engine, run);
    if (status == LDM_OK) status = ldm_run_save_png(context, run, 0, out, 1);
    if (status != LDM_OK) fprintf(stderr, "%s: %s\n", ldm_error_code(context), ldm_error_text(context));
    ldm_run_free(run);
    ldm_engine_free(engine);
    ldm_package_free(package);
    return status;
}

int main(int argc, char **argv) {
    ldm_context_options context_options;
    ldm_context *context;
    ldm_run_options options;
    ldm_status status;
    uint64_t steps = 0;

    ldm_context_options_init(&context_options, sizeof context_options);
    ldm_run_options_init(&options, sizeof options);
    if (argc < 4 || argc > 6 || (argc > 4 && !read_number(argv[4], &options.seed)) ||
        (argc > 5 && (!read_number(argv[5], &steps) || steps > 1000))) {
        fprintf(stderr, "usage: %s PACKAGE PROMPT OUT.png [SEED [STEPS]]\n", argv[0]);
        return 2;
    }
    context_options.log = print_notice;
    context_options.progress = print_step;
    if (ldm_context_create(&context_options, &context) != LDM_OK) {
        fputs("no memory is left\n", stderr);
        return 1;
    }
    options.prompt = argv[2];
    options.has_seed = argc > 4;
    options.steps = (int32_t)steps;
    status = draw(context, argv[1], &options, argv[3]);
    ldm_context_free(context);
    return status == LDM_OK ? 0 : 1;
}
