"""The model that is analysed: its parts in torch, where gradients are needed, and a pipeline that draws with it."""

import contextlib
import hashlib
import tempfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel

import ldm_runtime
from ldm_export.checkpoint.checkpoint import Checkpoint
from ldm_export.checkpoint.open import open_checkpoint
from ldm_export.errors import CheckpointError
from ldm_export.package.write import write_draft
from ldm_export.verify.evaluate import run_model
from ldm_runtime.engines.choice import choose
from ldm_runtime.files.atomic import scratch_folder
from ldm_runtime.package.manifest import LOG_VARIANCE, Contract
from ldm_runtime.package.open import Package, is_package
from ldm_runtime.package.tensor_spec import TensorSpec
from ldm_runtime.pipeline import Pipeline, builtin_package


@dataclass(frozen=True)
class Codec:
    """An autoencoder in torch, on the latents of the denoiser (scaled); gradients flow through both functions.

    encode: (B, 3, H, W) in [-1, 1] -> mean and standard deviation of the latents, (B, C, h, w) both. decode: (B, C, h,
    w) -> (B, 3, H, W). downsample: pixels of a latent cell along a side. Both can be differentiated more than once, and
    forwards (of one image at a time).
    """

    encode: Callable[[Tensor], tuple[Tensor, Tensor]]
    decode: Callable[[Tensor], Tensor]
    channels: int
    downsample: int


class TorchEngine:
    """A component of a checkpoint that is run by torch, as an engine of the runtime."""

    notices: tuple[str, ...] = ()
    maps_weights = False

    def __init__(self, subject: "Subject", component: str) -> None:
        self._subject, self._spec = subject, subject.checkpoint.specs[component]
        self.inputs: tuple[TensorSpec, ...] = self._spec.inputs
        self.outputs: tuple[TensorSpec, ...] = self._spec.outputs

    def run(self, feeds: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        return run_model(self._spec, self._subject.model(self._spec.part), dict(feeds))

    def close(self) -> None:
        """Leave the model to the subject, which other components share it with."""


class Subject:
    """An opened model. Parts are loaded on first use, and stay.

    pipe draws with the package's engines; with torch where the model is a checkpoint.
    """

    def __init__(self, checkpoint: Checkpoint, contract: Contract) -> None:
        self.checkpoint, self.contract = checkpoint, contract
        self.pipe: Pipeline
        self._models: dict[str, nn.Module] = {}

    @property
    def name(self) -> str:
        return self.checkpoint.defaults.name

    @cached_property
    def identity(self) -> str:
        """Return what tells this model from another: the package's identity, or a hash of what its files are."""
        if self.checkpoint.package is not None:
            return self.checkpoint.package.identity
        digest = hashlib.sha256(repr((self.checkpoint.configs, self.checkpoint.schedule)).encode())
        for part, files in sorted(self.checkpoint.weight_files.items()):
            for file in files:
                status = file.stat()
                digest.update(repr((part, file.name, status.st_size, status.st_mtime_ns)).encode())
        return digest.hexdigest()

    @property
    def size(self) -> tuple[int, int]:
        """Return the width and height of the model's images."""
        return self.contract.image.width, self.contract.image.height

    def model(self, part: str) -> nn.Module:
        """Return a part in float32, without gradients of its weights."""
        if part not in self._models:
            with _says_what_instead(self.checkpoint.package is not None):
                self._models[part] = self.checkpoint.load(part).requires_grad_(False)
        return self._models[part]

    @cached_property
    def codec(self) -> Codec:
        """Return the autoencoder in torch."""
        role, space = self.contract.codec, self.contract.latent
        specs = self.checkpoint.specs
        model = self.model(specs[role.encoder.component].part)
        encoder, decoder = (specs[half.component].wrap(model) for half in (role.encoder, role.decoder))

        def encode(pixels: Tensor) -> tuple[Tensor, Tensor]:
            with sdpa_kernel(SDPBackend.MATH):  # fused attention has no second and no forward derivatives
                moments = encoder(pixels)
            if not self.contract.encodes_moments:
                return space.scaled(moments), torch.zeros_like(moments)
            mean, log_variance = moments.chunk(2, dim=1)
            deviation = (0.5 * log_variance.clamp(*LOG_VARIANCE)).exp() * float(space.scale)
            return space.scaled(mean), deviation

        def decode(latents: Tensor) -> Tensor:
            with sdpa_kernel(SDPBackend.MATH):
                pixels: Tensor = decoder(space.unscaled(latents))
            return pixels

        return Codec(encode, decode, space.channels, space.downsample)


@contextlib.contextmanager
def _says_what_instead(of_package: bool) -> Iterator[None]:
    """Say of a package that torch cannot take, and so not differentiate, what to analyse in its place."""
    try:
        yield
    except CheckpointError as error:
        if not of_package:
            raise
        raise CheckpointError(
            f"{error}; without its weights in torch a package has no gradients: analyse the checkpoint that it was "
            f"built from"
        ) from error


@contextlib.contextmanager
def open_subject(source: Path | None) -> Iterator[Subject]:
    """Open a package (None: the built-in one) or a checkpoint, and close it at the end.

    Raises CheckpointError, ConfigError or PackageError as `open_checkpoint` does.
    """
    path = builtin_package() if source is None else source
    with _says_what_instead(is_package(path)):
        checkpoint = open_checkpoint(path)
    if checkpoint.package is not None:
        subject = Subject(checkpoint, checkpoint.package.manifest.contract)
        with ldm_runtime.load(checkpoint.path) as subject.pipe:
            yield subject
        return
    checkpoint.check()
    with scratch_folder(Path(tempfile.gettempdir())) as folder:
        manifest = write_draft(folder, checkpoint)
        subject = Subject(checkpoint, manifest.contract)
        engines = {name: TorchEngine(subject, name) for name in checkpoint.specs}
        package = Package(folder, manifest, subject.identity, "size")
        with Pipeline(package, choose("auto"), engines=engines) as subject.pipe:
            yield subject
