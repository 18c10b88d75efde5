// Ports: the tensors that the roles of a contract name, and what each role requires of its tensor.
#ifndef LDM_CORE_PACKAGE_PORTS_H
#define LDM_CORE_PACKAGE_PORTS_H

#include <cstddef>
#include <string_view>

#include "core/package/contract.h"
#include "core/status.h"

namespace ldm {

struct Role {
    std::string_view name;
    bool is_output;
    bool is_integer;   // int64 or int32; else float32
    std::size_t rank;  // dimensions
    bool has_batch;    // of prompts or images that go one at a time
};

namespace roles {

inline constexpr Role text_input{"text.input", false, true, 2, true};
inline constexpr Role text_output{"text.output", true, false, 3, false};
inline constexpr Role text_pooled{"text.pooled", true, false, 2, false};
inline constexpr Role denoiser_sample{"denoiser.sample", false, false, 4, false};
inline constexpr Role denoiser_timestep{"denoiser.timestep", false, false, 0, false};
inline constexpr Role denoiser_context{"denoiser.context", false, false, 3, false};
inline constexpr Role denoiser_output{"denoiser.output", true, false, 4, false};
inline constexpr Role denoiser_extra{"denoiser.extra", false, false, 2, false};
inline constexpr Role encoder_input{"codec.encoder.input", false, false, 4, true};
inline constexpr Role encoder_output{"codec.encoder.output", true, false, 4, false};
inline constexpr Role decoder_input{"codec.decoder.input", false, false, 4, true};
inline constexpr Role decoder_output{"codec.decoder.output", true, false, 4, false};

}  // namespace roles

// Call visit(role, component, tensor), which returns a Status, for everything that the roles name.
template <typename Visit>
Status for_each_port(const Contract& contract, Visit visit) {
    for (const TextRole& text : contract.text) {
        LDM_TRY(visit(roles::text_input, text.component, text.input));
        LDM_TRY(visit(roles::text_output, text.component, text.output));
        if (text.pooled.has_value()) LDM_TRY(visit(roles::text_pooled, text.component, *text.pooled));
    }
    const DenoiserRole& denoiser = contract.denoiser;
    LDM_TRY(visit(roles::denoiser_sample, denoiser.component, denoiser.sample));
    LDM_TRY(visit(roles::denoiser_timestep, denoiser.component, denoiser.timestep));
    LDM_TRY(visit(roles::denoiser_context, denoiser.component, denoiser.context));
    LDM_TRY(visit(roles::denoiser_output, denoiser.component, denoiser.output));
    for (const auto& entry : denoiser.extra) LDM_TRY(visit(roles::denoiser_extra, denoiser.component, entry.key));
    const CodecHalf &encoder = contract.codec.encoder, &decoder = contract.codec.decoder;
    LDM_TRY(visit(roles::encoder_input, encoder.component, encoder.input));
    LDM_TRY(visit(roles::encoder_output, encoder.component, encoder.output));
    LDM_TRY(visit(roles::decoder_input, decoder.component, decoder.input));
    return visit(roles::decoder_output, decoder.component, decoder.output);
}

}  // namespace ldm

#endif
