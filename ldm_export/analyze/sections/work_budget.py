"""How many runs fit into what a section may compute: counted and not timed, so that any machine measures the same."""

from dataclasses import dataclass, field

from ldm_export.analyze.component_inputs import component_costs
from ldm_export.analyze.findings import Findings
from ldm_export.analyze.study import Study

FULL, QUICK = 30e12, 4e12  # multiply-accumulates: some 15 minutes on two cores of a laptop, and 2


@dataclass
class WorkBudget:
    """Multiply-accumulates: of one evaluation of the denoiser and of the decoder for one image, and most in all.

    cuts: what was cut, in words.
    """

    denoiser: float
    decoder: float
    most: float
    cuts: list[str] = field(default_factory=list)

    def runs(self, what: str, wanted: int, each: float, share: float, least: int) -> int:
        """Return how many runs of `each` fit a share of the budget: `wanted` if it has room, and at least `least`."""
        count = max(min(wanted, int(share * self.most / each)), min(wanted, least))
        if count < wanted:
            self.cuts.append(f"{what}: {count} of {wanted}")
        return count

    def add_cuts(self, findings: Findings) -> None:
        """Say what was cut, if anything was."""
        if self.cuts:
            findings.sentences.append(
                f"An evaluation of this model is large ({self.denoiser / 1e9:,.0f} GMAC, a decoded image "
                f"{self.decoder / 1e9:,.0f} GMAC). To stay near {self.most / 1e12:g} TMAC, or at the least that the "
                f"estimators take, this section took fewer runs: {'; '.join(self.cuts)}."
            )


def budget_of(study: Study) -> WorkBudget:
    """Count the work of the model's components for an image of its size."""
    costs, contract = component_costs(study.subject), study.subject.contract
    denoiser, decoder = (costs[role.component].total for role in (contract.denoiser, contract.codec.decoder))
    return WorkBudget(float(denoiser), float(decoder), QUICK if study.quick else FULL)
