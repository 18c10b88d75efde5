// The fields of variants' structs, in the order in which they are read.
#ifndef LDM_CORE_PACKAGE_VARIANT_FIELDS_H
#define LDM_CORE_PACKAGE_VARIANT_FIELDS_H

#include "core/package/artefact_fields.h"
#include "core/package/variants.h"

namespace ldm {

Status read(json::Reader& reader, const json::Value& value, const json::Where& where, IntegerPair& out);
Status plain(json::Reader& reader, const IntegerPair& pair, json::Value& out);

template <typename Visitor>
void fields(Visitor& visit, Way& it) {
    visit("engine", it.engine);
    visit("artefact", it.artefact);
    visit("precision", it.precision);
    visit("units", it.units);
}

template <typename Visitor>
void fields(Visitor& visit, Caching& it) {
    visit("interval", it.interval);
    visit("keeps", it.keeps);
    visit("reads", it.reads);
}

template <typename Visitor>
void fields(Visitor& visit, VariantRun& it) {
    visit("caching", it.caching);
    visit("guidance_until", it.guidance_until);
    visit("steps", it.steps);
    visit("sampler", it.sampler);
}

template <typename Visitor>
void fields(Visitor& visit, MeasuredPrompts& it) {
    visit("sha256", it.sha256);
    visit("count", it.count);
}

template <typename Visitor>
void fields(Visitor& visit, MeasuredError& it) {
    visit("components", it.components);
    visit("latents", it.latents);
    visit("psnr", it.psnr);
    visit("ssim", it.ssim);
    visit("worst", it.worst);
    visit("prompts", it.prompts);
    visit("seeds", it.seeds);
    visit("steps", it.steps);
    visit("sampler", it.sampler);
    visit("guidance", it.guidance);
    visit("size", it.size);
    visit("units", it.units);
    visit("versions", it.versions);
}

template <typename Visitor>
void fields(Visitor& visit, Variant& it) {
    visit("name", it.name);
    visit("methods", it.methods);
    visit("ways", it.ways);
    visit("run", it.run);
    visit("error", it.error);
    visit("time", it.time);
    visit("bytes", it.bytes);
}

}  // namespace ldm

#endif
