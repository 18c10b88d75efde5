// The texts of a run, or the embeddings in their place.
#include "core/codes.h"
#include "core/run/counts.h"
#include "core/run/request_checks.h"

namespace ldm {

namespace {

Status check_embeddings(const Checking& its, std::int64_t most) {
    const Embeddings& given = *its.options.embeddings;
    const TensorSpec& context = its.contract.context();
    std::int64_t width = context.dims[2].size;
    auto [low, high] = its.contract.range_of(context.dims[1]);
    if (its.options.prompts) {
        return its.scope.fail(codes::request_invalid, {"both prompt and prompt_embeds were given; give one of them"});
    }
    if (given.width != positive(width)) {
        return its.scope.fail(codes::request_array, {"prompt_embeds has shape (", given.count, ", ", given.tokens, ", ",
                              given.width, "); expected (any, any, ", width, ")"});
    }
    if (given.count < 1 || given.tokens < positive(low) || given.tokens > positive(high)) {
        return its.scope.fail(codes::request_array,
                              {"prompt_embeds has shape (", given.count, ", ", given.tokens, ", ", width,
                               "); expected at least one prompt of ", low, " to ", high, " tokens"});
    }
    if (given.count > positive(most)) {
        return its.scope.fail(codes::request_array, {"prompt_embeds has shape (", given.count, ", ", given.tokens, ", ",
                                                     width, "); the package takes a batch of at most ", most});
    }
    View<float> once;
    std::size_t each = given.tokens * positive(width);
    LDM_TRY(its.copy("prompt_embeds", given.context, given.count * each, once));
    its.out.has_embeddings = true;
    its.out.embeddings_tokens = given.tokens;
    return its.repeat(once, each, its.out.context);
}

Status check_prompts(const Checking& its) {
    if (!its.options.prompts) {
        return its.scope.fail(codes::request_invalid,
                              {"no prompt was given; give a prompt (\"\" is legal) or prompt_embeds"});
    }
    if (!its.options.prompts->empty()) return Status();
    return its.scope.fail(codes::request_invalid,
                          {"prompt is an empty list; expected a text or a list of at least one"});
}

Status check_negatives(const Checking& its) {
    const RunOptions& options = its.options;
    Request& out = its.out;
    if (options.negative && options.negatives) {
        return its.scope.fail(codes::request_invalid, {"both negative and negatives were given; give one of them"});
    }
    out.negatives_are_several = options.negatives.has_value();
    out.negative_is_given = options.negative || options.negatives;
    out.zero_negative = out.is_guided && its.contract.defaults.zero_negative && !out.negative_is_given;
    if (!options.negatives || options.negatives->size == out.prompt_count()) return Status();
    return its.scope.fail(codes::request_invalid, {"negative has ", options.negatives->size, " texts for ",
                          out.prompt_count(), " prompts; give one for each"});
}

Status check_batch(const Checking& its) {
    auto [low, high] = its.contract.range_of(its.contract.sample().dims[0]);
    auto batch = static_cast<std::int64_t>(its.out.batch), needed = its.out.is_guided ? 2 * batch : batch;
    if (needed >= low && needed <= high) return Status();
    return its.scope.fail(codes::request_batch, {batch, " images at once need a batch of ", needed,
                          its.out.is_guided ? " with guidance" : "", ", but the package takes ", low, " to ", high,
                          "; ask for at most ", its.out.is_guided ? high / 2 : high});
}

// A text for each image, of those for each prompt.
Status repeat(const Checking& its, View<std::string_view> texts, View<std::string_view>& out) {
    auto* all = its.arena.make<std::string_view>(its.out.batch);
    LDM_NEED(its.scope, all != nullptr);
    for (std::size_t text = 0; text < texts.size; ++text) {
        std::string_view kept;
        LDM_TRY(its.copy(texts[text], kept));
        for (std::size_t index = 0; index < its.out.repeats; ++index) all[text * its.out.repeats + index] = kept;
    }
    out = {all, its.out.batch};
    return Status();
}

Status copy_negatives(const Checking& its) {
    if (its.options.negatives) return repeat(its, *its.options.negatives, its.out.negatives);
    std::string_view text;
    LDM_TRY(its.copy(its.options.negative.value_or(""), text));
    auto* all = its.arena.make<std::string_view>(its.out.batch);
    LDM_NEED(its.scope, all != nullptr);
    for (std::size_t image = 0; image < its.out.batch; ++image) all[image] = text;
    its.out.negatives = {all, its.out.batch};
    return Status();
}

}  // namespace

Status read_texts(const Checking& its) {
    std::int64_t most = its.contract.range_of(its.contract.sample().dims[0]).max;
    LDM_TRY(check_integer(its.scope, "count", its.options.count, 1, most, codes::request_batch));
    its.out.repeats = positive(its.options.count);
    LDM_TRY(its.options.embeddings ? check_embeddings(its, most) : check_prompts(its));
    std::size_t given = its.out.has_embeddings ? its.options.embeddings->count : its.options.prompts->size;
    LDM_NEED(its.scope, given <= static_cast<std::size_t>(-1) / 4 / its.out.repeats);  // `most` is the manifest's word
    its.out.batch = given * its.out.repeats;
    LDM_TRY(check_negatives(its));
    LDM_TRY(check_batch(its));
    LDM_TRY(copy_negatives(its));
    return its.out.has_embeddings ? Status() : repeat(its, *its.options.prompts, its.out.prompts);
}

Status read_pooled(const Checking& its) {
    const std::optional<PooledEmbeddings>& given = its.options.pooled_embeddings;
    std::size_t width = positive(its.contract.pooled_width());
    if (given && (!its.out.has_embeddings || width == 0)) {
        return its.scope.fail(codes::request_array, {"pooled_prompt_embeds was given, ", width > 0
                              ? "without prompt_embeds" : "but this model does not read it", "; leave it out"});
    }
    if (!its.out.has_embeddings || width == 0) return Status();
    if (!given) {
        return its.scope.fail(codes::request_array, {"this model reads pooled text too, which prompt_embeds does not "
                              "hold; give pooled_prompt_embeds"});
    }
    std::size_t count = its.options.embeddings->count;
    if (given->width != width) {
        return its.scope.fail(codes::request_array, {"pooled_prompt_embeds has shape (", count, ", ", given->width,
                              "); expected (", count, ", ", width, ")"});
    }
    View<float> once;
    LDM_TRY(its.copy("pooled_prompt_embeds", given->pooled, count * width, once));
    return its.repeat(once, width, its.out.pooled);
}

}  // namespace ldm
