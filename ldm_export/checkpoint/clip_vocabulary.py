"""CLIP's vocabulary, which single-file checkpoints lack: carried as its 48,894 merges, from which all else follows.

Every Stable Diffusion reads the same tokens; only the token that pads a prompt differs.
"""

import gzip
import json
from dataclasses import dataclass
from importlib import resources
from pathlib import Path

from ldm_export.checkpoint.tokenizer import BOS, CONFIG, EOS, MERGES, VOCABULARY
from ldm_runtime.text.byte_pairs import END_OF_WORD, byte_alphabet

VOCABULARY_SIZE = 49408


@dataclass(frozen=True)
class ClipVocabulary:
    """The files of a tokenizer with CLIP's vocabulary, in which `pad` fills a prompt up."""

    pad: str

    def write(self, folder: Path) -> None:
        """Write the files into a folder that is there."""
        merges = gzip.decompress(resources.files("ldm_export.checkpoint").joinpath("clip/merges.txt.gz").read_bytes())
        pieces = vocabulary(merges.decode().splitlines())
        config = {"bos_token": BOS, "eos_token": EOS, "unk_token": EOS, "pad_token": self.pad, "model_max_length": 77}
        (folder / MERGES).write_bytes(b"#version: 0.2\n" + merges)
        (folder / VOCABULARY).write_text(json.dumps(pieces, ensure_ascii=False), encoding="utf-8")
        (folder / CONFIG).write_text(json.dumps(config), encoding="utf-8")


def vocabulary(merges: list[str]) -> dict[str, int]:
    """Return the ids of all tokens: bytes, bytes that end a word, merged pairs, begin and end."""
    letters = byte_alphabet()
    pieces = (
        letters + [letter + END_OF_WORD for letter in letters] + [pair.replace(" ", "") for pair in merges] + [BOS, EOS]
    )
    return {piece: index for index, piece in enumerate(pieces)}
