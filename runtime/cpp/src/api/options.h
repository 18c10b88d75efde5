// The options of a run as a C program gives them, and as the core takes them.
#ifndef LDM_API_OPTIONS_H
#define LDM_API_OPTIONS_H

#include "core/run/options.h"
#include "core/status.h"
#include "include/ldm_runtime.h"

namespace ldm::api {

// An image of the caller's. Code: request.image.
Status take_image(Scope& scope, const ldm_image& given, const char* what, images::Samples& out);

// Options of the core, and what they point at that is not the caller's.
class TakenOptions {
public:
    explicit TakenOptions(Allocator& memory) : texts_(memory), start_images_(memory) {}

    // Codes: other.misuse, request.*. Draws a seed where none is given.
    Status read(Scope& scope, const ldm_run_options& given);

    RunOptions options;

private:
    Status read_latents(Scope& scope, const ldm_run_options& given);
    Status read_texts(Scope& scope, const ldm_run_options& given);
    Status read_images(Scope& scope, const ldm_run_options& given);
    Status read_seeds(Scope& scope, const ldm_run_options& given);
    Status read_sizes(Scope& scope, const ldm_run_options& given);

    Array<std::string_view> texts_;  // prompts, then negative prompts
    Array<images::Samples> start_images_;
    images::Samples mask_;
};

}  // namespace ldm::api

#endif
