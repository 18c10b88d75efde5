"""Options of the target OpenVINO, as a build recipe sets them."""

from dataclasses import dataclass, field


@dataclass(frozen=True)
class OpenVinoOptions:
    """The options of the target OpenVINO; `flag`: what sets it on the command line.

    genai: also write the folder that OpenVINO GenAI opens.
    """

    genai: bool = field(default=False, metadata={"flag": "--genai"})
