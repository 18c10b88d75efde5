// Who owns the pixels of an image: what was read from a file is freed once, what is somebody else's never.
#include "ldm_runtime.h"

#include "tests/failing_allocator.h"
#include "tests/kit.h"
#include "tests/scratch.h"

namespace {

struct Fixture {
    Scratch scratch;
    FailingAllocator counting;
    ldm_context_options options;
    ldm_image image;
    std::string path = scratch.at("apple.png");

    Fixture() {
        ldm_context_options_init(&options, sizeof options);
        options.allocate = FailingAllocator::allocate;
        options.release = FailingAllocator::release;
        options.memory_user = &counting;
        ldm_image_init(&image, sizeof image);
        Kit kit;
        ldm_task task;
        CHECK(go_to(kit.context, kit.run, LDM_TASK_DONE, task));
        CHECK(ldm_run_save_png(kit.context, kit.run, 0, path.c_str(), 0) == LDM_OK);
    }
};

bool is_empty(const ldm_image& image) {
    return image.pixels == nullptr && image.owned == nullptr && image.width == 0 && image.struct_size == sizeof image;
}

void what_was_read_is_freed_once() {
    Fixture its;
    ldm_context* context = nullptr;
    CHECK(ldm_context_create(&its.options, &context) == LDM_OK);
    for (int turn = 0; turn < 3; ++turn) {  // reading again frees what was read before
        CHECK(ldm_image_read_png(context, its.path.c_str(), &its.image) == LDM_OK);
        CHECK(its.image.width == 64 && its.image.height == 48 && its.image.channels == 3 && its.image.owned != nullptr);
    }
    CHECK(its.counting.alive == 2);
    ldm_context_free(context);  // its memory functions still work
    CHECK(its.counting.alive == 1);
    ldm_image_free(&its.image);
    CHECK(its.counting.alive == 0 && is_empty(its.image));
    ldm_image_free(&its.image);
    CHECK(its.counting.alive == 0 && is_empty(its.image));
}

void what_cannot_be_read_leaves_the_image_empty() {
    Fixture its;
    ldm_context* context = nullptr;
    CHECK(ldm_context_create(&its.options, &context) == LDM_OK);
    its.scratch.write("text.png", "no image");
    CHECK(ldm_image_read_png(context, its.path.c_str(), &its.image) == LDM_OK);
    CHECK(ldm_image_read_png(context, its.scratch.at("text.png").c_str(), &its.image) == LDM_BAD_REQUEST);
    CHECK(is_empty(its.image));
    CHECK(ldm_image_read_png(context, its.path.c_str(), &its.image) == LDM_OK);
    CHECK(ldm_image_read_png(context, nullptr, &its.image) == LDM_MISUSE && is_empty(its.image));
    for (long long allowed = 0;; ++allowed) {
        its.counting.allowed = its.counting.made + allowed;
        ldm_status status = ldm_image_read_png(context, its.path.c_str(), &its.image);
        its.counting.allowed = -1;
        if (status == LDM_OK) break;
        if (!CHECK(status == LDM_NO_MEMORY && is_empty(its.image) && its.counting.alive == 1)) break;
    }
    ldm_image_free(&its.image);
    ldm_context_free(context);
    CHECK(its.counting.alive == 0);
}

// A structure without a place for the owner is for pixels that somebody else owns.
void an_image_without_an_owner_is_not_read_into() {
    Fixture its;
    ldm_context* context = nullptr;
    CHECK(ldm_context_create(&its.options, &context) == LDM_OK);
    ldm_image_init(&its.image, offsetof(ldm_image, owned));
    CHECK(ldm_image_read_png(context, its.path.c_str(), &its.image) == LDM_MISUSE && its.image.pixels == nullptr);
    its.image.struct_size = 3;
    CHECK(ldm_image_read_png(context, its.path.c_str(), &its.image) == LDM_MISUSE);
    ldm_image_free(&its.image);
    CHECK(its.counting.alive == 1);
    ldm_context_free(context);
}

void pixels_of_a_run_stay_its_own() {
    Fixture its;
    Kit kit(&its.options);
    ldm_task task;
    CHECK(go_to(kit.context, kit.run, LDM_TASK_DONE, task));
    CHECK(ldm_image_read_png(kit.context, its.path.c_str(), &its.image) == LDM_OK);
    CHECK(ldm_run_image(kit.context, kit.run, 0, &its.image) == LDM_OK && its.image.owned == nullptr);
    long long alive = its.counting.alive;  // without what was read
    const void* pixels = its.image.pixels;
    ldm_image_free(&its.image);
    CHECK(is_empty(its.image) && its.counting.alive == alive);
    CHECK(ldm_run_image(kit.context, kit.run, 0, &its.image) == LDM_OK && its.image.pixels == pixels);
    unsigned char own[3] = {1, 2, 3};
    its.image.pixels = own;
    ldm_image_free(&its.image);
    CHECK(is_empty(its.image));
}

}  // namespace

int main() {
    what_was_read_is_freed_once();
    what_cannot_be_read_leaves_the_image_empty();
    an_image_without_an_owner_is_not_read_into();
    pixels_of_a_run_stay_its_own();
    return done();
}
