// From prompts to the denoiser's context: tokens, windows, text encoders, weights, the negative prompt. Each window is
// encoded alone, so an embedding does not depend on its neighbours in a batch. The host runs the encoders: `wanted`
// says which window is next, `give` takes what came out, `finish` puts it together.
#ifndef LDM_CORE_RUN_CONDITIONING_H
#define LDM_CORE_RUN_CONDITIONING_H

#include <cstdint>
#include <string_view>

#include "core/memory.h"
#include "core/notices.h"
#include "core/run/model.h"
#include "core/run/request.h"
#include "core/status.h"

namespace ldm {

// One evaluation of a text encoder.
struct WantedWindow {
    std::size_t encoder = 0;            // of the contract's text roles
    const std::int32_t* ids = nullptr;  // (window)
};

class Conditioning {
public:
    Conditioning(Allocator& memory, const Model& model)
        : model_(model),
          arena_(memory),
          texts_(memory),
          windows_(memory),
          encoders_(memory),
          empty_(memory),
          states_(memory),
          context_(memory),
          pooled_(memory),
          window_(static_cast<std::size_t>(model.contract().window())) {}

    // Before `begin`: read the prompts at both ends of an interpolation.
    Status read_ends(Scope& scope, const Request& request, Notices& notices);

    // Read all prompts of a request, and note what is left out of them or read otherwise than by other programs.
    // request.prompt for one that cannot be read or has too many windows.
    Status begin(Scope& scope, const Request& request, Notices& notices);

    // The window to encode next; false where all are done.
    bool wanted(WantedWindow& out) const;
    // states: (window, D) of that encoder; pooled: (P) of it, or null where nothing reads it.
    Status give(Scope& scope, const float* states, const float* pooled);

    // Put the rows together: negative prompts first, where they are evaluated. Once, when no window is wanted.
    Status finish(Scope& scope, const Request& request);

    std::size_t rows() const { return rows_; }      // B, with negative prompts 2B
    std::size_t tokens() const { return tokens_; }  // T
    const float* context(std::size_t row) const { return context_.data() + row * tokens_ * width_; }  // (T, D)
    const float* pooled(std::size_t row) const { return pooled_.data() + row * pooled_width_; }       // (P)
    std::size_t width() const { return width_; }
    std::size_t pooled_width() const { return pooled_width_; }

private:
    // A text encoder's share of the context and of the pooled output, in numbers.
    struct Encoder {
        std::size_t width = 0, column = 0;
        std::size_t pooled_width = 0, pooled_column = 0;
    };
    // A text that is different from all others. The ends of an interpolation are read before its negative prompt, and
    // by themselves, so one of them may be the same text.
    struct Text {
        std::string_view text;
        std::string_view name;     // in sentences
        bool is_end = false;
        std::size_t windows = 1;   // the most of any encoder
        float* states = nullptr;   // (most windows of any text, window, D)
        float* pooled = nullptr;   // (P)
    };
    struct Evaluation {
        std::size_t encoder = 0;
        std::size_t text = 0;      // or `no_text`, of the empty prompt that pads
        std::size_t place = 0;     // among the windows of the text
        const std::int32_t* ids = nullptr;
        View<double> weights;      // none: all are 1
    };
    static constexpr std::size_t no_text = static_cast<std::size_t>(-1);

    Status measure_encoders(Scope& scope);
    Status add_text(Scope& scope, std::string_view text, std::string_view name, bool is_end);
    Status add_texts(Scope& scope, const Request& request);
    Status read_texts(Scope& scope, std::size_t first, std::string_view syntax, Notices& notices);
    Status add_windows(Scope& scope, std::size_t encoder, std::size_t text, std::string_view syntax, Notices& notices);
    Status want_empty_prompts(Scope& scope, const Request& request);
    Status make_room(Scope& scope);
    float* row_of(std::size_t row) { return context_.data() + row * tokens_ * width_; }
    void put_text(std::size_t row, std::string_view text);
    void put_embeddings(std::size_t row, const float* context, std::size_t tokens, const float* pooled);
    void put_between(std::size_t row, const Request& request);
    bool has(std::string_view text, bool is_end) const;
    const Text& find(std::string_view text, bool is_end) const;

    const Model& model_;
    Arena arena_;
    Array<Text> texts_;
    Array<Evaluation> windows_;
    Array<Encoder> encoders_;
    Array<float> empty_;           // (window, D): the empty prompt, by all encoders
    Array<float> states_;          // (window, D) of one encoder, while they are weighed
    Array<float> context_, pooled_;
    std::size_t next_ = 0;         // window
    std::size_t most_ = 1;         // windows of any text
    std::size_t rows_ = 0, tokens_ = 0, window_, width_ = 0, pooled_width_ = 0;
};

}  // namespace ldm

#endif
