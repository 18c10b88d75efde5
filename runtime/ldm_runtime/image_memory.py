"""The memory that decoding an image takes, estimated before a run: it is what a run needs most for, besides weights."""

import functools

from ldm_runtime.components import Components
from ldm_runtime.errors import InputError
from ldm_runtime.latents import LatentCodec
from ldm_runtime.memory import available_memory
from ldm_runtime.package import safetensors
from ldm_runtime.package.open import Package, refused

# Feature maps of the finest width, in float32 and of the image's size, that a decoder holds at once. Stable Diffusion's
# took 7.1 of them at 256x256 and 7.6 at 512x512 (ONNX Runtime on the CPU).
_MAPS = 8
_CPU = "ort"  # the engine whose activations are in this machine's memory, and are known


class DecoderMemory:
    """The check of an image's size. The engine keeps the memory of the largest that was decoded for the next."""

    def __init__(self, package: Package, components: Components, codec: LatentCodec) -> None:
        self._package = package
        self._components = components
        self._codec = codec

    def require(self, width: int, height: int) -> None:
        """Raise InputError if decoding an image of this size would need more memory than is available."""
        decoder = self._package.manifest.contract.codec.decoder.component
        kept = self._codec.most_pixels
        if width * height <= kept or self._components.names.get(decoder) != _CPU:
            return
        free = available_memory()
        needed = 4 * _MAPS * self._finest_width * (width * height - kept)
        if free is not None and needed > free:
            raise InputError(
                f"an image of {width}x{height} needs about {needed / 1e9:.1f} GB of memory to decode, but "
                f"{free / 1e9:.1f} GB are available; choose a smaller size, or close other programs",
                code="request.size",
            )

    @functools.cached_property
    def _finest_width(self) -> int:
        """Return the channels of the last feature map, by the weights that make an image's channels of it; or 0."""
        contract = self._package.manifest.contract
        half = contract.codec.decoder
        channels = contract.tensor(half.component, half.output).dims[1]
        weights = self._package.file(self._package.manifest.components[half.component].weights)
        with refused():
            shapes = [info.shape for info in safetensors.read_header(weights).tensors.values()]
        return max((shape[1] for shape in shapes if len(shape) == 4 and shape[0] == channels), default=0)
