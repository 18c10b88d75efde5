"""Rules of a manifest beyond its types: safe paths, sane sizes, parts that agree."""

from typing import TYPE_CHECKING

from ldm_runtime.checks import shown
from ldm_runtime.package.artefact_rules import check_component
from ldm_runtime.package.contract_rules import check_contract
from ldm_runtime.package.values import (
    MAX_BYTES,
    check_between,
    check_digest,
    check_listed,
    check_name,
    check_relative_path,
    check_same_names,
)
from ldm_runtime.package.variant_rules import check_variants

if TYPE_CHECKING:
    from ldm_runtime.package.manifest import Manifest


def check(manifest: "Manifest", where: str) -> None:
    """Raise FormatError for the first rule that `manifest` breaks; `where` is its JSON path."""
    check_name(manifest.name, f"{where}.name")
    for path in manifest.files:
        check_relative_path(path, f"{where}.files")
    for path, entry in manifest.files.items():
        check_digest(entry.sha256, f"{where}.files[{shown(path)}].sha256")
        check_between(entry.size, 0, MAX_BYTES, f"{where}.files[{shown(path)}].size")
    check_relative_path(manifest.proof.report, f"{where}.proof.report")
    check_contract(manifest.contract, f"{where}.contract")
    check_same_names(manifest.components, manifest.contract.components, f"{where}.components")
    for index, text in enumerate(manifest.contract.text):
        check_listed(text.tokenizer.file, manifest, f"{where}.contract.text[{index}].tokenizer.file")
    for name, component in manifest.components.items():
        check_component(name, component, manifest, f"{where}.components[{shown(name)}]")
    check_variants(manifest, where)
