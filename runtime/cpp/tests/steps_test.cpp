// A run step by step through the C interface: cancelling, previews, what is told of it, and memory.
#include "ldm_runtime.h"

#include <cmath>

#include "tests/failing_allocator.h"
#include "tests/kit.h"

namespace {

ldm_image begun_image() {
    ldm_image image;
    ldm_image_init(&image, sizeof image);
    return image;
}

ldm_context_options memory_of(FailingAllocator& allocator) {
    ldm_context_options options;
    ldm_context_options_init(&options, sizeof options);
    options.allocate = FailingAllocator::allocate;
    options.release = FailingAllocator::release;
    options.memory_user = &allocator;
    return options;
}

// What takes a cancelled run on says so; what looks at it goes on.
void a_cancelled_run_goes_no_further() {
    Kit kit;
    ldm_task task;
    CHECK(go_to(kit.context, kit.run, LDM_TASK_STEP, task) && ldm_run_preview(kit.context, kit.run) == LDM_OK);
    CHECK(go_to(kit.context, kit.run, LDM_TASK_PREVIEW, task));
    CHECK(go_to(kit.context, kit.run, LDM_TASK_EVALUATE, task));
    Outputs outputs(task);
    ldm_run_cancel(kit.run);
    for (int turn = 0; turn < 2; ++turn) {
        CHECK(outputs.give(kit.context, kit.run) == LDM_CANCELLED && kit.says("run.cancelled"));
        CHECK(ldm_run_next(kit.context, kit.run, &task) == LDM_CANCELLED && kit.says("run.cancelled"));
        CHECK(ldm_run_preview(kit.context, kit.run) == LDM_CANCELLED && kit.says("run.cancelled"));
    }
    CHECK(task.kind == LDM_TASK_EVALUATE);  // as it was
    ldm_image image = begun_image();
    const float* latents;
    int64_t shape[4];
    uint64_t seed;
    const char *const *keys, *const *values;
    size_t count;
    CHECK(ldm_run_image(kit.context, kit.run, 0, &image) == LDM_OK);
    CHECK(ldm_run_latents(kit.context, kit.run, &latents, shape) == LDM_OK);
    CHECK(ldm_run_seed(kit.context, kit.run, 0, &seed) == LDM_OK);
    CHECK(ldm_run_metadata(kit.context, kit.run, 0, &keys, &values, &count) == LDM_OK);
}

void a_run_that_is_over_is_not_cancelled() {
    Kit drawn;
    ldm_task task;
    CHECK(go_to(drawn.context, drawn.run, LDM_TASK_DONE, task));
    ldm_run_cancel(drawn.run);
    CHECK(ldm_run_next(drawn.context, drawn.run, &task) == LDM_OK && task.kind == LDM_TASK_DONE);
    MISUSED(drawn, ldm_run_preview(drawn.context, drawn.run));

    Kit failed;
    CHECK(go_to(failed.context, failed.run, LDM_TASK_EVALUATE, task));
    Outputs outputs(task);
    outputs.numbers[0][0] = INFINITY;
    CHECK(outputs.give(failed.context, failed.run) == LDM_NOT_FINITE);
    ldm_run_cancel(failed.run);
    CHECK(ldm_run_next(failed.context, failed.run, &task) == LDM_NOT_FINITE);
    CHECK(outputs.give(failed.context, failed.run) == LDM_NOT_FINITE);
}

// A fact of the image that a run has; "" where it is not told.
std::string told(const Kit& kit, const char* name) {
    const char *const *keys, *const *values;
    size_t count = 0;
    CHECK(ldm_run_metadata(kit.context, kit.run, 0, &keys, &values, &count) == LDM_OK);
    for (size_t index = 0; index < count; ++index) {
        if (std::strcmp(keys[index], name) == 0) return values[index];
    }
    return "";
}

// Whenever it is looked at: no options draw a preview, and those of a stopped run draw its latents.
void an_image_is_told_as_what_it_is() {
    Kit kit;
    ldm_task task;
    CHECK(go_to(kit.context, kit.run, LDM_TASK_STEP, task) && told(kit, "stopped after") == "1");
    CHECK(ldm_run_preview(kit.context, kit.run) == LDM_OK);
    CHECK(go_to(kit.context, kit.run, LDM_TASK_PREVIEW, task) && told(kit, "preview after") == "1");
    CHECK(told(kit, "stopped after") == "");
    CHECK(go_to(kit.context, kit.run, LDM_TASK_STEP, task) && go_to(kit.context, kit.run, LDM_TASK_STEP, task));
    CHECK(task.step == 3 && told(kit, "preview after") == "1");
    CHECK(go_to(kit.context, kit.run, LDM_TASK_DONE, task));
    CHECK(told(kit, "preview after") == "" && told(kit, "stopped after") == "");

    ldm_run_options stopped = apple(), heun = apple();
    stopped.stop_after = 2;
    Kit ended(nullptr, stopped);
    CHECK(go_to(ended.context, ended.run, LDM_TASK_DONE, task) && told(ended, "stopped after") == "2");
    heun.sampler = "heun";
    Kit within(nullptr, heun);
    do {
        CHECK(go_to(within.context, within.run, LDM_TASK_EVALUATE, task));
        CHECK(Outputs(task).give(within.context, within.run) == LDM_OK);
    } while (std::strcmp(task.component, "unet") != 0);
    CHECK(told(within, "within step") == "1, after evaluation 1" && told(within, "stopped after") == "");
    CHECK(ldm_run_preview(within.context, within.run) == LDM_OK);
    CHECK(told(within, "within step") == "1, after evaluation 1");  // it is not decoded yet
    CHECK(go_to(within.context, within.run, LDM_TASK_PREVIEW, task));
    CHECK(told(within, "preview after") == "evaluation 1, within step 1" && told(within, "within step") == "");
}

// It is asked for after each step, the last one too, and the image is the one that is drawn without.
void previews_are_tasks_of_their_own() {
    Kit plain, looked;
    ldm_task task;
    MISUSED(looked, ldm_run_preview(looked.context, looked.run));
    CHECK(go_to(plain.context, plain.run, LDM_TASK_DONE, task));
    for (int step = 1; step <= 3; ++step) {
        CHECK(go_to(looked.context, looked.run, LDM_TASK_STEP, task) && task.step == step);
        CHECK(ldm_run_preview(looked.context, looked.run) == LDM_OK);
        MISUSED(looked, ldm_run_preview(looked.context, looked.run));
        CHECK(go_to(looked.context, looked.run, LDM_TASK_PREVIEW, task) && task.step == step);
        ldm_image preview = begun_image();
        CHECK(ldm_run_image(looked.context, looked.run, 0, &preview) == LDM_OK && preview.owned == nullptr);
        MISUSED(looked, ldm_run_preview(looked.context, looked.run));  // it is there
    }
    CHECK(go_to(looked.context, looked.run, LDM_TASK_DONE, task) && task.step == 3);
    ldm_image expected = begun_image(), found = begun_image();
    CHECK(ldm_run_image(plain.context, plain.run, 0, &expected) == LDM_OK);
    CHECK(ldm_run_image(looked.context, looked.run, 0, &found) == LDM_OK);
    CHECK(std::memcmp(expected.pixels, found.pixels, 64 * 48 * 3) == 0);
}

// There is no image while one is decoded: the last preview's is being written over.
void an_image_is_whole_or_not_there() {
    Kit kit;
    ldm_task task;
    CHECK(go_to(kit.context, kit.run, LDM_TASK_STEP, task) && ldm_run_preview(kit.context, kit.run) == LDM_OK);
    CHECK(go_to(kit.context, kit.run, LDM_TASK_PREVIEW, task));
    ldm_image image = begun_image();
    CHECK(ldm_run_image(kit.context, kit.run, 0, &image) == LDM_OK && image.pixels != nullptr);
    CHECK(go_to(kit.context, kit.run, LDM_TASK_EVALUATE, task));
    while (std::strcmp(task.component, "vae_decoder") != 0) {
        CHECK(Outputs(task).give(kit.context, kit.run) == LDM_OK &&
              go_to(kit.context, kit.run, LDM_TASK_EVALUATE, task));
    }
    MISUSED(kit, ldm_run_image(kit.context, kit.run, 0, &image));
    CHECK(image.pixels == nullptr && image.width == 0);
    MISUSED(kit, ldm_run_save_png(kit.context, kit.run, 0, "nothing.png", 0));
    MISUSED(kit, ldm_run_image(kit.context, kit.run, 1, &image));
}

void what_is_told_of_a_run_takes_no_more_memory_each_time() {
    FailingAllocator counting;
    ldm_context_options options = memory_of(counting);
    {
        Kit kit(&options);
        const char *const *keys, *const *values;
        size_t count = 0;
        CHECK(ldm_run_metadata(kit.context, kit.run, 0, &keys, &values, &count) == LDM_OK && count > 8);
        long long alive = counting.alive;
        for (int turn = 0; turn < 1000; ++turn) {
            CHECK(ldm_run_metadata(kit.context, kit.run, 0, &keys, &values, &count) == LDM_OK);
        }
        CHECK(counting.alive == alive);
        CHECK(std::strcmp(keys[0], "prompt") == 0 && std::strcmp(values[0], "a red apple") == 0);
    }
    CHECK(counting.alive == 0);
}

// A run that memory ran out for while it was given something is over.
void no_memory_ends_a_run_that_is_given_to() {
    for (long long left = 0; left < 8; ++left) {
        FailingAllocator failing;
        ldm_context_options options = memory_of(failing);
        Kit kit(&options);
        ldm_task task;
        CHECK(go_to(kit.context, kit.run, LDM_TASK_EVALUATE, task));
        Outputs outputs(task);
        failing.allowed = failing.made + left;
        ldm_status status = outputs.give(kit.context, kit.run);
        failing.allowed = -1;
        CHECK(status == LDM_OK || status == LDM_NO_MEMORY);
        CHECK(ldm_run_next(kit.context, kit.run, &task) == status);
    }
}

// All sizes of what is asked for are known before.
void outputs_are_asked_for_whole() {
    ldm_run_options options = apple();
    options.guidance = 3.0;
    Kit kit(nullptr, options);
    ldm_task task;
    ldm_task_init(&task, sizeof task);
    while (ldm_run_next(kit.context, kit.run, &task) == LDM_OK && task.kind != LDM_TASK_DONE) {
        if (task.kind != LDM_TASK_EVALUATE) continue;
        CHECK(task.output_count >= 1 && task.output_count <= LDM_MOST_OUTPUTS);
        const ldm_tensor& wanted = task.outputs[0];
        size_t count = 1;
        for (int32_t axis = 0; axis < wanted.rank; ++axis) count *= static_cast<size_t>(wanted.shape[axis]);
        CHECK(wanted.data == nullptr && wanted.bytes == 4 * count);
        CHECK(Outputs(task).give(kit.context, kit.run) == LDM_OK);
    }
    CHECK(task.kind == LDM_TASK_DONE);
}

}  // namespace

int main() {
    a_cancelled_run_goes_no_further();
    a_run_that_is_over_is_not_cancelled();
    an_image_is_told_as_what_it_is();
    previews_are_tasks_of_their_own();
    an_image_is_whole_or_not_there();
    what_is_told_of_a_run_takes_no_more_memory_each_time();
    no_memory_ends_a_run_that_is_given_to();
    outputs_are_asked_for_whole();
    return done();
}
