#include "core/run/request.h"

#include <cmath>
#include <limits>

#include "core/codes.h"
#include "core/images/pixels.h"
#include "core/noise/noise.h"
#include "core/sampling/sampler.h"

namespace ldm {

namespace {

constexpr double most_embedded_guidance = 1000.0;  // far above what any model was distilled with
constexpr std::int64_t most_side_told = 1 << 20;   // pixels
constexpr double picture_strength = 0.8, mask_strength = 1.0;  // as in diffusers

class Checks {
public:
    Checks(Scope& scope, Arena& arena, const Model& model, const RunOptions& options, Request& out)
        : scope_(scope), arena_(arena), contract_(model.contract()), options_(options), out_(out) {}

    Status all() {
        LDM_TRY(guidance());
        LDM_TRY(texts());
        LDM_TRY(batch_fits());
        LDM_TRY(pictures_fit());
        LDM_TRY(plan());
        LDM_TRY(size());
        LDM_TRY(latents());
        LDM_TRY(pooled());
        LDM_TRY(seeds());
        LDM_TRY(sizes_told());
        LDM_TRY(other_end());
        return pixels();
    }

private:
    Status share(std::string_view name, double value) {
        if (value >= 0.0 && value <= 1.0) return Status();
        return scope_.fail(codes::request_invalid, {name, " is ", value, "; expected a number from 0 to 1"});
    }

    Status copy(std::string_view text, std::string_view& out) {
        View<char> kept;
        LDM_NEED(scope_, arena_.copy(text.data(), text.size(), kept));
        out = {kept.data, kept.size};
        return Status();
    }

    // A copy of numbers that the caller gave; each is finite.
    Status numbers(std::string_view name, const float* values, std::size_t count, View<float>& out) {
        for (std::size_t index = 0; index < count; ++index) {
            if (!std::isfinite(values[index])) {
                return scope_.fail(codes::request_array,
                                   {name, " holds NaN or infinity; expected finite float32 numbers"});
            }
        }
        LDM_NEED(scope_, arena_.copy(values, count, out));
        return Status();
    }

    Status guidance() {
        double value = options_.guidance.value_or(contract_.defaults.guidance);
        if (!(value >= 0.0 && std::isfinite(value))) {
            return scope_.fail(codes::request_invalid, {"guidance is ", value,
                               "; expected a finite number of 0 or more (1 or less: no guidance)"});
        }
        out_.embeds_guidance = contract_.embeds_guidance();
        if (out_.embeds_guidance && value > most_embedded_guidance) {
            return scope_.fail(codes::request_invalid, {"guidance is ", value, "; expected at most ",
                               most_embedded_guidance, ": this model reads it as a number"});
        }
        out_.guidance = value;
        out_.is_guided = contract_.evaluates_negative(value);
        out_.guidance_rescale = options_.guidance_rescale;
        out_.guidance_from = options_.guidance_from;
        out_.guidance_to = options_.guidance_to;
        LDM_TRY(share("guidance_rescale", options_.guidance_rescale));
        LDM_TRY(share("an end of the guidance interval", options_.guidance_from));
        LDM_TRY(share("an end of the guidance interval", options_.guidance_to));
        if (options_.guidance_from < options_.guidance_to) return Status();
        return scope_.fail(codes::request_invalid, {"the guidance interval is ", options_.guidance_from, " to ",
                           options_.guidance_to, "; expected its start below its end"});
    }

    Status texts() {
        auto [least, most] = contract_.range_of(contract_.sample().dims[0]);
        (void)least;
        if (options_.count < 1 || options_.count > most) {
            return scope_.fail(codes::request_batch, {"count is ", options_.count, "; expected an integer from 1 to ", most});
        }
        if (options_.syntax != "plain" && options_.syntax != "weighted") {
            return scope_.fail(codes::request_invalid,
                               {"syntax is ", quoted(options_.syntax), "; expected plain or weighted"});
        }
        LDM_TRY(copy(options_.syntax, out_.syntax));
        bool has_prompts = !options_.prompts.empty();
        if (has_prompts && options_.embeddings) {
            return scope_.fail(codes::request_invalid, {"both prompt and prompt_embeds were given; give one of them"});
        }
        if (!has_prompts && !options_.embeddings) {
            return scope_.fail(codes::request_invalid,
                               {"no prompt was given; give a prompt (\"\" is legal) or prompt_embeds"});
        }
        auto repeats = static_cast<std::size_t>(options_.count);
        std::size_t given = has_prompts ? options_.prompts.size : options_.embeddings->count;
        if (given > static_cast<std::size_t>(most) / repeats) {
            given = static_cast<std::size_t>(most) / repeats + 1;  // too many in any case: batch_fits says so
            if (!has_prompts) return too_many_embeddings(most);
        }
        out_.batch = given * repeats;
        if (has_prompts) LDM_TRY(repeated(options_.prompts, given, repeats, out_.prompts));
        if (options_.embeddings) LDM_TRY(embeddings(most, repeats));
        return negatives(given, repeats);
    }

    // `given` texts, each `repeats` times.
    Status repeated(View<std::string_view> texts, std::size_t given, std::size_t repeats, View<std::string_view>& out) {
        auto* all = arena_.make<std::string_view>(given * repeats);
        LDM_NEED(scope_, all != nullptr);
        for (std::size_t text = 0; text < given; ++text) {
            std::string_view kept;
            LDM_TRY(copy(texts[text], kept));
            for (std::size_t index = 0; index < repeats; ++index) all[text * repeats + index] = kept;
        }
        out = {all, given * repeats};
        return Status();
    }

    Status negatives(std::size_t given, std::size_t repeats) {
        out_.negative_is_given = options_.negatives.has_value();
        out_.zero_negative = out_.is_guided && contract_.defaults.zero_negative && !out_.negative_is_given;
        static constexpr std::string_view empty;
        View<std::string_view> texts = out_.negative_is_given ? *options_.negatives : View<std::string_view>{&empty, 1};
        if (texts.size == 1) return repeated(texts, 1, out_.batch, out_.negatives);
        if (texts.size == given) return repeated(texts, given, repeats, out_.negatives);
        return scope_.fail(codes::request_invalid, {"negative has ", texts.size, " texts for ", given,
                           " prompts; give one for each"});
    }

    Status too_many_embeddings(std::int64_t most) {
        return scope_.fail(codes::request_array, {"prompt_embeds has ", options_.embeddings->count,
                           " prompts; the package takes a batch of at most ", most});
    }

    Status embeddings(std::int64_t most, std::size_t repeats) {
        const Embeddings& given = *options_.embeddings;
        auto [low, high] = contract_.range_of(contract_.context().dims[1]);
        if (given.count < 1 || given.tokens < static_cast<std::size_t>(low) || given.tokens > static_cast<std::size_t>(high)) {
            return scope_.fail(codes::request_array, {"prompt_embeds has ", given.count, " prompts of ", given.tokens,
                               " tokens; expected at least one prompt of ", low, " to ", high, " tokens"});
        }
        if (given.count > static_cast<std::size_t>(most)) return too_many_embeddings(most);
        out_.has_embeddings = true;
        out_.embeddings_tokens = given.tokens;
        std::size_t each = given.tokens * static_cast<std::size_t>(contract_.context().dims[2].size);
        View<float> once;
        LDM_TRY(numbers("prompt_embeds", given.context, given.count * each, once));
        return repeated(once, given.count, each, repeats, out_.context);
    }

    // Rows of `each` numbers, each `repeats` times.
    Status repeated(View<float> rows, std::size_t count, std::size_t each, std::size_t repeats, View<float>& out) {
        auto* all = arena_.make<float>(count * repeats * each);
        LDM_NEED(scope_, all != nullptr);
        for (std::size_t row = 0; row < count * repeats; ++row) {
            std::memcpy(all + row * each, rows.data + row / repeats * each, each * sizeof(float));
        }
        out = {all, count * repeats * each};
        return Status();
    }

    Status batch_fits() {
        auto [low, high] = contract_.range_of(contract_.sample().dims[0]);
        auto needed = static_cast<std::int64_t>(out_.is_guided ? 2 * out_.batch : out_.batch);
        if (needed >= low && needed <= high) return Status();
        return scope_.fail(codes::request_batch, {static_cast<std::int64_t>(out_.batch), " images at once need a batch of ", needed,
                           out_.is_guided ? " with guidance" : "", ", but the package takes ", low, " to ", high,
                           "; ask for at most ", out_.is_guided ? high / 2 : high});
    }

    Status pictures_fit() {
        if (options_.pictures.empty()) {
            if (options_.mask != nullptr || options_.strength) {
                return scope_.fail(codes::request_image, {options_.mask != nullptr ? "mask" : "strength",
                                   " was given without an image; give the image that it is for"});
            }
        } else if (options_.pictures.size != 1 && options_.pictures.size != out_.batch) {
            return scope_.fail(codes::request_image, {"image has ", options_.pictures.size, " images for a batch of ",
                               out_.batch, "; give one, or one for each"});
        } else {
            out_.strength = options_.strength.value_or(options_.mask == nullptr ? picture_strength : mask_strength);
            LDM_TRY(share("strength", *out_.strength));
        }
        if (contract_.inpaints() && (options_.pictures.empty() || options_.mask == nullptr)) {
            return scope_.fail(codes::request_invalid,
                               {"this model inpaints; give an image and a mask (all white for all of it)"});
        }
        return Status();
    }

    Status plan() {
        sampling::Sampler sampler;
        LDM_TRY(sampling::read_sampler(scope_, options_.sampler.value_or(contract_.defaults.sampler), sampler));
        LDM_TRY(check_noise(scope_, options_.noise, sampler.correlated_noise(), sampler.name(), out_.noise_mode));
        LDM_TRY(copy(options_.noise, out_.noise));
        std::int64_t steps = options_.steps.value_or(contract_.defaults.steps);
        std::int64_t start = 0;
        bool reached = false;
        if (out_.strength) LDM_TRY(sampler.reach(scope_, *out_.strength, reached));
        if (out_.strength && !reached) {
            auto taken = static_cast<std::int64_t>(static_cast<double>(steps) * *out_.strength);
            if (steps > 0 && taken < 1) {
                return scope_.fail(codes::request_invalid, {"strength ", *out_.strength, " of ", steps,
                                   " steps leaves none; use a strength of at least ", 1.0 / static_cast<double>(steps)});
            }
            start = steps - (taken < steps ? taken : steps);
        }
        LDM_TRY(sampling::compile_plan(scope_, arena_, contract_.schedule, sampler, steps, start, out_.plan));
        std::int64_t taken = out_.plan.taken();
        out_.stop_after = options_.stop_after.value_or(taken);
        if (out_.stop_after >= 1 && out_.stop_after <= taken) return Status();
        return scope_.fail(codes::request_invalid,
                           {"stop_after is ", out_.stop_after, "; expected an integer from 1 to ", taken});
    }

    Status size_fits(Size size, std::string_view what) {
        std::int64_t step = contract_.latent.downsample;
        const TensorSpec& sample = contract_.sample();
        for (int side = 0; side < 2; ++side) {
            auto [low, high] = contract_.range_of(sample.dims[side == 0 ? 3 : 2]);
            std::int64_t pixels = side == 0 ? size.width : size.height;
            if (pixels < low * step || pixels > high * step || pixels % step != 0) {
                return scope_.fail(codes::request_size, {what, " is ", size.width, "x", size.height, "; expected a ",
                                   side == 0 ? "width" : "height", " that is a multiple of ", step, ", from ",
                                   low * step, " to ", high * step});
            }
        }
        if (size.width * size.height <= images::most_pixels) return Status();
        return scope_.fail(codes::request_size,
                           {what, " is ", size.width, "x", size.height, "; expected at most ", images::most_pixels, " pixels"});
    }

    Status size() {
        if (options_.size) {
            out_.size = *options_.size;
            return size_fits(out_.size, "size");
        }
        if (options_.pictures.empty() || options_.latents != nullptr) {
            out_.size = {contract_.image.width, contract_.image.height};
            return size_fits(out_.size, "size");
        }
        const images::Samples& picture = options_.pictures[0];  // less what is over a multiple of the latents' grid
        std::int64_t step = contract_.latent.downsample;
        out_.size = {picture.width - picture.width % step, picture.height - picture.height % step};
        return size_fits(out_.size, "the size that the image gives (name another with size)");
    }

    Status latents() {
        if (options_.latents == nullptr) return Status();
        std::size_t each = static_cast<std::size_t>(contract_.latent.channels) * out_.latent_height(contract_) *
                           out_.latent_width(contract_);
        return numbers("latents", options_.latents, out_.batch * each, out_.latents);
    }

    Status pooled() {
        auto width = static_cast<std::size_t>(contract_.pooled_width());
        bool is_given = options_.embeddings && options_.embeddings->pooled != nullptr;
        if (is_given && width == 0) {
            return scope_.fail(codes::request_array, {"pooled_prompt_embeds was given, but this model does not read it; leave it out"});
        }
        if (!options_.embeddings || width == 0) return Status();
        if (!is_given) {
            return scope_.fail(codes::request_array, {"this model reads pooled text too, which prompt_embeds does not "
                               "hold; give pooled_prompt_embeds"});
        }
        View<float> once;
        LDM_TRY(numbers("pooled_prompt_embeds", options_.embeddings->pooled, options_.embeddings->count * width, once));
        return repeated(once, options_.embeddings->count, width, static_cast<std::size_t>(options_.count), out_.pooled);
    }

    Status seeds() {
        out_.seeds_are_chosen = options_.seeds_are_chosen;
        out_.variation = options_.variation;
        if (out_.variation) LDM_TRY(share("the strength of variation", out_.variation->strength));
        if (options_.seeds.size != 1 && options_.seeds.size != out_.batch) {
            return scope_.fail(codes::request_invalid, {"seed has ", options_.seeds.size, " numbers for ", out_.batch,
                               " images; give one for each, or one to count from"});
        }
        auto* seeds = arena_.make<std::uint64_t>(out_.batch);
        LDM_NEED(scope_, seeds != nullptr);
        bool counts = options_.seeds.size == 1;
        for (std::size_t image = 0; image < out_.batch; ++image) {
            seeds[image] = counts ? options_.seeds[0] + image : options_.seeds[image];  // mod 2^64
        }
        out_.seeds = {seeds, out_.batch};
        return Status();
    }

    Status told(std::string_view name, const std::optional<Size>& given, Size otherwise, std::int64_t low, Size& out) {
        out = given.value_or(otherwise);
        if (given && !contract_.reads_sizes()) {
            return scope_.fail(codes::request_size,
                               {name, " was given, but this model does not read it; leave it out"});
        }
        if (!given || (out.width >= low && out.width <= most_side_told && out.height >= low && out.height <= most_side_told)) {
            return Status();
        }
        return scope_.fail(codes::request_size, {name, " is ", out.width, ", ", out.height,
                           "; expected two integers from ", low, " to ", most_side_told});
    }

    Status sizes_told() {
        Size corner;
        LDM_TRY(told("original_size", options_.original_size, out_.size, 1, out_.sizes.original));
        LDM_TRY(told("crop_top_left", options_.crop_left_top, {0, 0}, 0, corner));
        LDM_TRY(told("target_size", options_.target_size, out_.size, 1, out_.sizes.target));
        out_.sizes.left = corner.width;
        out_.sizes.top = corner.height;
        return Status();
    }

    Status other_end() {
        if (!options_.to) return Status();
        if (out_.batch != 1 || out_.has_embeddings || options_.latents != nullptr) {
            return scope_.fail(codes::request_invalid, {"an interpolation takes one prompt, one image and no latents or "
                               "embeddings: they follow from the two prompts and seeds"});
        }
        LDM_TRY(share("share", options_.to->share));
        out_.to = options_.to;
        return copy(options_.to->prompt, out_.to->prompt);
    }

    Status pixels() {
        out_.picture_count = options_.pictures.size;
        if (out_.picture_count == 0) return Status();
        auto width = static_cast<std::size_t>(out_.size.width), height = static_cast<std::size_t>(out_.size.height);
        Array<float> values(scope_.memory);
        for (const images::Samples& samples : options_.pictures) {
            images::Image picture(scope_.memory);
            LDM_TRY(images::settle(scope_, samples, "the image", picture));
            out_.picture_is_transparent |= picture.channels == 4;
            LDM_TRY(images::start_values(scope_, width, height, picture, values));
        }
        LDM_NEED(scope_, arena_.copy(values.data(), values.size(), out_.pixels));
        return options_.mask == nullptr ? Status() : mask(width, height);
    }

    Status mask(std::size_t width, std::size_t height) {
        images::Image image(scope_.memory);
        Array<std::uint8_t> inpainted(scope_.memory);  // (height, width), 1 where the image is inpainted
        Array<float> cells(scope_.memory);             // (h, w)
        LDM_TRY(images::settle(scope_, *options_.mask, "the mask", image));
        out_.mask_is_transparent = image.channels == 4;
        LDM_TRY(images::inpainted(scope_, width, height, image, inpainted));
        auto step = static_cast<std::size_t>(contract_.latent.downsample);
        LDM_TRY(images::on_grid(scope_, inpainted.data(), height, width, step, cells));
        LDM_NEED(scope_, arena_.copy(cells.data(), cells.size(), out_.mask));
        return contract_.inpaints() ? grey_where(inpainted) : Status();
    }

    Status grey_where(const Array<std::uint8_t>& inpainted) {
        auto* masked = arena_.make<float>(out_.pixels.size);
        LDM_NEED(scope_, masked != nullptr);
        for (std::size_t index = 0; index < out_.pixels.size; ++index) {
            masked[index] = inpainted[index % inpainted.size()] ? 0.0f : out_.pixels[index];
        }
        out_.masked_pixels = {masked, out_.pixels.size};
        return Status();
    }

    Scope& scope_;
    Arena& arena_;
    const Contract& contract_;
    const RunOptions& options_;
    Request& out_;
};

}  // namespace

bool Request::is_guided_at(std::size_t row) const {
    double done = static_cast<double>(row) / static_cast<double>(plan.rows.size);
    return is_guided && guidance_from <= done && done < guidance_to;
}

Status check_request(Scope& scope, Arena& arena, const Model& model, const RunOptions& options, Request& out) {
    out = Request();
    return Checks(scope, arena, model, options, out).all();
}

}  // namespace ldm
