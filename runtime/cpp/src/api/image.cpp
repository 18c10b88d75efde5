// Images as PNG files.
#include "src/api/handles.h"

#include "src/files/reading.h"
#include "src/png/png.h"

using namespace ldm;

namespace {

Status read_png(Scope& scope, const char* path, images::Image& out) {
    Array<char> content(scope.memory);
    LDM_TRY(files::read_input(scope, path, png::most_file_bytes, content));
    return png::read(scope, {reinterpret_cast<const unsigned char*>(content.data()), content.size()}, path, out);
}

}  // namespace

ldm_status ldm_image_read_png(ldm_context* context, const char* path, ldm_image* image) {
    if (context == nullptr) return LDM_MISUSE;
    context->failure.clear();
    Scope scope = context->scope();
    if (path == nullptr || image == nullptr) {
        return api::ended(api::misused(scope, {"ldm_image_read_png needs a path and an image that ldm_image_init began"}));
    }
    images::Image read(scope.memory);
    Status status = read_png(scope, path, read);
    if (!status.ok()) return api::ended(status);
    void* pixels = scope.memory.allocate(scope.memory.user, read.levels.size());
    if (pixels == nullptr) return api::ended(scope.out_of_memory());
    std::memcpy(pixels, read.levels.data(), read.levels.size());
    ldm_image found;
    ldm_image_init(&found, sizeof found);
    found.width = static_cast<int32_t>(read.width);
    found.height = static_cast<int32_t>(read.height);
    found.channels = static_cast<int32_t>(read.channels);
    found.pixels = pixels;
    if (api::hand_out(found, image)) return LDM_OK;
    scope.memory.release(scope.memory.user, pixels, read.levels.size());
    return api::ended(api::misused(scope, {"ldm_image_read_png needs an image that ldm_image_init began"}));
}

void ldm_image_free(ldm_context* context, ldm_image* image) {
    if (context == nullptr || image == nullptr || image->pixels == nullptr) return;
    size_t bytes = static_cast<size_t>(image->width) * static_cast<size_t>(image->height) * static_cast<size_t>(image->channels);
    context->memory.release(context->memory.user, const_cast<void*>(image->pixels), bytes);
    image->pixels = nullptr;
}
