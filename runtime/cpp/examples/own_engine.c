/* A host with an engine of its own: own_engine MANIFEST TOKENIZER [TOKENIZER …] draws step by step without files,
   threads or ONNX Runtime of the library's. The "engine" here is a toy, one line for each kind of component; a real one
   runs the graphs of the package, whose files the manifest names. */

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "ldm_runtime.h"

/* Run a graph: here every number of an output is a mean of the first input's, moved by its place. */
static void run_graph(const ldm_task *task, const ldm_tensor *output, float *numbers) {
    const ldm_tensor *input = &task->inputs[0];
    size_t count = output->bytes / sizeof(float), index;
    for (index = 0; index < count; ++index) {
        float value = 0.0f;
        if (input->element_type == LDM_FLOAT32) value = ((const float *)input->data)[index % (input->bytes / 4)];
        if (input->element_type == LDM_INT64)
            value = (float)((const int64_t*)input->data)[index % (input->bytes / 8)] / 1e5f;
        numbers[index] = 0.5f * value + 0.01f * (float)(index % 7);
    }
}

/* Give a run what its task asks for. */
static ldm_status evaluate(ldm_context *context, ldm_run *run, const ldm_task *task) {
    ldm_tensor outputs[LDM_MOST_OUTPUTS];
    size_t index;
    ldm_status status = LDM_NO_MEMORY;
    memset(outputs, 0, sizeof outputs);
    for (index = 0; index < task->output_count; ++index) {
        float *numbers = malloc(task->outputs[index].bytes);
        if (numbers == NULL) break;
        run_graph(task, &task->outputs[index], numbers);
        outputs[index] = task->outputs[index];
        outputs[index].data = numbers;
    }
    if (index == task->output_count) status = ldm_run_give(context, run, outputs, index);
    for (index = 0; index < task->output_count; ++index) free((void *)outputs[index].data);
    return status;
}

static ldm_status draw(ldm_context *context, ldm_run *run) {
    ldm_task task;
    ldm_status status;
    ldm_task_init(&task, sizeof task);
    while ((status = ldm_run_next(context, run, &task)) == LDM_OK && task.kind != LDM_TASK_DONE) {
        if (task.kind == LDM_TASK_STEP) printf("step %d of %d\n", (int)task.step, (int)task.steps);
        if (task.kind == LDM_TASK_EVALUATE) {
            status = evaluate(context, run, &task);
            if (status != LDM_OK) break;
        }
    }
    return status;
}

static int read_text(const char *path, ldm_text *out) {
    FILE *file = fopen(path, "rb");
    char *text = malloc(1 << 24);
    size_t size = 0;
    if (file != NULL && text != NULL) size = fread(text, 1, 1 << 24, file);
    if (file != NULL) fclose(file);
    out->text = text;
    out->size = size;
    return size > 0;
}

int main(int argc, char **argv) {
    ldm_context *context = NULL;
    ldm_package *package = NULL;
    ldm_run *run = NULL;
    ldm_run_options options;
    ldm_text texts[9];
    ldm_image image;
    ldm_status status;
    int index, count = argc - 1;

    if (count < 2 || count > 9) {
        fprintf(stderr, "usage: %s MANIFEST TOKENIZER [TOKENIZER ...]\n", argv[0]);
        return 2;
    }
    for (index = 0; index < count; ++index) {
        if (!read_text(argv[index + 1], &texts[index])) return fprintf(stderr, "cannot read %s\n", argv[index + 1]), 1;
    }
    ldm_run_options_init(&options, sizeof options);
    ldm_image_init(&image, sizeof image);
    options.prompt = "a red apple";
    options.seed = 1;
    options.has_seed = 1;
    status = ldm_context_create(NULL, &context);
    if (status == LDM_OK) status = ldm_package_parse(context, texts[0], texts + 1, (size_t)count - 1, &package);
    if (status == LDM_OK) status = ldm_run_create(context, package, &options, &run);
    if (status == LDM_OK) status = draw(context, run);
    if (status == LDM_OK) status = ldm_run_image(context, run, 0, &image);
    if (status == LDM_OK)
        printf("%dx%d pixels of %s\n", (int)image.width, (int)image.height, ldm_package_name(package));
    if (status != LDM_OK) fprintf(stderr, "%s: %s\n", ldm_error_code(context), ldm_error_text(context));
    ldm_run_free(run);
    ldm_package_free(package);
    ldm_context_free(context);
    for (index = 0; index < count; ++index) free((void *)texts[index].text);
    return status == LDM_OK ? 0 : 1;
}
