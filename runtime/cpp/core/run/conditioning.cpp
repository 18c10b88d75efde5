#include "core/run/conditioning.h"

#include <algorithm>

#include "core/codes.h"
#include "core/text/foreign_syntax.h"
#include "core/text/prompt.h"
#include "core/text/quoting.h"

namespace ldm {

namespace {

Status note_left_out(Scope& scope, std::string_view name, const LeftOut& left_out, std::size_t window,
                     Notices& notices) {
    quoting::Beginning begins = quoting::beginning(left_out.text);
    return notices.add(
        scope, "text",
        {name, " is longer than ", window, " tokens; ", left_out.words, left_out.words == 1 ? " word (" : " words (",
         left_out.characters, left_out.characters == 1 ? " character) " : " characters) ",
         left_out.words == 1 ? "was" : "were", " left out: ", quoted_whole(begins.text, begins.is_cut)});
}

// "prompt 2": the name of a text of several in sentences.
Status number_name(Scope& scope, Arena& arena, std::string_view what, std::size_t number, std::string_view& out) {
    Failure spelt;
    spelt.set(nullptr, {what, " ", number});
    View<char> kept;
    LDM_NEED(scope, arena.copy(spelt.text, std::strlen(spelt.text), kept));
    out = {kept.data, kept.size};
    return Status();
}

// What sentences call a text: a prompt, the first one of equal ones, or else a negative prompt.
Status name_text(Scope& scope, Arena& arena, const Request& request, std::string_view text, std::string_view& out) {
    std::size_t count = request.prompt_count();
    for (std::size_t prompt = 0; !request.prompts.empty() && prompt < count; ++prompt) {
        if (request.prompts[prompt * request.repeats] != text || request.to) continue;
        if (count > 1) return number_name(scope, arena, "prompt", prompt + 1, out);
        out = "the prompt";
        return Status();
    }
    out = request.negative_is_given ? "the negative prompt" : "the prompt";
    if (!request.negatives_are_several || count == 1) return Status();
    std::size_t first = 0;
    while (request.negatives[first * request.repeats] != text) ++first;  // it is one of them
    return number_name(scope, arena, "negative prompt", first + 1, out);
}

}  // namespace

Status Conditioning::read_ends(Scope& scope, const Request& request, Notices& notices) {
    std::string_view first = request.prompts[0], last = request.to->prompt;
    bool is_same = first == last;
    LDM_TRY(add_text(scope, first, is_same ? "the prompt" : "the prompt to start from", true));
    if (!is_same) LDM_TRY(add_text(scope, last, "the prompt to end at", true));
    LDM_TRY(read_texts(scope, 0, request.syntax, notices));
    if (!is_same || request.seeds[0] != request.to->seed) return Status();
    return notices.add(scope, "text", {"prompts and seeds are the same at both ends, so all images are the same"});
}

Status Conditioning::begin(Scope& scope, const Request& request, Notices& notices) {
    std::size_t first = texts_.size();
    LDM_TRY(measure_encoders(scope));
    LDM_TRY(add_texts(scope, request));
    LDM_TRY(read_texts(scope, first, request.syntax, notices));
    for (const Text& text : texts_) most_ = text.windows > most_ ? text.windows : most_;
    LDM_TRY(want_empty_prompts(scope, request));
    return make_room(scope);
}

Status Conditioning::measure_encoders(Scope& scope) {
    const Contract& contract = model_.contract();
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

// The texts that have to be encoded, each once; the ends of an interpolation are among them already.
Status Conditioning::add_texts(Scope& scope, const Request& request) {
    View<std::string_view> prompts = request.to ? View<std::string_view>() : request.prompts;
    bool needs_negatives = request.is_guided && !request.zero_negative;
    for (View<std::string_view> texts : {needs_negatives ? request.negatives : View<std::string_view>(), prompts}) {
        for (std::string_view text : texts) {
            if (has(text, false)) continue;
            std::string_view name;
            LDM_TRY(name_text(scope, arena_, request, text, name));
            LDM_TRY(add_text(scope, text, name, false));
        }
    }
    return Status();
}

Status Conditioning::add_text(Scope& scope, std::string_view text, std::string_view name, bool is_end) {
    Text added;
    added.text = text;
    added.name = name;
    added.is_end = is_end;
    LDM_NEED(scope, texts_.push(added));
    return Status();
}

// Read the texts from the first one on: what is wrong with any of them is told before the notices.
Status Conditioning::read_texts(Scope& scope, std::size_t first, std::string_view syntax, Notices& notices) {
    for (std::size_t text = first; text < texts_.size(); ++text) {
        LDM_TRY(check_prompt(scope, texts_[text].text, texts_[text].name));
    }
    for (std::size_t text = first; text < texts_.size(); ++text) {
        LDM_TRY(note_foreign_syntax(scope, texts_[text].name, texts_[text].text, syntax, notices));
    }
    for (std::size_t encoder = 0; encoder < model_.contract().text.size; ++encoder) {
        for (std::size_t text = first; text < texts_.size(); ++text) {
            LDM_TRY(add_windows(scope, encoder, text, syntax, notices));
        }
    }
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
    std::size_t most =
        static_cast<std::size_t>(model_.contract().range_of(model_.contract().context().dims[1]).max) / window_;
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
                std::memcpy(texts_[text].states + token * width_ + column,
                            empty_.data() + token % window_ * width_ + column,
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
            put_embeddings(row, request.context.data + image * request.embeddings_tokens * width_,
                           request.embeddings_tokens,
                           pooled_width_ > 0 ? request.pooled.data + image * pooled_width_ : nullptr);
        } else {
            put_text(row, request.prompts[image]);
        }
    }
    return Status();
}

bool Conditioning::has(std::string_view text, bool is_end) const {
    return std::any_of(texts_.begin(), texts_.end(),
                       [&](const Text& known) { return known.text == text && known.is_end == is_end; });
}

const Conditioning::Text& Conditioning::find(std::string_view text, bool is_end) const {
    std::size_t found = 0;
    while (texts_[found].text != text || texts_[found].is_end != is_end) ++found;  // it was added
    return texts_[found];
}

void Conditioning::put_text(std::size_t row, std::string_view text) {
    const Text& its = find(text, false);
    put_embeddings(row, its.states, most_ * window_, its.pooled);
}

void Conditioning::put_embeddings(std::size_t row, const float* context, std::size_t tokens, const float* pooled) {
    std::memcpy(row_of(row), context, tokens * width_ * sizeof(float));
    for (std::size_t token = tokens; token < tokens_; ++token) {
        std::memcpy(row_of(row) + token * width_, empty_.data() + token % window_ * width_, width_ * sizeof(float));
    }
    if (pooled_width_ > 0) std::memcpy(pooled_.data() + row * pooled_width_, pooled, pooled_width_ * sizeof(float));
}

// The embedding on the straight line between both ends, in float32 as numpy computes with a Python number. What pads
// both stays as it is.
void Conditioning::put_between(std::size_t row, const Request& request) {
    const Text &first = find(request.prompts[0], true), &last = find(request.to->prompt, true);
    float share = static_cast<float>(request.to->share), rest = static_cast<float>(1.0 - request.to->share);
    auto between = [&](const float* one, const float* other, std::size_t count, float* out) {
        for (std::size_t index = 0; index < count; ++index) {
            float kept = rest * one[index], added = share * other[index];
            out[index] = kept + added;
        }
    };
    put_embeddings(row, first.states, most_ * window_, first.pooled);
    between(first.states, last.states, std::max(first.windows, last.windows) * window_ * width_, row_of(row));
    between(first.pooled, last.pooled, pooled_width_, pooled_.data() + row * pooled_width_);
}

}  // namespace ldm
