"""What of the lossy methods stays in a package: variants, with the artefacts, files and records that they need."""

from collections.abc import Collection, Sequence
from dataclasses import replace
from pathlib import Path

from ldm_export.package.write import with_files
from ldm_export.verify.variant_file import FOLDER, file_of
from ldm_runtime.package.artefacts import Component, Difference
from ldm_runtime.package.manifest import Manifest
from ldm_runtime.package.variants import Variant


def keep(folder: Path, before: Manifest, made: Manifest, variants: Sequence[Variant]) -> Manifest:
    """Note the variants and their records. Artefacts and files that only others needed are removed.

    before: the manifest before the methods; its artefacts all stay. made: with those of the methods.
    """
    components = {
        name: _needed(component, before.components[name], _used(made, name, variants))
        for name, component in made.components.items()
    }
    needed = {file for each in components.values() for artefact in each.artefacts for file in artefact.files}
    needed |= {file_of(variant.name) for variant in variants}
    dropped = made.files.keys() - before.files.keys() - needed
    _remove(folder, dropped, variants)
    files = {name: entry for name, entry in made.files.items() if name not in dropped}
    kept = with_files(folder, replace(made, components=components, files=files, variants=tuple(variants)))
    # The proof of what is exact stays: the same artefacts draw without a budget, from the same files.
    assert all(kept.pickable(name) == before.pickable(name) for name in components)
    assert before.files.items() <= kept.files.items()
    return kept


def with_differences(made: Manifest, measured: Sequence[Variant]) -> Manifest:
    """Note in lossy artefacts the difference that was measured of them, by themselves if they were.

    What reads deep features makes, in one evaluation, what the graph that keeps them makes: it has the same.
    """
    found: dict[tuple[str, str], Difference] = {}
    for variant in sorted(measured, key=lambda each: -len(each.methods)):
        for name in variant.ways:
            for artefact in _used(made, name, [variant]):
                found[name, artefact] = variant.error.components[name]
    components = {
        name: replace(
            component,
            artefacts=tuple(
                replace(each, difference=found[name, each.name])
                if each.needs_variant and (name, each.name) in found
                else each
                for each in component.artefacts
            ),
        )
        for name, component in made.components.items()
    }
    return replace(made, components=components)


def _used(manifest: Manifest, component: str, variants: Sequence[Variant]) -> set[str]:
    """Name the artefacts of a component that variants draw with."""
    denoiser = manifest.contract.denoiser.component
    return {name for variant in variants for name in variant.artefacts_of(component, denoiser)}


def _needed(made: Component, before: Component, used: Collection[str]) -> Component:
    """Leave the artefacts that were there before, and those that are used."""
    artefacts = tuple(each for each in made.artefacts if each in before.artefacts or each.name in used)
    return replace(made, artefacts=artefacts)


def _remove(folder: Path, files: Collection[str], variants: Sequence[Variant]) -> None:
    """Remove the files, and the records of all but the variants."""
    for file in files:
        (folder / file).unlink(missing_ok=True)
    records = {folder / file_of(variant.name) for variant in variants}
    for path in (folder / FOLDER).glob("*.safetensors"):
        if path not in records:
            path.unlink()
