"""A section of the analysis: one claim of the theory, and what it needs to be measured."""

import importlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ldm_export.analyze.findings import Findings

if TYPE_CHECKING:
    from ldm_export.analyze.study import Study


@dataclass(frozen=True)
class Needs:
    """What a section cannot do without.

    pictures: the fewest that its estimators take. captions: of the pictures. mask: pictures with transparency, which
    tells their object from the ground.
    """

    pictures: int = 0
    captions: bool = False
    mask: bool = False


@dataclass(frozen=True)
class Section:
    """One section. Its module `ldm_export.analyze.sections.NAME` has `measure`, and is imported when it runs.

    claim: what theory says, as a question that the figures answer.
    """

    name: str
    title: str
    claim: str
    needs: Needs = Needs()

    @property
    def measure(self) -> "Callable[[Study], Findings]":
        """Return the function that measures it. It may raise LdmError: the other sections go on."""
        module = importlib.import_module(f"ldm_export.analyze.sections.{self.name}")
        function: Callable[[Study], Findings] = module.measure
        return function
