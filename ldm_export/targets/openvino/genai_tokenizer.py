"""CLIP's tokenizer as a graph of OpenVINO Tokenizers, for OpenVINO GenAI; made from tokenizer.json alone.

https://github.com/openvinotoolkit/openvino_tokenizers. Its own converter needs transformers, and what it makes differs
from CLIP's tokenizer: special tokens, the lower case of some letters, U+180E, and prompts beyond the window, which
lose their end token. Checked against `tokenizers`; two things stay different: combining marks in an order
that NFC would change, and letters that Unicode got after its version 14.
"""

import functools
import re
import struct
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from ldm_export.errors import ExportError
from ldm_runtime.engines.openvino.library import import_openvino
from ldm_runtime.errors import EngineUnavailable, refused_as
from ldm_runtime.package.manifest import TokenizerFacts
from ldm_runtime.text.characters import lower
from ldm_runtime.text.clip_form import read_tokenizer

FILE = "openvino_tokenizer.xml"

# Punctuation in CLIP's regular expression. PCRE2 counts U+180E as white space, `tokenizers` does not.
_PUNCTUATION = r"[^\s\p{L}\p{N}]"
_MONGOLIAN = r"\x{180e}"


def write_openvino_tokenizer(tokenizer: Path, out: Path, facts: TokenizerFacts) -> None:
    """Write `openvino_tokenizer.xml` and `.bin` into the folder `out`, from the file tokenizer.json.

    Raises:
        EngineUnavailable: OpenVINO Tokenizers is not installed, or not as this code knows it.
        ExportError: the tokenizer is not built as CLIP's.
    """
    openvino = import_openvino()
    with refused_as(ExportError, "build the package again"):
        clip = read_tokenizer(tokenizer.read_bytes(), str(tokenizer))
    if clip.begin is None or clip.end is None:
        raise ExportError(f"{tokenizer} has no post_processor, which says what begins and ends a prompt")
    model = _graph(clip.to_dict(), facts)
    openvino.save_model(model, str(out / FILE), compress_to_fp16=False)


def import_tokenizers() -> Any:
    """Import `openvino_tokenizers`. Raises EngineUnavailable if it is not installed."""
    import_openvino()
    try:
        import openvino_tokenizers
        from openvino_tokenizers import _get_factory  # noqa: F401
    except ImportError as error:
        raise EngineUnavailable(
            f"OpenVINO Tokenizers cannot be imported ({error}); install it with `pip install 'ldm-export[openvino]'`"
        ) from error
    return openvino_tokenizers


def _graph(spec: dict[str, Any], facts: TokenizerFacts) -> Any:
    """Build the graph from prompts (B,) to input_ids, token_type_ids and attention_mask, int64 (B, window)."""
    library = import_tokenizers()
    from openvino import Type
    from openvino_tokenizers import tokenizer_pipeline as steps
    from openvino_tokenizers.utils import change_outputs_type

    added = {token["content"]: token for token in spec["added_tokens"]}
    bpe = steps.BPETokenizationStep.from_hf_json(spec)
    # The operator appends the end of a word to special tokens too.
    bpe.added_tokens = {text + end: token["id"] for end in (bpe.end_suffix, "") for text, token in added.items()}
    begin, end = (steps.AddToken(token=None, _token_id=spec["post_processor"][key][1]) for key in ("cls", "sep"))
    pipeline = steps.TokenizerPipeline()
    special = [steps.SpecialToken(text, token["lstrip"], token["rstrip"]) for text, token in added.items()]
    for step in (
        steps.SpecialTokensSplit(special),
        steps.NormalizeUnicode("NFC"),
        steps.RegexNormalizationStep(rf"(?:(?!{_MONGOLIAN})\s)+", " "),
        _characters_step(steps)(table=_lower_case_table()),
        _split_step(steps, spec, [text for text, token in added.items() if token["normalized"]]),
        steps.BytesToCharsStep(),
        bpe,
        _truncation_step(steps)(max_length=facts.max_length - 2, truncation=True),
        steps.CombineSegmentsStep([begin, steps.Sequence(), end]),
        steps.PaddingStep(
            token=None, _token_id=facts.pad_token_id, max_length=facts.max_length, pad_to_max_length=True
        ),
    ):
        pipeline.add_steps(step)
    pipeline.vocab = bpe.vocab
    model = change_outputs_type(pipeline.get_tokenizer_ov_subgraph(), Type.i64)
    model.set_rt_info(library.__version__, "openvino_tokenizers_version")
    for name in ("bos_token_id", "eos_token_id", "pad_token_id"):
        model.set_rt_info(getattr(facts, name), name)
    return model


def _split_step(steps: Any, spec: dict[str, Any], literals: list[str]) -> Any:
    """Split into words. `literals`: special tokens that are matched in the normalised text too, before any word."""
    split = spec["pre_tokenizer"]["pretokenizers"][0]
    pattern = split["pattern"]["Regex"]
    if _PUNCTUATION + "+" not in pattern:
        raise KeyError(_PUNCTUATION)
    escaped = "|".join(re.escape(text) for text in literals)
    unless = f"(?!{escaped})" if escaped else ""
    pattern = pattern.replace(_PUNCTUATION + "+", f"(?:{unless}(?:{_PUNCTUATION}|{_MONGOLIAN}))+")
    pattern = f"{escaped}|{pattern}" if escaped else pattern
    return steps.RegexSplitStep(pattern, invert=split["invert"], behaviour="remove")


def _truncation_step(steps: Any) -> type:
    """Truncate always: GenAI switches a truncation off whose length it finds as a constant."""
    from openvino import Type
    from openvino import opset12 as opset
    from openvino.utils.types import make_constant_node
    from openvino_tokenizers import _get_factory
    from openvino_tokenizers.utils import create_string_constant_node

    class FixedTruncation(steps.TruncationStep):  # type: ignore[misc, name-defined]
        def get_ov_subgraph(self, nodes: list[Any]) -> list[Any]:
            self.validate_inputs(nodes)
            length = make_constant_node(np.int32(self.max_length), Type.i32)
            # Never smaller than the length, but it depends on the input, so that nothing makes a constant of it.
            beyond = opset.add(length, opset.squeeze(opset.shape_of(nodes[0], Type.i32), opset.constant([0])))
            inputs = [*nodes, *opset.minimum(length, beyond).outputs()]
            inputs += create_string_constant_node("right") + create_string_constant_node("longest_first")
            return _get_factory().create("Truncate", inputs).outputs()

    return FixedTruncation


def _characters_step(steps: Any) -> type:
    """Replace characters by a table in sentencepiece's form. Not CharsmapStep: a pipeline merges two of those."""
    from openvino import Type
    from openvino.utils.types import make_constant_node
    from openvino_tokenizers import _get_factory

    options = ("add_dummy_prefix", "remove_extra_whitespaces", "escape_whitespaces", "case_fold", "nmt")

    @dataclass
    class Characters(steps.NormalizationStep):  # type: ignore[misc, name-defined]
        table: bytes = field(repr=False, default=b"")

        def get_ov_subgraph(self, nodes: list[Any]) -> list[Any]:
            table = make_constant_node(np.frombuffer(self.table, np.uint8), dtype=Type.u8)
            settings = {"normalization_form": "", **dict.fromkeys(options, False)}
            return _get_factory().create("CharsMapNormalization", [*nodes, *table.outputs()], settings).outputs()

    return Characters


@functools.cache
def _lower_case_table() -> bytes:
    """Map characters to lower case as the runtime does: by its own version of Unicode, not Python's."""
    characters = [chr(point) for point in range(1, 0x20000) if not 0xD800 <= point < 0xE000]
    return character_map({each: low for each in characters if (low := lower(each)) != each})


def character_map(replacements: dict[str, str]) -> bytes:
    """Write sentencepiece's precompiled map: bytes of the trie (uint32), the trie, replacements that end with NUL."""
    texts, offsets = b"\0", {}  # offset 0 would mean that there is none
    for source, target in replacements.items():
        offsets[source.encode()] = len(texts)
        texts += target.encode() + b"\0"
    trie = double_array(offsets)
    return struct.pack("<I", len(trie)) + trie + texts


def double_array(values: dict[bytes, int]) -> bytes:
    """Write a trie in the units of darts-clone (https://github.com/s-yata/darts-clone), little-endian uint32.

    A unit has its label in bits 0 to 7, bit 8 where a value follows, and the offset to its children in bits 10 to 30,
    of which bit 9 says that it is to be taken 256 times; a value's own unit has bit 31.
    """
    root: dict[int | None, Any] = {}
    for key, value in values.items():
        node = root
        for byte in key:
            node = node.setdefault(byte, {})
        node[None] = value
    units, bases, first_free = {0: 0}, set(), 1
    waiting = [(root, 0)]
    while waiting:
        node, position = waiting.pop()
        labels = [0 if label is None else label for label in node]
        base = first_free + 1
        # No two nodes may share a base, or each would find the other's children.
        while base in bases or not _reaches(position ^ base) or any(base ^ label in units for label in labels):
            base += 1
        bases.add(base)
        offset = position ^ base
        units[position] |= (offset << 10 if offset < 1 << 21 else offset << 2 | 1 << 9) | (None in node) << 8
        for label, child in node.items():
            units[base ^ (0 if label is None else label)] = child | 1 << 31 if label is None else label
        while first_free in units:
            first_free += 1
        waiting += [(child, base ^ label) for label, child in node.items() if label is not None]
    array = np.zeros((max(units) // 256 + 1) * 256, "<u4")
    array[list(units)] = list(units.values())
    return array.tobytes()


def _reaches(offset: int) -> bool:
    return offset < 1 << 21 or (offset & 0xFF == 0 and offset < 1 << 29)
