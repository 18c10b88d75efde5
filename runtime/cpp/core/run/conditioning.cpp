#include "core/run/conditioning.h"

#include "core/codes.h"
#include "core/text/foreign_syntax.h"
#include "core/text/prompt.h"
#include "core/text/utf8.h"

namespace ldm {

namespace {

constexpr std::size_t most_quoted = 60;  // characters of a prompt in a sentence

Status note_left_out(Scope& scope, std::string_view name, const LeftOut& left_out, std::size_t window, Notices& notices) {
    return notices.add(scope, "text", {name, " is longer than ", window, " tokens; ", left_out.words,
                       left_out.words == 1 ? " word (" : " words (", left_out.characters,
                       left_out.characters == 1 ? " character) " : " characters) ", left_out.words == 1 ? "was" : "were",
                       " left out: ", quoted(utf8::first_characters(left_out.text, most_quoted))});
}

}  // namespace

Status Conditioning::begin(Scope& scope, const Request& request, Notices& notices) {
    LDM_TRY(measure_encoders(scope));
    LDM_TRY(add_texts(scope, request));
    for (std::size_t encoder = 0; encoder < encoders_.size(); ++encoder) {
        for (std::size_t text = 0; text < texts_.size(); ++text) {
            LDM_TRY(add_windows(scope, encoder, text, request.syntax, notices));
        }
    }
    for (const Text& text : texts_) {
        LDM_TRY(note_foreign_syntax(scope, text.name, text.text, request.syntax, notices));
    }
    for (const Text& text : texts_) most_ = text.windows > most_ ? text.windows : most_;
    LDM_TRY(want_empty_prompts(scope, request));
    return make_room(scope);
}

Status Conditioning::measure_encoders(Scope& scope) {
    const Contract& contract = model_.contract();
    window_ = static_cast<std::size_t>(contract.window());
    for (const TextRole& role : contract.text) {
        Encoder encoder;
        encoder.column = width_;
        encoder.pooled_column = pooled_width_;
        encoder.width = static_cast<std::size_t>(contract.tensor(role.component, role.output).dims[2].size);
        if (role.pooled) {
            encoder.pooled_width = static_cast<std::size_t>(contract.tensor(role.component, *role.pooled).dims[1].size);
        }
        width_ += encoder.width;
        pooled_width_ += encoder.pooled_width;
        LDM_NEED(scope, encoders_.push(encoder));
    }
    return Status();
}

// The texts that have to be encoded, each once.
Status Conditioning::add_texts(Scope& scope, const Request& request) {
    if (request.is_guided && !request.zero_negative) {
        for (std::string_view negative : request.negatives) LDM_TRY(add_text(scope, negative, "the negative prompt"));
    }
    for (std::string_view prompt : request.prompts) LDM_TRY(add_text(scope, prompt, "the prompt"));
    return request.to ? add_text(scope, request.to->prompt, "the prompt at the end") : Status();
}

Status Conditioning::add_text(Scope& scope, std::string_view text, std::string_view name) {
    for (const Text& known : texts_) {
        if (known.text == text) return Status();
    }
    Text added;
    added.text = text;
    added.name = name;
    LDM_NEED(scope, texts_.push(added));
    return Status();
}

Status Conditioning::add_windows(Scope& scope, std::size_t encoder, std::size_t text, std::string_view syntax,
                                 Notices& notices) {
    Text& its = texts_[text];
    const TokenizerFacts& facts = model_.contract().text[encoder].tokenizer;
    PromptWindows read;
    LDM_TRY(prompt_windows(scope, arena_, model_.tokenizers[encoder], facts, its.text, its.name,
                           syntax == "weighted" ? Syntax::weighted : Syntax::plain, read));
    if (!read.left_out.text.empty()) LDM_TRY(note_left_out(scope, its.name, read.left_out, window_, notices));
    View<Window> found = read.windows;
    std::size_t most = static_cast<std::size_t>(model_.contract().range_of(model_.contract().context().dims[1]).max) / window_;
    if (found.size > most) {
        return scope.fail(codes::request_prompt, {its.name, " takes ", found.size, " windows of ", window_,
                          " tokens, but the package takes at most ", most, "; shorten it, or use fewer BREAKs"});
    }
    for (std::size_t place = 0; place < found.size; ++place) {
        Evaluation window;
        window.encoder = encoder;
        window.text = text;
        window.place = place;
        window.ids = found[place].ids.data;
        window.weights = found[place].weights;
        LDM_NEED(scope, windows_.push(window));
    }
    its.windows = found.size > its.windows ? found.size : its.windows;
    return Status();
}

// Where texts or given embeddings have fewer windows than others, those of the empty prompt follow.
Status Conditioning::want_empty_prompts(Scope& scope, const Request& request) {
    bool is_short = false;
    for (const Text& text : texts_) is_short |= text.windows < most_;
    tokens_ = most_ * window_;
    if (request.has_embeddings) {
        std::size_t given = request.embeddings_tokens;
        if (!texts_.empty() && given % window_ != 0) {
            return scope.fail(codes::request_array, {"prompt_embeds has ", given, " tokens; with guidance, expected a "
                              "multiple of ", window_, ", the window of the negative prompt"});
        }
        is_short |= !texts_.empty() && given != tokens_;
        tokens_ = texts_.empty() || given > tokens_ ? given : tokens_;
    }
    // An encoder may have fewer windows of a text than another; its rest is padded too.
    for (std::size_t encoder = 0; encoder < encoders_.size(); ++encoder) {
        for (std::size_t text = 0; text < texts_.size(); ++text) {
            std::size_t count = 0;
            for (const Evaluation& window : windows_) count += window.encoder == encoder && window.text == text;
            is_short |= count < most_;
        }
    }
    for (std::size_t encoder = 0; is_short && encoder < encoders_.size(); ++encoder) {
        PromptWindows empty;
        LDM_TRY(prompt_windows(scope, arena_, model_.tokenizers[encoder], model_.contract().text[encoder].tokenizer, "",
                               "the empty prompt", Syntax::plain, empty));
        Evaluation window;
        window.encoder = encoder;
        window.text = no_text;
        window.ids = empty.windows[0].ids.data;
        LDM_NEED(scope, windows_.push(window));
    }
    LDM_NEED(scope, empty_.resize(is_short ? window_ * width_ : 0));
    return Status();
}

Status Conditioning::make_room(Scope& scope) {
    for (Text& text : texts_) {
        text.states = arena_.make<float>(most_ * window_ * width_);
        text.pooled = arena_.make<float>(pooled_width_);
        LDM_NEED(scope, text.states != nullptr && text.pooled != nullptr);
    }
    return Status();
}

bool Conditioning::wanted(WantedWindow& out) const {
    if (next_ == windows_.size()) return false;
    out = {windows_[next_].encoder, windows_[next_].ids};
    return true;
}

Status Conditioning::give(Scope& scope, const float* states, const float* pooled) {
    const Evaluation& window = windows_[next_];
    const Encoder& encoder = encoders_[window.encoder];
    LDM_NEED(scope, states_.resize(window_ * encoder.width));
    std::memcpy(states_.data(), states, states_.size() * sizeof(float));
    if (!window.weights.empty()) weigh(states_.data(), encoder.width, window.weights);
    bool is_empty = window.text == no_text;
    float* into = is_empty ? empty_.data() : texts_[window.text].states + window.place * window_ * width_;
    for (std::size_t token = 0; token < window_; ++token) {
        std::memcpy(into + token * width_ + encoder.column, states_.data() + token * encoder.width,
                    encoder.width * sizeof(float));
    }
    ++next_;
    if (!is_empty && window.place == 0 && encoder.pooled_width > 0) {
        std::memcpy(texts_[window.text].pooled + encoder.pooled_column, pooled, encoder.pooled_width * sizeof(float));
    }
    return Status();
}

Status Conditioning::finish(Scope& scope, const Request& request) {
    for (std::size_t encoder = 0; encoder < encoders_.size() && !empty_.empty(); ++encoder) {
        for (std::size_t text = 0; text < texts_.size(); ++text) {
            std::size_t count = 0;
            for (const Evaluation& window : windows_) count += window.encoder == encoder && window.text == text;
            for (std::size_t token = count * window_; token < most_ * window_; ++token) {
                std::size_t column = encoders_[encoder].column;
                std::memcpy(texts_[text].states + token * width_ + column, empty_.data() + token % window_ * width_ + column,
                            encoders_[encoder].width * sizeof(float));
            }
        }
    }
    rows_ = request.is_guided ? 2 * request.batch : request.batch;
    LDM_NEED(scope, context_.resize(rows_ * tokens_ * width_) && pooled_.resize(rows_ * pooled_width_));
    std::size_t row = 0;
    for (; row + request.batch < rows_; ++row) {
        if (!request.zero_negative) put_text(row, request.negatives[row]);  // else zeros
    }
    for (std::size_t image = 0; image < request.batch; ++image, ++row) {
        if (request.to) {
            put_between(row, request);
        } else if (request.has_embeddings) {
            put_embeddings(row, request.context.data + image * request.embeddings_tokens * width_, request.embeddings_tokens,
                           pooled_width_ > 0 ? request.pooled.data + image * pooled_width_ : nullptr);
        } else {
            put_text(row, request.prompts[image]);
        }
    }
    return Status();
}

const Conditioning::Text& Conditioning::find(std::string_view text) const {
    std::size_t found = 0;
    while (texts_[found].text != text) ++found;  // `begin` added it
    return texts_[found];
}

void Conditioning::put_text(std::size_t row, std::string_view text) {
    const Text& its = find(text);
    put_embeddings(row, its.states, most_ * window_, its.pooled);
}

void Conditioning::put_embeddings(std::size_t row, const float* context, std::size_t tokens, const float* pooled) {
    std::memcpy(row_of(row), context, tokens * width_ * sizeof(float));
    for (std::size_t token = tokens; token < tokens_; ++token) {
        std::memcpy(row_of(row) + token * width_, empty_.data() + token % window_ * width_, width_ * sizeof(float));
    }
    if (pooled_width_ > 0) std::memcpy(pooled_.data() + row * pooled_width_, pooled, pooled_width_ * sizeof(float));
}

// The embedding on the straight line between both ends, in float32 as numpy computes with a Python number.
void Conditioning::put_between(std::size_t row, const Request& request) {
    const Text &first = find(request.prompts[0]), &last = find(request.to->prompt);
    float share = static_cast<float>(request.to->share), rest = static_cast<float>(1.0 - request.to->share);
    auto between = [&](const float* one, const float* other, std::size_t count, float* out) {
        for (std::size_t index = 0; index < count; ++index) {
            float kept = rest * one[index], added = share * other[index];
            out[index] = kept + added;
        }
    };
    between(first.states, last.states, tokens_ * width_, row_of(row));
    between(first.pooled, last.pooled, pooled_width_, pooled_.data() + row * pooled_width_);
}

}  // namespace ldm
