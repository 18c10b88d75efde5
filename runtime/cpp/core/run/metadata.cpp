#include "core/run/metadata.h"

#include "core/text/numbers.h"

namespace ldm {

namespace {

// A number that reads back as the same number: 7.5, 3.
numbers::Spelt exact(double value) {
    numbers::Spelt spelt = numbers::shortest(value);
    if (spelt.size > 2 && spelt.text[spelt.size - 2] == '.' && spelt.text[spelt.size - 1] == '0') spelt.size -= 2;
    return spelt;
}

class Facts {
public:
    Facts(Scope& scope, Arena& arena) : scope_(scope), arena_(arena), text_(scope.memory), facts_(scope.memory) {}

    // Pieces of text; after memory ran out nothing more is put.
    template <typename... Pieces>
    void put(std::string_view name, Pieces... pieces) {
        text_.shrink(0);
        fits_ = fits_ && (append(pieces) && ...) && text_.push('\0');
        View<char> kept;
        fits_ = fits_ && arena_.copy(text_.data(), text_.size(), kept);
        fits_ = fits_ && facts_.push({name, {kept.data, text_.size() - 1}});
    }

    Status finish(View<Fact>& out) {
        LDM_NEED(scope_, fits_ && arena_.copy(facts_.data(), facts_.size(), out));
        return Status();
    }

private:
    bool append(std::string_view text) { return text_.append(text.data(), text.size()); }
    bool append(const char* text) { return append(std::string_view(text)); }
    bool append(const numbers::Spelt& number) { return append(number.view()); }
    template <typename T, typename = std::enable_if_t<std::is_integral_v<T>>>
    bool append(T number) {
        char digits[24];
        char* end = digits + sizeof digits;
        char* first = end;
        std::uint64_t rest = static_cast<std::uint64_t>(number);
        do *--first = static_cast<char>('0' + rest % 10); while ((rest /= 10) > 0);
        return append(std::string_view(first, static_cast<std::size_t>(end - first)));
    }

    Scope& scope_;
    Arena& arena_;
    Array<char> text_;
    Array<Fact> facts_;
    bool fits_ = true;
};

void put_sizes(Facts& facts, const Request& request) {
    const ImageSizes& sizes = request.sizes;
    if (sizes.original != request.size) facts.put("original size", sizes.original.width, "x", sizes.original.height);
    if (sizes.top != 0 || sizes.left != 0) facts.put("crop top left", sizes.top, ":", sizes.left);
    if (sizes.target != request.size) facts.put("target size", sizes.target.width, "x", sizes.target.height);
}

void put_guidance(Facts& facts, const Request& request) {
    if (request.guidance_rescale != 0.0) facts.put("guidance rescale", exact(request.guidance_rescale));
    if (request.guidance_from != 0.0 || request.guidance_to != 1.0) {
        facts.put("guidance interval", exact(request.guidance_from), " to ", exact(request.guidance_to));
    }
}

// Only what is drawn of the latents after a step is drawn again by stopping there.
void put_moment(Facts& facts, const Request& request, const Moment& moment) {
    if (moment.is_preview && moment.is_within_step) {
        facts.put("preview after", "evaluation ", moment.evaluations, ", within step ", moment.steps_done + 1);
    } else if (moment.is_preview) {
        facts.put("preview after", moment.steps_done);
    } else if (moment.is_within_step) {
        facts.put("within step", moment.steps_done + 1, ", after evaluation ", moment.evaluations);
    } else if (moment.steps_done < request.plan.taken()) {
        facts.put("stopped after", moment.steps_done);
    }
}

}  // namespace

Status describe(Scope& scope, Arena& arena, const Model& model, const Request& request, std::size_t image,
                const Moment& moment, View<Fact>& out) {
    Facts facts(scope, arena);
    std::string_view prompt = request.has_embeddings ? std::string_view() : request.prompts[image];
    if (request.to) {
        facts.put("prompt", prompt, " to ", request.to->prompt);
    } else {
        facts.put("prompt", prompt);
    }
    facts.put("negative", request.is_guided ? request.negatives[image] : std::string_view());
    if (request.to) {
        facts.put("seed", request.seeds[image], " to ", request.to->seed);
    } else {
        facts.put("seed", request.seeds[image]);
    }
    facts.put("sampler", request.plan.sampler.canonical().view());
    facts.put("steps", request.plan.steps);
    facts.put("guidance", exact(request.guidance));
    facts.put("size", request.size.width, "x", request.size.height);
    facts.put("noise", request.latents.empty() ? request.noise : std::string_view("given latents"));
    if (request.has_embeddings) facts.put("conditioning", "given embeddings");
    if (request.is_guided && request.zero_negative) facts.put("negative conditioning", "zeros");
    if (request.syntax != "plain") facts.put("syntax", request.syntax);
    put_sizes(facts, request);
    put_guidance(facts, request);
    if (request.variation) {
        facts.put("variation", "seed ", request.variation->seed, ", strength ", exact(request.variation->strength));
    }
    if (request.strength) {
        facts.put("strength", exact(*request.strength));
        facts.put("task", request.mask.empty() ? "image to image" : "inpainting");
    }
    put_moment(facts, request, moment);
    facts.put("model", model.manifest->name);
    facts.put("package", model.identity);
    if (request.variant != nullptr) facts.put("variant", request.variant->name);
    if (request.to) facts.put("between", numbers::rounded(request.to->share));
    return facts.finish(out);
}

}  // namespace ldm
