"""Special and added tokens that a tokenizer's folder names outside tokenizer.json.

Each is one token wherever it stands in a prompt: transformers adds them to the tokenizer when it opens the folder, and
so does a package, to its tokenizer.json. SD 2 and the second tokenizer of SDXL pad with "!", so that "!" is a special
token, with the id 0 in a prompt too. Checked against `CLIPTokenizerFast` of transformers 4.57.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from ldm_export.errors import CheckpointError
from ldm_runtime.checks import shown
from ldm_runtime.text.added_tokens import AddedToken
from ldm_runtime.text.clip_tokenizer import ClipTokenizer

ROLES = ("bos_token", "eos_token", "unk_token", "sep_token", "pad_token", "cls_token", "mask_token")
OTHERS = "additional_special_tokens"
DECODER = "added_tokens_decoder"  # in tokenizer_config.json since transformers 4.34: all added tokens by their ids
MAX_ADDED = 2**16  # tokens
_WRAPPED = ("bos_token", "eos_token", "unk_token")  # looked for in the normalised text, unless the files say otherwise
_SWITCHES = ("single_word", "lstrip", "rstrip", "normalized", "special")


@dataclass(frozen=True)
class SpecialTokens:
    """The tokens that the files of a folder name: by role, and all that a tokenizer must know, in order."""

    roles: Mapping[str, str]
    others: tuple[str, ...]  # special tokens without a role
    named: tuple[AddedToken, ...]  # id -1: the tokenizer's own


def read_special_tokens(
    config: Mapping[str, Any], special_map: Mapping[str, Any], added: Mapping[str, Any], defaults: Mapping[str, str]
) -> SpecialTokens:
    """Read tokenizer_config.json, special_tokens_map.json and added_tokens.json, each {} where it is missing.

    As in transformers, special_tokens_map.json wins over a config from before `added_tokens_decoder`: SD 2's padding
    is "!" by the one and the end token by the other. `defaults` are the roles that the files may leave out.
    """
    is_modern = DECODER in config
    merged = {**special_map, **_given(config)} if is_modern else {**config, **_given(special_map)}
    values = {role: merged.get(role) or defaults.get(role) for role in ROLES}
    others = [token for source in (config, special_map) for token in _listed(source.get(OTHERS), OTHERS)]
    special = [_token(value, True, normalized=role in _WRAPPED) for role, value in values.items() if value is not None]
    special += [_token(value, True) for value in others]
    listed = _decoder(config[DECODER]) if is_modern else _by_id(added, {token.content for token in special})
    named: dict[str, AddedToken] = {}
    for token in (*listed, *special):
        named.setdefault(token.content, token)
    roles = {role: _text(value) for role, value in values.items() if value is not None}
    return SpecialTokens(roles, tuple(dict.fromkeys(map(_text, others))), tuple(named.values()))


def with_special_tokens(tokenizer: ClipTokenizer, tokens: SpecialTokens, where: str) -> ClipTokenizer:
    """Return a tokenizer that knows all special and added tokens of its folder; itself where it does already.

    Raises CheckpointError for a token that would get another id than its file says.
    """
    known = {token.content for token in tokenizer.added}
    added, size = list(tokenizer.added), tokenizer.size
    for token in tokens.named:
        if token.content in known:
            continue
        index = tokenizer.vocabulary.get(token.content, size)
        if token.id not in (-1, index):
            raise CheckpointError(
                f"{where} gives the token {shown(token.content)} the id {token.id}; expected {index}, "
                f"{'its id in the vocabulary' if index < size else 'the next free id'}: save the tokenizer again"
            )
        known.add(token.content)
        added.append(replace(token, id=index))
        size = max(size, index + 1)
    changed = len(added) > len(tokenizer.added)
    return replace(tokenizer, added=tuple(sorted(added, key=lambda token: token.id))) if changed else tokenizer


def _given(source: Mapping[str, Any]) -> dict[str, Any]:
    return {role: source[role] for role in ROLES if source.get(role) is not None}


def _listed(value: object, what: str) -> Sequence[object]:
    if not isinstance(value, list | None):
        raise CheckpointError(f"the tokenizer's {what} are {shown(value)}; expected a list")
    if value is not None and len(value) > MAX_ADDED:
        raise CheckpointError(f"the tokenizer's {what} are {len(value)}; expected at most {MAX_ADDED}")
    return value or []


def _text(token: object) -> str:
    """Return the text of a special token, written as a string or as an object with its `content`."""
    text = token.get("content") if isinstance(token, dict) else token
    if not isinstance(text, str) or not text:
        raise CheckpointError(f"the tokenizer has the special token {shown(token)}; expected a text")
    return text


def _token(value: object, special: bool, index: int = -1, normalized: bool | None = None) -> AddedToken:
    """Make a token of a text, or of an object with its switches.

    normalized: where no object says it; None: unless the token is special.
    """
    text = _text(value)
    switches = value if isinstance(value, dict) else {}
    for name in _SWITCHES:
        if not isinstance(switches.get(name, False), bool):
            raise CheckpointError(f"the tokenizer's token {shown(text)} has {name} = {shown(switches[name])}")
    on = {name: switches.get(name, False) for name in ("single_word", "lstrip", "rstrip")}
    normalized = switches.get("normalized", not special if normalized is None else normalized)
    return AddedToken(index, text, **on, normalized=normalized, special=switches.get("special", special))


def _decoder(value: object) -> Iterator[AddedToken]:
    """Yield the tokens of `added_tokens_decoder` by their ids."""
    if not isinstance(value, dict) or not all(key.isdecimal() and len(key) < 10 for key in value):
        raise CheckpointError(f"the tokenizer's {DECODER} is {shown(value)}; expected an object of ids and tokens")
    for key in sorted(value, key=int):
        yield _token(value[key], False, int(key))


def _by_id(added: Mapping[str, Any], special: set[str]) -> Iterator[AddedToken]:
    """Yield the tokens of added_tokens.json by their ids."""
    for text, index in added.items():
        if type(index) is not int or index < 0:
            raise CheckpointError(f"added_tokens.json gives {shown(text)} the id {shown(index)}; expected an integer")
    for text in sorted(added, key=lambda text: added[text]):
        yield _token(text, text in special, added[text])
