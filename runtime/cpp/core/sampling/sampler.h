// A sampler is a solver with its options, named by a text: `solver` or `solver:option=value,option=value`. There are
// short names for some solvers with options.
//
// Adding a solver is one function, the struct of its options, its place in AnyOptions and one line in the table.
#ifndef LDM_CORE_SAMPLING_SAMPLER_H
#define LDM_CORE_SAMPLING_SAMPLER_H

#include <optional>
#include <string_view>
#include <variant>

#include "core/memory.h"
#include "core/sampling/schedule.h"
#include "core/sampling/solvers/deis.h"
#include "core/sampling/solvers/diffusion.h"
#include "core/sampling/solvers/dpmsolver.h"
#include "core/sampling/solvers/flow.h"
#include "core/sampling/solvers/kdiffusion.h"
#include "core/sampling/solvers/options.h"
#include "core/sampling/solvers/pndm.h"
#include "core/sampling/solvers/sa_solver.h"
#include "core/sampling/solvers/unipc.h"
#include "core/status.h"

namespace ldm::sampling {

using AnyOptions = std::variant<NoOptions, DdpmOptions, DdimOptions, PndmOptions, SigmaOptions, EulerOptions,
                                HeunOptions, DpmSolverOptions, SinglestepOptions, DeisOptions, UniPcOptions,
                                SaSolverOptions, LcmOptions, TcdOptions, FlowEulerOptions>;

// One line of the table of solvers.
struct Solver {
    std::string_view name;
    Status (*solve)(Scope& scope, const Problem& problem, const AnyOptions& options, Rows& rows);
    AnyOptions defaults;
    std::string_view summary;
    std::optional<Spacing> spacing;  // used when the schedule names none; nothing: the solver has its own
    unsigned predictions;            // the prediction types that it takes, a bit for each
    bool zero_snr = false;           // whether it takes zero terminal SNR
    bool correlated_noise = false;   // rows that share a stream of noise, which only `philox` can give

    bool takes(Prediction prediction) const { return (predictions >> static_cast<unsigned>(prediction) & 1) != 0; }
};

struct Preset {
    std::string_view name;
    std::string_view sampler;  // the solver with its options
};

View<Solver> solvers();
View<Preset> presets();

// A text of a sampler, for people and manifests.
struct SamplerText {
    char text[512];
    std::size_t size = 0;

    std::string_view view() const { return {text, size}; }
    void put(std::string_view part);
};

struct Sampler {
    const Solver* solver = nullptr;
    AnyOptions options;

    std::string_view name() const { return solver->name; }
    bool correlated_noise() const { return solver->correlated_noise; }

    // The text of the sampler: equal for equal samplers, options sorted by name, defaults left out.
    SamplerText canonical() const;

    // The hook of the loop that the options ask for: of two the thresholding, as in diffusers.
    std::optional<Hook> hook() const;

    // Take a strength (0 to 1) into the options, where a run of all its steps then changes an image by it. `reached`
    // false: a strength leaves out steps at the beginning instead. request.invalid where it leaves none.
    Status reach(Scope& scope, double strength, bool& reached);
};

// Read the text of a sampler; request.sampler names what is not known.
Status read_sampler(Scope& scope, std::string_view text, Sampler& out);

}  // namespace ldm::sampling

#endif
