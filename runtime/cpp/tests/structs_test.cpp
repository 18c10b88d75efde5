// Structures of other versions of the header: shorter and longer ones, and sizes that no version has.
// Needs ONNX Runtime.
#include "ldm_runtime.h"

#include <cstddef>

#include "tests/kit.h"

namespace {

constexpr unsigned char untouched = 0xa5;

// A structure of any size, in memory whose every other byte is watched.
template <typename T>
struct Room {
    alignas(T) unsigned char bytes[8192];

    Room() { std::memset(bytes, untouched, sizeof bytes); }
    T* begun(void (*init)(T*, size_t), size_t size) {
        init(it(), size);
        return it();
    }
    T* it() { return reinterpret_cast<T*>(bytes); }
    bool is_within(size_t size) const {
        for (size_t place = size; place < sizeof bytes; ++place) {
            if (bytes[place] != untouched) return false;
        }
        return true;
    }
};

// use(T*): the call that the structure is for. least: the size up to which a version must reach for it to succeed.
template <typename T, typename Use>
void sizes_of(const char* name, void (*init)(T*, size_t), size_t least, bool is_filled_by_caller, Use use) {
    size_t all = sizeof(T), step = alignof(T);
    for (size_t size : {least, all - step, all, all + step, size_t{4096}}) {
        Room<T> room;
        T* it = room.begun(init, size);
        bool fits = room.is_within(size) && it->struct_size == size && use(it) == LDM_OK && room.is_within(size);
        if (!CHECK(fits && it->struct_size == size)) std::fprintf(stderr, "  %s of %zu bytes\n", name, size);
    }
    for (size_t place : {all, 4096 - size_t{1}}) {
        Room<T> newer;
        T* it = newer.begun(init, 4096);
        newer.bytes[place] = 1;  // a field that this library does not know
        CHECK((use(it) == LDM_MISUSE) == is_filled_by_caller);
    }
    for (size_t size : {size_t{0}, size_t{3}, all - 1, all - step / 2, all + 1, size_t{4096} + step, SIZE_MAX}) {
        Room<T> room;
        T* it = room.begun(init, size);
        CHECK(size < sizeof(size_t) || it->struct_size == 0);
        CHECK(room.is_within(sizeof(size_t)));
        it->struct_size = size;
        if (!CHECK(use(it) == LDM_MISUSE)) std::fprintf(stderr, "  %s of %zu bytes\n", name, size);
        CHECK(room.is_within(sizeof(size_t)));
    }
}

template <typename T>
bool has(const T* it, size_t end_of_field) {
    return it->struct_size >= end_of_field && it->struct_size <= 4096 && it->struct_size % alignof(T) == 0;
}

void options_of_other_versions(Kit& kit) {
    sizes_of<ldm_context_options>("context options", ldm_context_options_init, 8, true,
                                  [](const ldm_context_options* it) {
                                      ldm_context* context = nullptr;
                                      ldm_status status = ldm_context_create(it, &context);
                                      ldm_context_free(context);
                                      return status;
                                  });
    sizes_of<ldm_package_options>(
        "package options", ldm_package_options_init, 8, true, [&](const ldm_package_options* it) {
            ldm_package* package = nullptr;
            ldm_status status = ldm_package_open(kit.context, golden_path("package").c_str(), it, &package);
            ldm_package_free(package);
            return status;
        });
    sizes_of<ldm_run_options>("run options", ldm_run_options_init, 16, true, [&](ldm_run_options* it) {
        ldm_run* run = nullptr;
        if (has(it, 16)) it->prompt = "a red apple";
        ldm_status status = ldm_run_create(kit.context, kit.package, it, &run);
        ldm_run_free(run);
        return status;
    });
    ldm_package* opened = nullptr;
    CHECK(ldm_package_open(kit.context, golden_path("package").c_str(), nullptr, &opened) == LDM_OK);
    sizes_of<ldm_engine_options>("engine options", ldm_engine_options_init, 8, true, [&](const ldm_engine_options* it) {
        ldm_engine* engine = nullptr;
        ldm_status status = ldm_engine_open(kit.context, opened, it, &engine);
        ldm_engine_free(engine);
        return status;
    });
    ldm_package_free(opened);
}

void results_of_other_versions(Kit& kit) {
    sizes_of<ldm_defaults>("defaults", ldm_defaults_init, 8, false, [&](ldm_defaults* it) {
        ldm_status status = ldm_package_defaults(kit.context, kit.package, it);
        if (status == LDM_OK && has(it, 16)) CHECK(it->width == 64 && it->height == 48);
        return status;
    });
    sizes_of<ldm_task>("task", ldm_task_init, 8, false, [&](ldm_task* it) {
        ldm_status status = ldm_run_next(kit.context, kit.run, it);
        if (status == LDM_OK && has(it, 16)) CHECK(it->kind == LDM_TASK_EVALUATE);
        return status;
    });
    ldm_task task;
    CHECK(go_to(kit.context, kit.run, LDM_TASK_DONE, task));
    sizes_of<ldm_image>("image of a run", ldm_image_init, 8, false, [&](ldm_image* it) {
        ldm_status status = ldm_run_image(kit.context, kit.run, 0, it);
        if (status == LDM_OK && has(it, 16)) CHECK(it->width == 64 && it->height == 48);
        return status;
    });
}

// The structures of an array lie as far from one another as the caller's are long.
void images_of_other_versions(Kit& kit) {
    std::vector<unsigned char> pixels(64 * 48 * 3, 100);
    auto draw = [&](ldm_image* images, size_t count) {
        ldm_run* run = nullptr;
        ldm_run_options options = apple();
        options.images = images;
        options.image_count = count;
        options.count = 2;
        ldm_status status = ldm_run_create(kit.context, kit.package, &options, &run);
        ldm_run_free(run);
        return status;
    };
    auto fill = [&](ldm_image* it) {
        it->width = 64;
        it->height = 48;
        it->channels = 3;
        it->pixels = pixels.data();
    };
    constexpr size_t oldest = offsetof(ldm_image, row_bytes);
    sizes_of<ldm_image>("image", ldm_image_init, oldest, true, [&](ldm_image* it) {
        if (has(it, oldest)) fill(it);
        return draw(it, 1);
    });
    for (size_t each : {oldest, sizeof(ldm_image), sizeof(ldm_image) + 16}) {
        Room<ldm_image> room;
        auto* second = reinterpret_cast<ldm_image*>(room.bytes + each);
        fill(room.begun(ldm_image_init, each));
        ldm_image_init(second, each);
        fill(second);
        CHECK(draw(room.it(), 2) == LDM_OK);
        second->struct_size += 8;
        MISUSED(kit, draw(room.it(), 2));
    }
}

// A task that is refused takes no step away.
void a_task_is_checked_before_the_run_goes_on() {
    Kit kit;
    ldm_task task, broken;
    CHECK(go_to(kit.context, kit.run, LDM_TASK_EVALUATE, task));
    while (std::strcmp(task.component, "unet") != 0) {
        CHECK(Outputs(task).give(kit.context, kit.run) == LDM_OK &&
              ldm_run_next(kit.context, kit.run, &task) == LDM_OK);
    }
    CHECK(Outputs(task).give(kit.context, kit.run) == LDM_OK);
    broken = task;
    broken.struct_size = 12;
    MISUSED(kit, ldm_run_next(kit.context, kit.run, &broken));
    CHECK(ldm_run_next(kit.context, kit.run, &task) == LDM_OK && task.kind == LDM_TASK_STEP && task.step == 1);
}

}  // namespace

int main() {
    Kit kit;
    options_of_other_versions(kit);
    results_of_other_versions(kit);
    images_of_other_versions(kit);
    a_task_is_checked_before_the_run_goes_on();
    return done();
}
