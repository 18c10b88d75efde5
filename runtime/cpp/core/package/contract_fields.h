// The fields of a contract's structs, in the order in which they are read.
#ifndef LDM_CORE_PACKAGE_CONTRACT_FIELDS_H
#define LDM_CORE_PACKAGE_CONTRACT_FIELDS_H

#include "core/json/fields.h"
#include "core/json/plain.h"
#include "core/package/contract.h"

namespace ldm {

inline constexpr std::string_view extra_rules[] = {"pooled_text", "image_sizes", "guidance_embedding"};
inline constexpr std::string_view concat_channels[] = {"mask", "masked_latents"};

constexpr json::Choices choices(ExtraRule) { return extra_rules; }
constexpr json::Choices choices(ConcatChannels) { return concat_channels; }

Status read(json::Reader& reader, const json::Value& value, const json::Where& where, Dim& out);
Status read(json::Reader& reader, const json::Value& value, const json::Where& where, Tensors& out);
Status plain(json::Reader& reader, const Dim& dim, json::Value& out);
Status plain(json::Reader& reader, const Tensors& tensors, json::Value& out);

template <typename Visitor>
void fields(Visitor& visit, TensorSpec& it) {
    visit("name", it.name);
    visit("dtype", it.dtype);
    visit("dims", it.dims);
}

template <typename Visitor>
void fields(Visitor& visit, ComponentContract& it) {
    visit("inputs", it.inputs);
    visit("outputs", it.outputs);
}

template <typename Visitor>
void fields(Visitor& visit, Multiple& it) {
    visit("axis", it.axis);
    visit("factor", it.factor);
}

template <typename Visitor>
void fields(Visitor& visit, Axis& it) {
    visit("min", it.min);
    visit("max", it.max);
    visit("proven", it.proven);
    visit("multiple_of", it.multiple_of);
}

template <typename Visitor>
void fields(Visitor& visit, TokenizerFacts& it) {
    visit("file", it.file);
    visit("max_length", it.max_length);
    visit("bos_token_id", it.bos_token_id);
    visit("eos_token_id", it.eos_token_id);
    visit("pad_token_id", it.pad_token_id);
    visit("vocab_size", it.vocab_size);
}

template <typename Visitor>
void fields(Visitor& visit, TextRole& it) {
    visit("component", it.component);
    visit("input", it.input);
    visit("tokenizer", it.tokenizer);
    visit("output", it.output);
    visit("pooled", it.pooled);
}

template <typename Visitor>
void fields(Visitor& visit, DenoiserRole& it) {
    visit("component", it.component);
    visit("sample", it.sample);
    visit("timestep", it.timestep);
    visit("context", it.context);
    visit("extra", it.extra);
    visit("output", it.output);
}

template <typename Visitor>
void fields(Visitor& visit, CodecHalf& it) {
    visit("component", it.component);
    visit("input", it.input);
    visit("output", it.output);
}

template <typename Visitor>
void fields(Visitor& visit, CodecRole& it) {
    visit("name", it.name);
    visit("encoder", it.encoder);
    visit("decoder", it.decoder);
}

template <typename Visitor>
void fields(Visitor& visit, LatentSpec& it) {
    visit("channels", it.channels);
    visit("downsample", it.downsample);
    visit("scale", it.scale);
    visit("shift", it.shift);
}

template <typename Visitor>
void fields(Visitor& visit, ImageSpec& it) {
    visit("width", it.width);
    visit("height", it.height);
}

template <typename Visitor>
void fields(Visitor& visit, Defaults& it) {
    visit("sampler", it.sampler);
    visit("steps", it.steps);
    visit("guidance", it.guidance);
    visit.optional("zero_negative", it.zero_negative);
}

template <typename Visitor>
void fields(Visitor& visit, Contract& it) {
    visit("components", it.components);
    visit("axes", it.axes);
    visit("text", it.text);
    visit("denoiser", it.denoiser);
    visit("concat", it.concat);
    visit("codec", it.codec);
    visit("latent", it.latent);
    visit("image", it.image);
    visit("schedule", it.schedule);
    visit("defaults", it.defaults);
}

}  // namespace ldm

#endif
