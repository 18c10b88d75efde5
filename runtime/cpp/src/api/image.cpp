// Images as PNG files, and who owns their pixels.
#include <cstddef>

#include "src/api/handles.h"
#include "src/files/reading.h"
#include "src/png/png.h"

using namespace ldm;

namespace {

// What stands before pixels that an image owns: it is freed without the context that made it.
struct alignas(std::max_align_t) Owned {
    Allocator memory;
    size_t bytes;  // of the pixels

    unsigned char* pixels() { return reinterpret_cast<unsigned char*>(this + 1); }
};

constexpr size_t size_with_owner = offsetof(ldm_image, owned) + sizeof(void*);

Status read_png(Scope& scope, const char* path, ldm_image& out) {
    Array<char> content(scope.memory);
    images::Image read(scope.memory);
    LDM_TRY(files::read_input(scope, path, png::most_file_bytes, content));
    LDM_TRY(png::read(scope, {reinterpret_cast<const unsigned char*>(content.data()), content.size()}, path, read));
    void* block = scope.memory.allocate(scope.memory.user, sizeof(Owned) + read.levels.size());
    LDM_NEED(scope, block != nullptr);
    auto* owned = new (block) Owned{scope.memory, read.levels.size()};
    std::memcpy(owned->pixels(), read.levels.data(), owned->bytes);
    ldm_image found;
    ldm_image_init(&found, sizeof found);
    found.width = static_cast<int32_t>(read.width);
    found.height = static_cast<int32_t>(read.height);
    found.channels = static_cast<int32_t>(read.channels);
    found.pixels = owned->pixels();
    found.owned = owned;
    api::hand_out(found, out);
    return Status();
}

}  // namespace

void ldm_image_init(ldm_image* image, size_t struct_size) {
    api::begin(image, struct_size, [](ldm_image& it) { it.pixel_type = LDM_UINT8; });
}

ldm_status ldm_image_read_png(ldm_context* context, const char* path, ldm_image* image) {
    ldm_image_free(image);
    return api::called(context, [&](Scope& scope) {
        if (path == nullptr || !api::is_begun(image) || image->struct_size < size_with_owner) {
            return api::misused(scope, {"ldm_image_read_png needs a path and an image that ldm_image_init began"});
        }
        return read_png(scope, path, *image);
    });
}

void ldm_image_free(ldm_image* image) {
    if (!api::is_begun(image)) return;
    if (image->struct_size >= size_with_owner && image->owned != nullptr) {
        auto* owned = static_cast<Owned*>(image->owned);
        Allocator memory = owned->memory;
        memory.release(memory.user, owned, sizeof(Owned) + owned->bytes);
    }
    ldm_image_init(image, image->struct_size);
}
