"""How many runs fit into what a section may compute: counted and not timed, so that any machine measures the same.

All work is in multiply-accumulates (MAC). Sections that evaluate a model share a budget; those that differentiate the
autoencoder have numbers of samples that are meant for a decoder of usual work, and take fewer of one of more.
"""

from dataclasses import dataclass, field

from ldm_export.analyze.component_inputs import component_costs
from ldm_export.analyze.derivative_cost import Work
from ldm_export.analyze.findings import Findings
from ldm_export.analyze.study import Study

FULL, QUICK = 30e12, 4e12  # of a section: some 15 minutes on two cores of a laptop, and 2
USUAL = 3.5e9  # of a decoded image: about what the built-in decoder takes for 128x128


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

    def lacking(self, what: str, work: float, share: float) -> str:
        """Return what is said where the fewest runs of a kind do not fit a share of the budget; empty where they do."""
        if work <= share * self.most:
            return ""
        return (
            f"{what}, the fewest that it takes, would be {shown_work(work)}, and {shown_work(share * self.most)} are "
            "what it may take here"
        )

    def add_cuts(self, findings: Findings) -> None:
        """Say what was cut, if anything was."""
        if self.cuts:
            findings.sentences.append(
                f"An evaluation of this model is large ({self.denoiser / 1e9:,.0f} GMAC, a decoded image "
                f"{self.decoder / 1e9:,.0f} GMAC). To stay near {self.most / 1e12:g} TMAC, or at the least that the "
                f"estimators take, this section took fewer runs: {'; '.join(self.cuts)}."
            )


def shown_work(macs: float) -> str:
    """Write multiply-accumulates, such as "130 TMAC"."""
    return f"{macs / 1e12:.3g} TMAC" if macs < 1e14 else f"{macs / 1e12:,.0f} TMAC"


def budget_of(study: Study) -> WorkBudget:
    """Count the work of the model's components for an image of its size."""
    costs, contract = component_costs(study.subject), study.subject.contract
    denoiser, decoder = (costs[role.component].total for role in (contract.denoiser, contract.codec.decoder))
    return WorkBudget(float(denoiser), float(decoder), QUICK if study.quick else FULL)


def times_usual(work: Work) -> float:
    """Return by how much the work of a decoder is more than what numbers of samples are meant for; 1 at least."""
    return max(1.0, work.macs / USUAL)


def affordable(work: Work, full: int, least: int) -> int:
    """Return a number of samples: `full` of usual work, fewer of more, so that the work is the same in all."""
    return min(full, max(least, int(full / times_usual(work))))


def said_of_work(work: Work, instead: str) -> list[str]:
    """Return a sentence on a decoder that takes more work than the numbers of samples are meant for, if it does."""
    times = times_usual(work)
    if times < 1.05:  # it would be said to be once the work
        return []
    return [
        f"An evaluation of the decoder takes {times:.2g} times the work that the numbers of samples here are meant "
        f"for: {instead}."
    ]
