"""The errors of making packages, which the runtime never raises. Codes as in `ldm_runtime.errors`."""

from ldm_runtime.errors import LdmError

CODES: dict[str, str] = {
    "config.invalid": "a configuration or recipe asks for something that is not supported",
    "checkpoint.invalid": "a checkpoint is missing or incomplete, or does not fit its configuration",
    "export.failed": "a component cannot be exported, or not on this machine",
    "proof.invalid": "a report or a reference is damaged, or contradicts the package",
    "verification.failed": "an artefact differs from its reference by more than the tolerance",
    "training.failed": "training data or a run folder is not usable, or training diverged",
}


class ConfigError(LdmError):
    """A model's or scheduler's configuration asks for something that is not supported."""

    code = "config.invalid"


class CheckpointError(LdmError):
    """A checkpoint is missing, damaged, or does not fit its configuration."""

    code = "checkpoint.invalid"


class ExportError(LdmError):
    """A component cannot be exported, or not on this machine."""

    code = "export.failed"


class VerificationError(LdmError):
    """An artefact differs from its reference by more than the tolerance."""

    code = "verification.failed"


class TrainingError(LdmError):
    """A recipe, its data or its run folder is not usable, or training diverged."""

    code = "training.failed"
