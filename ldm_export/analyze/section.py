"""A section of the analysis: one claim of the theory, and what it needs to be measured."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ldm_export.analyze.findings import Findings

if TYPE_CHECKING:
    from ldm_export.analyze.study import Study


@dataclass(frozen=True)
class Needs:
    """What a section cannot do without.

    pictures: the fewest that its estimators take. captions: of the pictures.
    """

    pictures: int = 0
    captions: bool = False


@dataclass(frozen=True)
class Section:
    """One section.

    claim: what theory says, as a question that the figures answer. measure: may raise LdmError; the others then go on.
    """

    name: str
    title: str
    claim: str
    measure: "Callable[[Study], Findings]"
    needs: Needs = Needs()
