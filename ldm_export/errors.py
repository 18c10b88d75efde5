"""The errors of making packages, which the runtime never raises. Codes as in `ldm_runtime.errors`."""

from ldm_runtime.errors import LdmError

CODES: dict[str, str] = {
    "config.invalid": "a configuration or recipe asks for something that is not supported",
    "checkpoint.invalid": "a checkpoint is missing or incomplete, or does not fit its configuration",
    "hub.name": "a text that begins with hf: is not a name of Hugging Face's hub",
    "hub.library": "a name of the hub is given, and huggingface_hub is not installed",
    "hub.setting": "huggingface_hub does not take a setting of the environment",
    "hub.not-found": "the hub has no such repository, revision or file, or does not show it without a token",
    "hub.access": "a repository is gated, or the token may not read it",
    "hub.connection": "the hub cannot be reached, or does not answer",
    "hub.offline": "the cache does not have what is needed, and HF_HUB_OFFLINE is set",
    "hub.listing": "what the hub lists of a repository is not usable, or would lead out of its folder",
    "hub.files": "a repository does not have the files of a pipeline or of a part",
    "hub.content": "a file is not of the size or the SHA-256 that the hub lists",
    "hub.space": "the cache has not enough space for what is needed",
    "hub.failed": "something could not be fetched from the hub, by none of the reasons above",
    "export.failed": "a component cannot be exported, or not on this machine",
    "proof.invalid": "a report or a reference is damaged, or contradicts the package",
    "verification.failed": "an artefact differs from its reference by more than the tolerance",
    "training.failed": "training data or a run folder is not usable, or training diverged",
    "analysis.failed": "pictures, a folder of an analysis or a model cannot be analysed, or a figure is not finite",
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


class AnalysisError(LdmError):
    """Pictures, a folder or a model cannot be analysed, or a figure is NaN or infinite."""

    code = "analysis.failed"
