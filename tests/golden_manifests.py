"""Manifests of every family, and packages' files with a few bytes changed: a part of `make_golden.py`.

A change is a splice: `removed` bytes at `offset` give way to others. Any language can make one, and no two JSON writers
have to agree.
"""

import copy
import dataclasses
import json
import random
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from ldm_runtime.errors import FormatError
from ldm_runtime.files import strict_json
from ldm_runtime.package import manifest, manifest_json, safetensors
from ldm_runtime.package.artefacts import Artefact, Component, KeyEntry
from ldm_runtime.package.external_data import read_graph
from ldm_runtime.package.token_table import known_tokens
from tests.runtime.package.edits import HASH, edited
from tests.runtime.package.test_artefacts import OPENVINO, PLAN, WRONG_PLANS, with_artefact
from tests.runtime.package.test_manifest import ESCAPES, WRONG
from tests.runtime.package.test_variants import WRONG as WRONG_VARIANTS
from tests.runtime.package.test_variants import with_variants
from tests.runtime.tiny_package import CONTRACT

MANIFEST = "package/manifest.json"
VARIANTS = "manifests/variants.json"
BYTES = b'0123456789-+.eE"{}[]:, \\/ntfa\x00\x7f\xff'  # what a byte becomes, but for any other one
# File -> how many changes of it: the manifest, a header with its data, a graph with its table of tokens.
MUTATED = {MANIFEST: 2000, "package/unet/model.safetensors": 400, "package/text_encoder/model.onnx": 1000}
# Manifest -> how many changes of one value of it.
REPLACED = {"manifests/sdxl_inpaint.json": 1200, "manifests/lcm.json": 600, "manifests/tiny_autoencoder.json": 600}
REPLACED[VARIANTS] = 800
VALUES: list[Any] = [
    None,
    True,
    -1,
    0,
    1,
    2,
    3,
    4,
    8,
    9,
    77,
    2**20,
    2**20 + 1,
    1e9,
    0.5,
    "",
    "x",
    "batch",
    "float32",
    [],
    {},
]


def family_manifests() -> dict[str, manifest.Manifest]:
    """Return contracts of tiny checkpoints of the families, with stand-ins for their files, and one with variants."""
    from ldm_export.checkpoint.open import open_checkpoint
    from ldm_export.package.write import contract_of
    from ldm_export.recipes.build import BuildRecipe
    from tests.families.test_latent_consistency import SCHEDULER
    from tests.oracles import build_tiny_sd, with_tiny_autoencoder

    made = {}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for kind in ("sd21", "sdxl", "inpaint", "sdxl_inpaint"):
            build_tiny_sd(folder / kind, kind)
        build_tiny_sd(folder / "lcm", unet={"time_cond_proj_dim": 32}, scheduler=SCHEDULER)
        with_tiny_autoencoder(build_tiny_sd(folder / "tiny_autoencoder"))
        for source in sorted(folder.iterdir()):
            checkpoint = open_checkpoint(source)
            contract = contract_of(checkpoint, BuildRecipe())
            made[source.name] = described(source.name, checkpoint.family.name, contract)
    plain = manifest_json.dump(described("variants", "stable-diffusion", CONTRACT))
    made["variants"] = manifest_json.parse(with_variants(plain), "variants")
    return made


def described(name: str, family: str, contract: manifest.Contract) -> manifest.Manifest:
    components = {each: stand_in(each) for each in contract.components}
    files = [file for component in components.values() for file in component.canonical.files]
    files += [text.tokenizer.file for text in contract.text]
    return manifest.Manifest(
        schema_version=manifest.SCHEMA_VERSION,
        name=name,
        contract=contract,
        components=components,
        files={file: manifest.FileEntry(HASH, 1) for file in sorted(set(files))},
        provenance=manifest.Provenance(family, manifest.Source(name, {}), {}, 18, 10, {}, "make_golden"),
        dropped=(),
        proof=manifest.Proof(True, "verify/report.json", {}),
    )


def stand_in(name: str) -> Component:
    """A component with its canonical graph and one parameter."""
    files = (f"{name}/model.onnx", f"{name}/model.safetensors")
    artefact = Artefact("canonical", "onnx", files, "any", "fp32", "exact", None)
    keys = {"a.weight": KeyEntry("a.weight.T", (1, 0), "F16")}
    return Component(files[1], (artefact,), keys)


# --- changes of one value ---


def manifest_cases(golden: Path) -> list[dict[str, Any]]:
    """Every change of the Python runtime's own tests, as a splice of a manifest."""
    varied = (golden / VARIANTS).read_text("utf-8")
    changes = {why: edited(varied, path, value) for why, (path, value, _) in WRONG_VARIANTS.items()}
    return splices(golden, MANIFEST, plain_changes(golden)) + splices(golden, VARIANTS, changes)


def plain_changes(golden: Path) -> dict[str, str]:
    """Return the changed texts of a manifest without variants, each with what is changed."""
    good = (golden / MANIFEST).read_text("ascii")
    changed = {why: edited(good, path, value) for why, (path, value, _) in WRONG.items()}
    changed |= {
        f"plan: {why}": edited(with_artefact(good, PLAN), path, value) for why, (path, value, _) in WRONG_PLANS.items()
    }
    for escape in (*ESCAPES, "Lizenz für alle.md", ".hidden", "a" * 255, "ä" * 255, "ä" * 256):
        changed[f"file {escape[:20]!r}"] = edited(good, ("files", escape), {"sha256": HASH, "size": 1})
    for name in ("emoji 👩\u200d🚀", "נקודה", "נ" * 1024, "n" * 1025, "a\tb", "a\u061cb", "\U000e0041"):
        changed[f"name {name[:20]!r}"] = edited(good, ("name",), name)
    changed["a plan"], changed["for openvino"] = with_artefact(good, PLAN), with_artefact(good, OPENVINO)
    changed["zeros"] = edited(good, ("contract", "defaults", "zero_negative"), True)
    changed["a latent grid"] = edited(good, ("contract", "latent", "scale"), 10**400)
    return changed


def splices(golden: Path, file: str, changed: dict[str, str]) -> list[dict[str, Any]]:
    """Return changed texts as splices of a file, with the code of the refusal."""
    good = (golden / file).read_bytes()
    cases = []
    for why, text in changed.items():
        content = (json.dumps(json.loads(text), indent=1, ensure_ascii=False) + "\n").encode()
        offset, removed, inserted = splice(good, content)
        case = {"why": why, "file": file, "offset": offset, "removed": removed, "text": inserted.decode()}
        cases.append({**case, "code": manifest_code(content)})
    return cases


def splice(old: bytes, new: bytes) -> tuple[int, int, bytes]:
    """Return (offset, removed, inserted) of the smallest splice that makes `new` of `old`."""
    most = min(len(old), len(new))
    start = next((place for place in range(most) if old[place] != new[place]), most)
    end = next((back for back in range(most - start) if old[-1 - back] != new[-1 - back]), most - start)
    return start, len(old) - start - end, new[start : len(new) - end]


# --- changes of single bytes ---


def mutation_cases(golden: Path) -> dict[str, list[str]]:
    """File -> changes of it, each a text "offset removed inserted-hex result"."""
    results: dict[str, Callable[[bytes], str | None]] = {
        "manifest.json": manifest_code,
        "model.safetensors": header_code,
        "model.onnx": graph_result,
    }
    cases = {}
    for file, count in MUTATED.items():
        content, result = (golden / file).read_bytes(), results[file.rpartition("/")[2]]
        made = list(mutations(content, count, random.Random(file)))
        cases[file] = [
            f"{offset} {removed} {inserted.hex() or '-'} "
            f"{result(content[:offset] + inserted + content[offset + removed :]) or 'ok'}"
            for offset, removed, inserted in made
        ]
    for file, count in REPLACED.items():
        cases[file] = list(replacements((golden / file).read_text("utf-8"), count, random.Random(file)))
    return cases


def replacements(good: str, count: int, draw: random.Random) -> Iterator[str]:
    """Yield changes of one value of a manifest: another one of its own, any other, or none."""
    paths = list(places(json.loads(good), ()))
    while count > 0:
        path, whole = draw.choice(paths), json.loads(good)
        kind, old = draw.random(), value_at(whole, path)
        value: Any = copy.deepcopy(value_at(whole, draw.choice(paths))) if kind < 0.5 else draw.choice(VALUES)
        if type(value) is not type(old) and kind % 0.1 > 0.01:  # few of those, which a look at types refuses
            continue
        place = value_at(whole, path[:-1])
        if kind > 0.98:
            del place[path[-1]]
        else:
            place[path[-1]] = value
        content = (json.dumps(whole, indent=1, ensure_ascii=False) + "\n").encode()
        offset, removed, inserted = splice(good.encode(), content)
        if len(inserted) < 400:
            count -= 1
            yield f"{offset} {removed} {inserted.hex() or '-'} {manifest_code(content) or 'ok'}"


def places(value: Any, path: tuple[Any, ...]) -> Iterator[tuple[Any, ...]]:
    """Yield the path of every value within a value."""
    for key, item in value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ():
        yield (*path, key)
        yield from places(item, (*path, key))


def value_at(whole: Any, path: tuple[Any, ...]) -> Any:
    for key in path:
        whole = whole[key]
    return whole


def mutations(content: bytes, count: int, draw: random.Random) -> Iterator[tuple[int, int, bytes]]:
    """Yield (offset, removed, inserted): a byte becomes another, is left out or doubled, or all behind it is."""
    for _ in range(count):
        offset, kind = draw.randrange(len(content)), draw.random()
        if kind < 0.6:
            yield offset, 1, bytes([draw.choice(BYTES) if draw.random() < 0.7 else draw.randrange(256)])
        elif kind < 0.8:
            yield offset, 1, b""
        elif kind < 0.95:
            yield offset, 0, content[offset : offset + 1]
        else:
            yield offset, len(content) - offset, b""


def manifest_code(content: bytes) -> str | None:
    try:
        manifest_json.parse(strict_json.decode(content, MANIFEST), MANIFEST)
    except FormatError as error:
        return error.code
    return None


def header_code(content: bytes) -> str | None:
    try:
        with_file(content, safetensors.read_header)
    except FormatError as error:
        return error.code
    return None


def graph_result(content: bytes) -> str:
    """The code of a refusal, or how many tokens the graph knows."""
    try:
        with_file(content, lambda file: read_graph(file, ["model.safetensors"]))
        return str(known_tokens(content, "input_ids", "model.onnx"))
    except FormatError as error:
        return error.code


def with_file(content: bytes, use: Callable[[Path], Any]) -> Any:
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "file"
        file.write_bytes(content)
        return use(file)


def write_families(folder: Path) -> None:
    folder.mkdir(exist_ok=True)
    for name, made in family_manifests().items():
        text = manifest_json.dump(made)
        assert manifest_json.parse(text, name) == made
        (folder / f"{name}.json").write_text(text, encoding="utf-8")


def facts(contract: manifest.Contract) -> dict[str, Any]:
    """What a runtime asks a contract."""
    return {
        "window": contract.window,
        "inpaints": contract.inpaints,
        "pooled_width": contract.pooled_width,
        "reads_sizes": contract.reads_sizes,
        "encodes_moments": contract.encodes_moments,
        "embeds_guidance": contract.embeds_guidance,
        "evaluates_negative": [contract.evaluates_negative(guidance) for guidance in (0.0, 1.0, 1.5)],
        "sample": [list(contract.range_of(dim)) for dim in contract.sample.dims],
        "context": [list(contract.range_of(dim)) for dim in contract.context.dims],
        "text": [text.component for text in contract.text],
        "image": list(dataclasses.astuple(contract.image)),
        "zero_negative": contract.defaults.zero_negative,
    }


def family_facts(folder: Path) -> dict[str, Any]:
    return {
        file.stem: facts(manifest_json.parse(file.read_text("utf-8"), file.name).contract)
        for file in sorted(folder.glob("*.json"))
    }
