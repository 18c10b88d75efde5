"""The record of a variant is a file of the package: one that is not, or is damaged, is one sentence."""

import dataclasses
import shutil
import struct
from collections.abc import Callable
from pathlib import Path
from typing import cast

import numpy as np
import pytest

from ldm_export.verify import variant_file, variants
from ldm_export.verify.gate import proving_engines
from ldm_export.verify.reference_file import Facts, Reference, Trajectory
from ldm_export.verify.report import VariantResult
from ldm_export.verify.variant_file import FOLDER, file_of
from ldm_export.verify.variant_run import draw_reference
from ldm_runtime.errors import PackageError
from ldm_runtime.package import manifest_json
from ldm_runtime.package.open import open_package
from ldm_runtime.pipeline import Pipeline
from tests.runtime import tiny_package
from tests.runtime.lossy_package import variant
from tests.runtime.tiny_package import entry_of

EARLY = variant("early", 30.0, 0.5, ways={}, guidance_until=0.5)
RECORD = file_of("early")


@pytest.fixture(autouse=True)
def private_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


def reference(image: np.ndarray) -> Reference:
    """A reference of no case, with the image of its sampling run. Facts are none: a record says nothing of them."""
    settings = ("red", "", 1, "dpmpp_2m", 4, 3.0, (64, 48), (999.0,) * 4, 40.0, 40.0)
    trajectory = Trajectory(*settings, latents=np.zeros((4, 4, 6, 8), np.float32), image=image)
    return Reference(cast(Facts, None), (), {}, (), trajectory)


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, np.ndarray]:
    """A package with a variant whose guidance ends early, and its record; and the image of the reference's run."""
    folder = tiny_package.make(tmp_path_factory.mktemp("packages") / "tiny")
    with Pipeline(open_package(folder, check="size"), proving_engines(), variant=EARLY) as pipe:
        image = draw_reference(pipe, EARLY, reference(np.zeros(0)).trajectory)
    variant_file.write(folder / RECORD, EARLY, (), image)
    listed(folder, True)
    return folder, image


@pytest.fixture
def package(sound: tuple[Path, np.ndarray], tmp_path: Path) -> Path:
    return Path(shutil.copytree(sound[0], tmp_path / "package"))


@pytest.fixture
def compared(sound: tuple[Path, np.ndarray]) -> Callable[[Path], VariantResult]:
    def compare(folder: Path) -> VariantResult:
        return variants.verify_variant(open_package(folder), proving_engines(), EARLY, reference(sound[1]))[0]

    return compare


def listed(folder: Path, is_listed: bool) -> None:
    """Write the manifest with the variant, and with its record among the files or not."""
    known = manifest_json.parse((folder / "manifest.json").read_text(encoding="utf-8"), "manifest.json")
    files = {name: entry for name, entry in known.files.items() if name != RECORD}
    files |= {RECORD: entry_of(folder / RECORD)} if is_listed else {}
    changed = manifest_json.dump(dataclasses.replace(known, files=files, variants=(EARLY,)))
    (folder / "manifest.json").write_text(changed, encoding="utf-8")


def test_a_record_of_the_package_is_compared_with(package: Path, compared: Callable[[Path], VariantResult]) -> None:
    result = compared(package)
    assert result.passed and result.facts[0].passed


def test_a_record_that_is_not_listed_is_none_though_a_link_leads_to_one(
    package: Path, tmp_path: Path, compared: Callable[[Path], VariantResult]
) -> None:
    """A folder that is a link is not looked into when the package is opened: no model file is loaded from it."""
    shutil.move(package / FOLDER, tmp_path / "elsewhere")
    (package / FOLDER).symlink_to(tmp_path / "elsewhere", target_is_directory=True)
    listed(package, False)
    with pytest.raises(PackageError, match=f"the manifest of .* does not list {RECORD}; build the package again"):
        compared(package)


def test_a_record_that_is_listed_and_a_link_leads_to_is_refused_when_the_package_is_opened(
    package: Path, tmp_path: Path, compared: Callable[[Path], VariantResult]
) -> None:
    shutil.move(package / FOLDER, tmp_path / "elsewhere")
    (package / FOLDER).symlink_to(tmp_path / "elsewhere", target_is_directory=True)
    with pytest.raises(PackageError, match=f"{RECORD} is a link to .*, outside the package"):
        compared(package)


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda content: content[:-4], "is truncated: its tensors end at byte"),
        (lambda content: b"", "has 0 bytes, too few for a safetensors file"),
        (lambda content: struct.pack("<Q", 2**40) + content[8:], "claims a header of 1099511627776 bytes"),
        (lambda content: struct.pack("<Q", 2) + b"{}", "has no 'variant' in its metadata"),
        (lambda content: content[:-4] + np.float32("nan").tobytes(), "'trajectory/image' is not float32 in the shape"),
        (lambda content: content.replace(b'{\\"name\\"', b'[\\"name\\"', 1), "the metadata of .* is not valid JSON"),
    ],
)
def test_a_damaged_record_is_one_sentence(
    package: Path, compared: Callable[[Path], VariantResult], damage: Callable[[bytes], bytes], message: str
) -> None:
    content = (package / RECORD).read_bytes()
    (package / RECORD).unlink()
    (package / RECORD).write_bytes(damage(content))
    listed(package, True)
    with pytest.raises(PackageError, match=message):
        compared(package)
