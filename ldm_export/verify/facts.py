"""A package's facts, compared without running a graph: its contract and its tokens."""

import json
from collections.abc import Iterator
from dataclasses import asdict

import numpy as np

from ldm_export.verify.proven_contract import ProvenContract, changes, proven_contract
from ldm_export.verify.reference_file import Reference, compared_sizes
from ldm_export.verify.report import FactResult
from ldm_runtime.package.open import Package
from ldm_runtime.text.tokenizer import Tokenizer


def compare_facts(package: Package, reference: Reference, proven: ProvenContract | None) -> Iterator[FactResult]:
    """Compare everything that needs no engine, and name each fact once.

    proven: the contract of the build's report; None while the package is being built.
    """
    facts = [*_computed_with(package, reference), *_proven_sizes(package, reference)]
    yield from facts
    if proven is not None:
        named = {fact.name for fact in facts if not fact.passed}
        yield from (fact for fact in _contract(package, proven) if fact.name not in named)
    yield from _tokens(package, reference)


def _computed_with(package: Package, reference: Reference) -> Iterator[FactResult]:
    """Compare the manifest's contract with what torch computed with."""
    contract, facts = package.manifest.contract, reference.facts
    pairs = [(group, getattr(facts, group), getattr(contract, group)) for group in ("latent", "schedule", "defaults")]
    pairs += [
        (f"text[{index}].tokenizer", facts.tokenizers[text.component], text.tokenizer)
        for index, text in enumerate(contract.text)
    ]
    for group, expected, stated in pairs:
        values = asdict(stated)
        for name, value in asdict(expected).items():
            passed = bool(values[name] == value)
            yield FactResult(f"contract.{group}.{name}", json.dumps(value), json.dumps(values[name]), passed)


def _proven_sizes(package: Package, reference: Reference) -> Iterator[FactResult]:
    """Compare the sizes that the manifest calls proven with those of the reference's cases."""
    contract, passed = package.manifest.contract, package.manifest.proof.passed
    sizes = compared_sizes(reference, contract) if passed else {}
    for name, axis in contract.axes.items():
        expected = sorted(sizes.get(name, ()))
        recorded = list(axis.proven)
        yield FactResult(
            f"contract.axes.{name}.proven", json.dumps(expected), json.dumps(recorded), recorded == expected
        )


def _contract(package: Package, proven: ProvenContract) -> Iterator[FactResult]:
    """Compare the whole contract with the one that was proven: every value that differs, then the digest."""
    current = proven_contract(package.manifest.contract)
    for name, before, now in changes(proven, package.manifest.contract):
        yield FactResult(name, before, now, False)
    yield FactResult("contract's SHA-256", proven.sha256, current.sha256, current.sha256 == proven.sha256)


def _tokens(package: Package, reference: Reference) -> Iterator[FactResult]:
    """Compare each tokenizer's ids of prompts on which tokenizers go wrong."""
    for text in package.manifest.contract.text:
        encoded = Tokenizer(package, text.tokenizer).encode(reference.prompts).ids
        for prompt, ids, expected in zip(reference.prompts, encoded, reference.tokens[text.component], strict=True):
            shown = prompt if len(prompt) <= 40 else prompt[:39] + "…"
            passed = bool(np.array_equal(ids, expected))
            yield FactResult(f"tokens of {shown!r}", _ids(expected), _ids(ids), passed)


def _ids(row: np.ndarray) -> str:
    """Write token ids without the padding, which repeats the last one."""
    ends = np.flatnonzero(row[:-1] != row[1:])
    kept = row[: ends[-1] + 2] if ends.size else row[:1]
    return f"{json.dumps(kept.tolist())} of {len(row)}"
