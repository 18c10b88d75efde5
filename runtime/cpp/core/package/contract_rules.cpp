// Rules of a contract: latents, prompts, images and defaults agree.
#include <algorithm>
#include <cmath>

#include "core/codes.h"
#include "core/package/ports.h"
#include "core/package/rules.h"
#include "core/package/values.h"
#include "core/sampling/plan.h"
#include "core/sampling/sampler.h"

namespace ldm {

namespace {

constexpr std::int64_t image_sizes = 6;  // numbers of the rule "image_sizes"
constexpr std::int64_t max_channels = std::int64_t{1} << 12;
constexpr std::int64_t max_window = std::int64_t{1} << 16;
constexpr std::int64_t max_vocabulary = std::int64_t{1} << 24;
constexpr std::int64_t max_steps = 1000;  // by default

// Checks parts of one contract.
class Rules {
public:
    Rules(Scope& scope, const Contract& contract, const json::Where& where)
        : scope_(scope), contract_(contract), where_(where), components_(where, "components") {}

    Status check_latent();
    Status check_text();
    Status check_facts();
    Status check_batches();

private:
    struct Port {
        std::string_view component, tensor;
    };

    Status check_channels();
    Status check_grid();
    Status check_images(const CodecHalf& half, std::string_view image, std::string_view latents);
    bool is_multiple(const Dim& pixels, const Dim& cells) const;
    Status check_tokenizer(const TextRole& text, const json::Where& where);
    Status check_context();
    Status check_widths();
    Status check_extra(std::int64_t pooled);
    Status check_image();
    Status check_defaults();

    const Dim& dim(const Port& port, std::size_t index) const {
        return contract_.tensor(port.component, port.tensor).dims[index];
    }
    // Keep a failure at a tensor.
    Status refuse(const Port& port, const char* code, std::initializer_list<Piece> what) {
        json::Where component(components_, json::Key{port.component}), tensor(component, json::Key{port.tensor});
        return json::fail(scope_, tensor, code, what);
    }

    Scope& scope_;
    const Contract& contract_;
    const json::Where& where_;
    json::Where components_;
};

Status Rules::check_latent() {
    const LatentSpec& latent = contract_.latent;
    json::Where here(where_, "latent");
    LDM_TRY(check_between(scope_, latent.channels, 1, max_channels, {here, "channels"}));
    LDM_TRY(check_between(scope_, latent.downsample, 1, max_factor, {here, "downsample"}));
    if (!(std::fabs(latent.scale) >= 1e-6 && std::fabs(latent.scale) <= 1e6)) {
        return json::fail(scope_, {here, "scale"}, codes::manifest_range,
                          {"is ", exactly(latent.scale), "; expected a magnitude of 1e-6 to 1e6"});
    }
    if (std::fabs(latent.shift) > 1e6) {
        return json::fail(scope_, {here, "shift"}, codes::manifest_range,
                          {"is ", exactly(latent.shift), "; expected a magnitude of 1e6 at most"});
    }
    constexpr ConcatChannels inpainting[] = {ConcatChannels::mask, ConcatChannels::masked_latents};
    View<ConcatChannels> concat = contract_.concat;
    if (!concat.empty() && !std::equal(concat.begin(), concat.end(), std::begin(inpainting), std::end(inpainting))) {
        return json::fail(scope_, {where_, "concat"}, codes::manifest_role,
                          {"has ", concat.size, " parts; expected none, or mask and masked_latents in this order"});
    }
    LDM_TRY(check_channels());
    return check_grid();
}

Status Rules::check_channels() {
    const LatentSpec& latent = contract_.latent;
    const DenoiserRole& denoiser = contract_.denoiser;
    const CodecHalf &encoder = contract_.codec.encoder, &decoder = contract_.codec.decoder;
    std::int64_t concat = contract_.concat.empty() ? 0 : 1 + latent.channels;
    const struct {
        Port port;
        std::int64_t size;
    } expected[] = {
        {{denoiser.component, denoiser.sample}, latent.channels + concat},
        {{denoiser.component, denoiser.output}, latent.channels},
        {{encoder.component, encoder.input}, 3},
        {{decoder.component, decoder.input}, latent.channels},
        {{decoder.component, decoder.output}, 3},
    };
    for (const auto& [port, size] : expected) {
        if (dim(port, 1).is(size)) continue;
        return refuse(port, codes::manifest_tensor, {"has ", shown(dim(port, 1)), " channels; expected ", size});
    }
    Port encoded{encoder.component, encoder.output};
    const Dim& moments = dim(encoded, 1);
    if (moments.is(latent.channels) || moments.is(2 * latent.channels)) return Status();
    return refuse(encoded, codes::manifest_tensor,
                  {"has ", shown(moments), " channels; expected ", 2 * latent.channels, ", or ", latent.channels,
                   " for latents"});
}

// Latents have one grid everywhere, and images `downsample` times as many pixels along each side.
Status Rules::check_grid() {
    const CodecHalf &encoder = contract_.codec.encoder, &decoder = contract_.codec.decoder;
    Port sample{contract_.denoiser.component, contract_.denoiser.sample};
    const Port same[] = {{contract_.denoiser.component, contract_.denoiser.output},
                         {encoder.component, encoder.output},
                         {decoder.component, decoder.input}};
    for (const Port& port : same) {
        if (dim(port, 2) == dim(sample, 2) && dim(port, 3) == dim(sample, 3)) continue;
        return refuse(port, codes::manifest_tensor,
                      {"has latents of ", shown(dim(port, 2)), " x ", shown(dim(port, 3)), "; expected ",
                       shown(dim(sample, 2)), " x ", shown(dim(sample, 3)), " as ", quoted(sample.tensor)});
    }
    LDM_TRY(check_images(encoder, encoder.input, encoder.output));
    return check_images(decoder, decoder.output, decoder.input);
}

Status Rules::check_images(const CodecHalf& half, std::string_view image, std::string_view latents) {
    for (std::size_t side : {std::size_t{2}, std::size_t{3}}) {
        const Dim &pixels = dim({half.component, image}, side), &cells = dim({half.component, latents}, side);
        if (is_multiple(pixels, cells)) continue;
        json::Where here(components_, json::Key{half.component});
        return json::fail(scope_, here, codes::manifest_tensor,
                          {"has images of ", shown(pixels), " for latents of ", shown(cells), "; expected ",
                           contract_.latent.downsample, " times as many"});
    }
    return Status();
}

bool Rules::is_multiple(const Dim& pixels, const Dim& cells) const {
    std::int64_t factor = contract_.latent.downsample;
    if (!pixels.is_named || !cells.is_named) {
        return !pixels.is_named && !cells.is_named && is_product(pixels.size, cells.size, factor);
    }
    const std::optional<Multiple>& multiple = contract_.axes.find(pixels.axis)->multiple_of;
    if (!multiple.has_value()) return factor == 1 && pixels == cells;
    return multiple->axis == cells.axis && multiple->factor == factor;
}

Status Rules::check_text() {
    json::Where text(where_, "text");
    std::int64_t pooled = 0;
    for (std::size_t index = 0; index < contract_.text.size; ++index) {
        const TextRole& role = contract_.text[index];
        json::Where here(text, index);
        const Dim &tokens = dim({role.component, role.output}, 1), &taken = dim({role.component, role.input}, 1);
        if (tokens != taken) {
            return json::fail(scope_, {components_, json::Key{role.component}}, codes::manifest_tensor,
                              {"has outputs of ", shown(tokens), " tokens for inputs of ", shown(taken)});
        }
        if (role.pooled.has_value()) {
            const Dim& width = dim({role.component, *role.pooled}, 1);
            pooled += width.is_named ? max_axis : width.size;
        }
        LDM_TRY(check_tokenizer(role, {here, "tokenizer"}));
    }
    LDM_TRY(check_context());
    LDM_TRY(check_widths());
    return check_extra(pooled);
}

Status Rules::check_tokenizer(const TextRole& text, const json::Where& where) {
    const TokenizerFacts& facts = text.tokenizer;
    LDM_TRY(check_relative_path(scope_, facts.file, {where, "file"}));
    auto [low, high] = contract_.range_of(dim({text.component, text.input}, 1));
    LDM_TRY(check_between(scope_, facts.max_length, std::max<std::int64_t>(low, 2), std::min(high, max_window),
                          {where, "max_length"}));
    LDM_TRY(check_between(scope_, facts.vocab_size, 1, max_vocabulary, {where, "vocab_size"}));
    std::int64_t last = facts.vocab_size - 1;
    LDM_TRY(check_between(scope_, facts.bos_token_id, 0, last, {where, "bos_token_id"}));
    LDM_TRY(check_between(scope_, facts.eos_token_id, 0, last, {where, "eos_token_id"}));
    LDM_TRY(check_between(scope_, facts.pad_token_id, 0, last, {where, "pad_token_id"}));
    if (facts.max_length == contract_.window()) return Status();
    return json::fail(scope_, {where, "max_length"}, codes::manifest_text,
                      {"is ", facts.max_length, "; expected ", contract_.window(), " as of the first"});
}

Status Rules::check_context() {
    Port context{contract_.denoiser.component, contract_.denoiser.context};
    const Dim& tokens = dim(context, 1);
    json::Where text(where_, "text"), first(text, std::size_t{0}), tokenizer(first, "tokenizer");
    auto [low, high] = contract_.range_of(tokens);
    LDM_TRY(check_between(scope_, contract_.window(), low, high, {tokenizer, "max_length"}));
    View<Dim> sample = contract_.sample().dims;
    if (std::find(sample.begin(), sample.end(), tokens) == sample.end()) return Status();
    return refuse(context, codes::manifest_axis,
                  {"counts tokens by ", shown(tokens), ", as ", quoted(contract_.denoiser.sample), " counts latents"});
}

// The text encoders' outputs, joined, are as wide as the context.
Status Rules::check_widths() {
    const Dim& taken = dim({contract_.denoiser.component, contract_.denoiser.context}, 2);
    bool is_fixed = !taken.is_named;
    std::int64_t made = 0;
    for (const TextRole& text : contract_.text) {
        const Dim& width = dim({text.component, text.output}, 2);
        is_fixed = is_fixed && !width.is_named;
        made += width.size;
    }
    if (is_fixed && made == taken.size) return Status();
    return json::fail(scope_, components_, codes::manifest_text,
                      {"gives embeddings of width ", is_fixed ? Piece(made) : Piece("unknown"),
                       " to a denoiser that takes ", shown(taken)});
}

Status Rules::check_extra(std::int64_t pooled) {
    json::Where denoiser(where_, "denoiser"), extra(denoiser, "extra");
    for (const auto& [name, rule] : contract_.denoiser.extra) {
        const Dim& width = dim({contract_.denoiser.component, name}, 1);
        std::int64_t size = rule == ExtraRule::pooled_text ? pooled : image_sizes;
        bool embeds = rule == ExtraRule::guidance_embedding;
        bool fits = embeds ? !width.is_named && width.size >= 4 && width.size % 2 == 0 : size != 0 && width.is(size);
        if (fits) continue;
        json::Where here(extra, json::Key{name});
        return json::fail(scope_, here, codes::manifest_text,
                          {"has ", shown(width), " numbers; expected ",
                           embeds ? Piece("an even number of at least 4") : Piece(size)});
    }
    return Status();
}

Status Rules::check_facts() {
    LDM_TRY(check_image());
    return check_defaults();
}

Status Rules::check_image() {
    const ImageSpec& image = contract_.image;
    std::int64_t factor = contract_.latent.downsample;
    View<Dim> sample = contract_.sample().dims;
    json::Where here(where_, "image");
    const struct {
        const char* name;
        std::int64_t pixels;
        Sizes cells;
    } sides[] = {{"width", image.width, contract_.range_of(sample[3])},
                 {"height", image.height, contract_.range_of(sample[2])}};
    for (const auto& [name, pixels, cells] : sides) {
        LDM_TRY(check_between(scope_, pixels, cells.min * factor, cells.max * factor, {here, name}));
        if (pixels % factor == 0) continue;
        return json::fail(scope_, {here, name}, codes::manifest_image, {"is ", pixels, ", not a multiple of ", factor});
    }
    if (image.width * image.height <= max_pixels) return Status();
    return json::fail(scope_, here, codes::manifest_image,
                      {"is ", image.width, "x", image.height, ", more than ", max_pixels, " pixels"});
}

Status Rules::check_defaults() {
    json::Where here(where_, "defaults");
    LDM_TRY(check_plan(scope_, contract_, std::nullopt, std::nullopt, here));
    return check_span(scope_, contract_.defaults.guidance, 0, max_guidance, {here, "guidance"});
}

// One image can be drawn by the defaults: text and images go one at a time, guidance doubles rows.
Status Rules::check_batches() {
    LDM_TRY(for_each_port(contract_, [&](const Role& role, std::string_view component, std::string_view tensor) {
        if (!role.has_batch) return Status();
        auto [low, high] = contract_.range_of(dim({component, tensor}, 0));
        if (low <= 1 && high >= 1) return Status();
        return refuse({component, tensor}, codes::manifest_range,
                      {"takes a batch of ", low, " to ", high, "; expected 1"});
    }));
    double guidance = contract_.defaults.guidance;
    std::int64_t needed = contract_.evaluates_negative(guidance) ? 2 : 1;
    auto [low, high] = contract_.range_of(contract_.sample().dims[0]);
    if (low <= needed && needed <= high) return Status();
    json::Where defaults(where_, "defaults");
    return json::fail(
        scope_, {defaults, "guidance"}, codes::manifest_range,
        {"is ", exactly(guidance), ", so an image needs a batch of ", needed, "; expected ", low, " to ", high});
}

}  // namespace

Status check_plan(Scope& scope, const Contract& contract, std::optional<std::int64_t> steps,
                  std::optional<std::string_view> sampler, const json::Where& where) {
    const Defaults& defaults = contract.defaults;
    std::int64_t taken = steps.value_or(defaults.steps);
    std::int64_t most = std::min(contract.schedule.num_train_timesteps(), max_steps);
    LDM_TRY(check_between(scope, taken, 1, most, {where, "steps"}));
    Failure failure;
    Scope inner{scope.memory, failure};
    sampling::Sampler parsed;
    Status status = sampling::read_sampler(inner, sampler.value_or(defaults.sampler), parsed);
    if (status.ok()) status = sampling::check_steps(inner, contract.schedule, parsed, taken);
    if (status.ok()) return status;
    if (std::string_view(status.code()) == codes::other_memory) return scope.out_of_memory();
    return json::fail(scope, {where, "sampler"}, codes::manifest_sampler,
                      {"is not usable: ", std::string_view(failure.text)});
}

Status check_contract(Scope& scope, const Contract& contract, const json::Where& where) {
    Rules rules(scope, contract, where);
    LDM_TRY(check_axes(scope, contract, where));
    LDM_TRY(check_tensors(scope, contract, where));
    LDM_TRY(check_roles(scope, contract, where));
    LDM_TRY(rules.check_latent());
    LDM_TRY(rules.check_text());
    LDM_TRY(rules.check_facts());
    return rules.check_batches();
}

}  // namespace ldm
