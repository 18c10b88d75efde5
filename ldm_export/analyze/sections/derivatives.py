"""What sections that need derivatives say of a model that has none."""

import functools
from collections.abc import Callable

from ldm_export.analyze.findings import Findings
from ldm_export.analyze.study import Study
from ldm_export.errors import AnalysisError, CheckpointError
from ldm_runtime.errors import one_line

UNKNOWN_TO_TORCH = ("derivative", "forward ad", "forward-mode", "does not require grad", "vmap", "batching rule")
INSTEAD = (
    "this section needs derivatives by torch; give the checkpoint that the model was made from, or leave the section "
    "out with --only"
)


def says_what_cannot_be_differentiated(measure: Callable[[Study], Findings]) -> Callable[[Study], Findings]:
    """Raise AnalysisError from a section's `measure` for a model that torch cannot load or differentiate."""

    @functools.wraps(measure)
    def measured(study: Study) -> Findings:
        try:
            return measure(study)
        except CheckpointError as error:
            raise AnalysisError(f"the autoencoder cannot be loaded into torch ({error}): {INSTEAD}") from error
        except RuntimeError as error:  # or its NotImplementedError
            if not any(each in str(error).lower() for each in UNKNOWN_TO_TORCH):
                raise
            raise AnalysisError(
                f"the autoencoder cannot be differentiated ({one_line(str(error))}): {INSTEAD}"
            ) from error

    return measured
