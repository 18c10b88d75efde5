// The reference's sampling run, drawn by engines: what a proof compares.
#ifndef LDM_VERIFY_REFERENCE_RUN_H
#define LDM_VERIFY_REFERENCE_RUN_H

#include <string_view>

#include "core/images/image.h"
#include "core/run/model.h"
#include "core/run/run.h"
#include "core/status.h"
#include "src/engines/components.h"
#include "src/verify/reference.h"

namespace ldm::verify {

class ReferenceRun {
public:
    enum class Event { text, step, image, end };  // what was evaluated last: a part of the beginning, the denoiser, …

    ReferenceRun(Scope& scope, const Model& model, engines::Components& components, Reference& reference);

    // Begin from the reference's noise, as a user does, with the defaults of the package or of the components' variant.
    // Codes: request.*, proof.invalid.
    Status begin();
    // Evaluate what is next. Codes: whatever a run fails with; proof.invalid for an image of another size.
    Status advance(Event& out);

    const Run& run() const { return run_; }
    View<std::string_view> used() const { return used_.view(); }  // components that were evaluated
    const Array<float>& image() const { return image_; }          // (3, H, W), around [-1, 1]; empty before the end

private:
    Status make_probe(Array<std::uint8_t>& image, Array<std::uint8_t>& mask);
    images::Samples samples(const Array<std::uint8_t>& levels, int channels) const;
    Status evaluate(const Task& task);
    Status note_use(std::string_view component);
    Status take_image(const Tensor& output);

    Scope& scope_;
    const Model& model_;
    engines::Components& components_;
    Reference& reference_;
    Run run_;
    engines::Results results_;
    Array<std::string_view> used_;
    Array<float> image_;
};

}  // namespace ldm::verify

#endif
