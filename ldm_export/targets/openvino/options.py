"""Options of the target OpenVINO, as a build recipe sets them."""

from dataclasses import dataclass


@dataclass(frozen=True)
class OpenVinoOptions:
    """The options of the target OpenVINO.

    genai: also write the folder that OpenVINO GenAI opens.
    """

    genai: bool = False
