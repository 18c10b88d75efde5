// Images, and who owns their pixels.
#include "src/api/image.h"

#include "src/api/handles.h"

using namespace ldm;

void ldm_image_init(ldm_image* image, size_t struct_size) {
    api::begin(image, struct_size, [](ldm_image& it) { it.pixel_type = LDM_UINT8; });
}

void ldm_image_free(ldm_image* image) {
    if (!api::is_begun(image)) return;
    if (image->struct_size >= api::size_with_owner && image->owned != nullptr) {
        auto* owned = static_cast<api::Owned*>(image->owned);
        Allocator memory = owned->memory;
        memory.release(memory.user, owned, sizeof(api::Owned) + owned->bytes);
    }
    ldm_image_init(image, image->struct_size);
}
