"""The contract that a proof is about, in a form that is compared later: a change made by hand afterwards shows.

The sizes that the proof itself adds to the axes (`proven`) are left out; they are compared with the reference's cases.
Nothing is signed: whoever changes the contract and the report alike makes another package, with another identity.
"""

import dataclasses
import hashlib
import json
from collections.abc import Iterator
from typing import Any

from ldm_runtime.files import strict_json
from ldm_runtime.package.manifest import Contract


@dataclasses.dataclass(frozen=True)
class ProvenContract:
    """A contract and its digest. sha256: of `facts` as JSON with sorted keys, without spaces, in ASCII."""

    sha256: str
    facts: dict[str, Any]


def proven_contract(contract: Contract) -> ProvenContract:
    """Make the record of this contract that a proof holds."""
    facts = strict_json.plain(contract)
    for axis in facts["axes"].values():
        del axis["proven"]
    return ProvenContract(digest(facts), facts)


def digest(facts: dict[str, Any]) -> str:
    """Compute the SHA-256 of the canonical JSON, in hexadecimal."""
    text = json.dumps(facts, sort_keys=True, separators=(",", ":"), ensure_ascii=True, allow_nan=False)
    return hashlib.sha256(text.encode("ascii")).hexdigest()


def changes(proven: ProvenContract, contract: Contract) -> Iterator[tuple[str, str, str]]:
    """List (name, JSON when it was proven, JSON now) of every value that differs; "absent" where there is none."""
    yield from _changes("contract", proven.facts, proven_contract(contract).facts)


def _changes(name: str, before: Any, now: Any) -> Iterator[tuple[str, str, str]]:
    if isinstance(before, dict) and isinstance(now, dict):
        for key in {**before, **now}:
            yield from _changes(f"{name}.{key}", before.get(key, _ABSENT), now.get(key, _ABSENT))
    elif isinstance(before, list) and isinstance(now, list) and len(before) == len(now):
        for index, pair in enumerate(zip(before, now, strict=True)):
            yield from _changes(f"{name}[{index}]", *pair)
    elif before != now or type(before) is not type(now):
        yield name, _json(before), _json(now)


_ABSENT = object()


def _json(value: Any) -> str:
    return "absent" if value is _ABSENT else json.dumps(value)
