#include "core/sampling/sampler.h"

#include <algorithm>
#include <cstring>
#include <type_traits>

#include "core/codes.h"

namespace ldm::sampling {

namespace {

constexpr unsigned bit(Prediction prediction) { return 1u << static_cast<unsigned>(prediction); }
constexpr unsigned no_sample = bit(Prediction::epsilon) | bit(Prediction::v_prediction);
constexpr unsigned all = no_sample | bit(Prediction::sample);
constexpr unsigned flow = bit(Prediction::flow_prediction);
constexpr auto leading = Spacing::leading, linspace_ = Spacing::linspace;
constexpr std::nullopt_t its_own = std::nullopt;

// What a solver can do beside the common.
constexpr bool takes_zero_snr = true, no_zero_snr = false, correlated = true;

template <typename Options, Status (*solve)(Scope&, const Problem&, const Options&, Rows&)>
Status solved(Scope& scope, const Problem& problem, const AnyOptions& options, Rows& rows) {
    return solve(scope, problem, *std::get_if<Options>(&options), rows);
}

constexpr Solver table[] = {
    {"ddpm", solved<DdpmOptions, solve_ddpm>, DdpmOptions(), "DDPM, ancestral sampling of the trained process", leading,
     all, takes_zero_snr},
    {"ddim", solved<DdimOptions, solve_ddim>, DdimOptions(), "DDIM, deterministic at eta 0", leading, all,
     takes_zero_snr},
    {"pndm", solved<PndmOptions, solve_pndm>, PndmOptions(), "PNDM: linear multistep, with skip_prk_steps PLMS",
     leading, no_sample},
    {"lms", solved<SigmaOptions, solve_lms>, SigmaOptions(), "linear multistep, order 4", linspace_, all},
    {"euler", solved<EulerOptions, solve_euler>, EulerOptions(), "Euler, deterministic", linspace_, all,
     takes_zero_snr},
    {"euler_ancestral", solved<NoOptions, solve_euler_ancestral>, NoOptions(), "Euler with fresh noise at every step",
     linspace_, no_sample, takes_zero_snr},
    {"heun", solved<HeunOptions, solve_heun>, HeunOptions(), "Heun, second order, two evaluations for each step",
     linspace_, all},
    {"dpm2", solved<SigmaOptions, solve_dpm2>, SigmaOptions(), "DPM2, second order, two evaluations for each step",
     linspace_, no_sample},
    {"dpm2_ancestral", solved<SigmaOptions, solve_dpm2_ancestral>, SigmaOptions(),
     "DPM2 with fresh noise at every step", linspace_, no_sample},
    {"dpmpp_sde", solved<SigmaOptions, solve_dpmpp_sde>, SigmaOptions(),
     "DPM-Solver++ SDE, two evaluations for each step on one Brownian path", linspace_, no_sample, no_zero_snr,
     correlated},
    {"dpmsolver", solved<DpmSolverOptions, solve_multistep>, DpmSolverOptions(),
     "DPM-Solver and DPM-Solver++, multistep", linspace_, all, takes_zero_snr},
    {"dpmsolver_singlestep", solved<SinglestepOptions, solve_singlestep>, SinglestepOptions(),
     "DPM-Solver and DPM-Solver++, steps of up to three evaluations", its_own, all},
    {"deis", solved<DeisOptions, solve_deis>, DeisOptions(), "DEIS, multistep", linspace_, all},
    {"unipc", solved<UniPcOptions, solve_unipc>, UniPcOptions(), "UniPC, multistep predictor and corrector", linspace_,
     all, takes_zero_snr},
    {"sa_solver", solved<SaSolverOptions, solve_sa>, SaSolverOptions(),
     "SA-Solver, stochastic multistep predictor and corrector", linspace_, all},
    {"lcm", solved<LcmOptions, solve_lcm>, LcmOptions(), "latent consistency models", its_own, all, takes_zero_snr},
    {"tcd", solved<TcdOptions, solve_tcd>, TcdOptions(), "trajectory consistency distillation", its_own, all,
     takes_zero_snr},
    {"flow_euler", solved<FlowEulerOptions, solve_flow_euler>, FlowEulerOptions(), "Euler for flow models", its_own,
     flow},
};

constexpr Preset preset_table[] = {
    {"dpmpp_2m", "dpmsolver"},
    {"dpmpp_2m_karras", "dpmsolver:sigmas=karras"},
    {"dpmpp_2m_sde", "dpmsolver:algorithm=sde-dpmsolver++"},
    {"dpmpp_2m_sde_karras", "dpmsolver:algorithm=sde-dpmsolver++,sigmas=karras"},
    {"dpmpp_3m", "dpmsolver:order=3"},
    {"dpmpp_2s", "dpmsolver_singlestep"},
    {"dpmpp_2s_karras", "dpmsolver_singlestep:sigmas=karras"},
    {"dpmpp_sde_karras", "dpmpp_sde:sigmas=karras"},
    {"dpm2_karras", "dpm2:sigmas=karras"},
    {"dpm2_ancestral_karras", "dpm2_ancestral:sigmas=karras"},
    {"euler_karras", "euler:sigmas=karras"},
    {"heun_karras", "heun:sigmas=karras"},
    {"lms_karras", "lms:sigmas=karras"},
    {"plms", "pndm:skip_prk_steps=true"},
};

OptionList list_of(AnyOptions& options) {
    OptionList list;
    std::visit([&list](auto& each) { each.list(list); }, options);
    return list;
}

struct Parted {
    std::string_view name, options;
};

Parted parted(std::string_view text) {
    std::size_t colon = std::min(text.find(':'), text.size());
    return {text.substr(0, colon), text.substr(std::min(colon + 1, text.size()))};
}

Status refuse_unknown(Scope& scope, std::string_view name) {
    scope.failure.set(codes::request_sampler, {"sampler ", quoted(name), " is not known; expected one of "});
    for (const Solver& each : table) scope.failure.add({&each == table ? "" : ", ", each.name});
    for (const Preset& each : preset_table) scope.failure.add({", ", each.name});
    return Status(codes::request_sampler);
}

}  // namespace

View<Solver> solvers() { return {table, std::size(table)}; }
View<Preset> presets() { return {preset_table, std::size(preset_table)}; }

void SamplerText::put(std::string_view part) {
    std::size_t count = std::min(part.size(), sizeof text - size);
    if (count > 0) std::memcpy(text + size, part.data(), count);
    size += count;
}

SamplerText Sampler::canonical() const {
    AnyOptions values = options, defaults = solver->defaults;
    OptionList list = list_of(values), unchanged = list_of(defaults);
    std::sort(list.begin(), list.end(), [](const Option& one, const Option& other) { return one.name < other.name; });
    SamplerText out;
    out.put(name());
    char mark = ':';
    for (Option& each : list) {
        numbers::Spelt value = each.spelt();
        if (value.view() == unchanged.find(each.name)->spelt().view()) continue;
        out.put({&mark, 1});
        out.put(each.name);
        out.put("=");
        out.put(value.view());
        mark = ',';
    }
    return out;
}

std::optional<Hook> Sampler::hook() const {
    return std::visit(
        [](const auto& its) -> std::optional<Hook> {
            using Its = std::decay_t<decltype(its)>;
            if constexpr (std::is_base_of_v<ThresholdOptions, Its>) {
                if (its.threshold > 0.0) return Hook{Hook::Kind::threshold, its.threshold_max, its.threshold};
            }
            if constexpr (std::is_base_of_v<ClipOptions, Its>) {
                if (its.clip > 0.0) return Hook{Hook::Kind::clip, its.clip, 0.0};
            }
            return std::nullopt;
        },
        options);
}

Status Sampler::reach(Scope& scope, double strength, bool& reached) {
    auto* its = std::get_if<LcmOptions>(&options);
    reached = its != nullptr && its->reach != 0.0;
    if (!reached) return Status();
    if (its->original_steps * strength < 1.0) {
        return scope.fail(codes::request_invalid, {"strength ", strength, " of ", its->original_steps,
                          " original steps leaves none; use at least ", 1.0 / its->original_steps});
    }
    its->reach = strength;
    return Status();
}

Status read_sampler(Scope& scope, std::string_view text, Sampler& out) {
    Parted given = parted(text), meant = {given.name, {}};
    auto is_named = [&](const auto& line) { return line.name == meant.name; };
    const Preset* preset = std::find_if(std::begin(preset_table), std::end(preset_table), is_named);
    if (preset != std::end(preset_table)) meant = parted(preset->sampler);
    const Solver* solver = std::find_if(std::begin(table), std::end(table), is_named);
    if (solver == std::end(table)) return refuse_unknown(scope, given.name);
    out.solver = solver;
    out.options = solver->defaults;
    OptionList list = list_of(out.options);
    LDM_TRY(read_options(scope, given.name, meant.options, list));
    return read_options(scope, given.name, given.options, list);
}

}  // namespace ldm::sampling
