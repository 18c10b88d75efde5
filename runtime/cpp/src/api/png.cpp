// Images as PNG files.
#include "src/api/handles.h"
#include "src/api/image.h"
#include "src/files/atomic.h"
#include "src/files/reading.h"
#include "src/png/png.h"

using namespace ldm;

namespace {

Status read_png(Scope& scope, const char* path, ldm_image& out) {
    Array<char> content(scope.memory);
    images::Image read(scope.memory);
    LDM_TRY(files::read_input(scope, path, png::most_file_bytes, content));
    LDM_TRY(png::read(scope, {reinterpret_cast<const unsigned char*>(content.data()), content.size()}, path, read));
    void* block = scope.memory.allocate(scope.memory.user, sizeof(api::Owned) + read.levels.size());
    LDM_NEED(scope, block != nullptr);
    auto* owned = new (block) api::Owned{scope.memory, read.levels.size()};
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

Status encode_png(Scope& scope, ldm_run& run, size_t image, Array<unsigned char>& out) {
    LDM_TRY(api::require_image(scope, run, image));
    const std::uint8_t* levels = run.run.image(image);
    if (levels == nullptr) return api::misused(scope, {"the run has no image yet; take it to its end first"});
    Arena arena(scope.memory);
    View<Fact> facts;
    LDM_TRY(run.run.describe(scope, arena, image, facts));
    Array<png::Text> texts(scope.memory);
    for (const Fact& fact : facts) LDM_NEED(scope, texts.push({fact.name, fact.value}));
    Size size = run.run.request().size;
    return png::write(scope, levels, static_cast<size_t>(size.width), static_cast<size_t>(size.height), texts.view(),
                      out);
}

}  // namespace

ldm_status ldm_image_read_png(ldm_context* context, const char* path, ldm_image* image) {
    ldm_image_free(image);
    return api::called(context, [&](Scope& scope) {
        if (path == nullptr || !api::is_begun(image) || image->struct_size < api::size_with_owner) {
            return api::misused(scope, {"ldm_image_read_png needs a path and an image that ldm_image_init began"});
        }
        return read_png(scope, path, *image);
    });
}

ldm_status ldm_run_save_png(ldm_context* context, ldm_run* run, size_t image, const char* path, int32_t force) {
    return api::called(context, run, path != nullptr, "ldm_run_save_png needs a run and a path", [&](Scope& scope) {
        Array<unsigned char> file(scope.memory);
        LDM_TRY(files::require_path(scope, "path", path));
        LDM_TRY(encode_png(scope, *run, image, file));
        std::string_view content(reinterpret_cast<const char*>(file.data()), file.size());
        return files::write_file(scope, path, content, force != 0 ? files::Existing::replace : files::Existing::keep);
    });
}
