"""One row per precision: its names elsewhere, who computes in it, and how far from float32 it may be.

The manifest's `Precision` names the rows. Neither torch nor onnx is imported: a row holds their names of the type.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:  # the command line reads the names alone, and starts without numpy
    from ldm_runtime.package.artefacts import Precision

# A float32 engine sums in another order than torch does. ONNX Runtime was seen to be 0.3 to 1.9 times as far from
# float64 as torch in float32 is, OpenVINO up to 4.1 times (Stable Diffusion 1.5's VAE).
ROUNDING_FACTOR = 6.0
# In units of float32's spacing of 6e-8, engines were seen at 12 where torch is at 2: on an image's plain parts.
SMALLEST_TOLERANCE = 1.2e-6
# A sampling run of an engine may be ten times as far from float64 as torch's own: chaos amplifies both alike.
FLOOR_MARGIN = 20.0  # dB
# Of the relative RMS that was recorded of a lossy form, against torch: other machines round otherwise.
RECORDED_FACTOR = 1.2
EMULATED_FACTOR = 3.0  # of a TensorRT plan's, recorded by an emulation that rounds where a GPU may not
HIGHEST_PSNR = 140.0  # of two float32 runs that are, by luck, closer than rounding explains


@dataclass(frozen=True)
class Tolerance:
    """The largest difference from the float32 reference that is still the same model.

    relative_rms: of an output of one evaluation, a case's worst sample. Floors: PSNR in dB over a sampling run.
    """

    relative_rms: float
    latents_floor: float
    image_floor: float


@dataclass(frozen=True)
class PrecisionInfo:
    """One precision, as the exporter, the targets and the gate know it.

    floating: whether it is of floating point. Graphs are computed in such; integers are made by quantising.
    stored, torch, numpy: names of the type of its numbers, for int4 of the byte that holds two.
    tolerance: of fp32 the loosest one; each case's own is a multiple of torch's rounding there. None: a variant has the
    error that was measured of it.
    rtx: compute capabilities for which TensorRT for RTX 1.7 builds plans in it (its support matrix, and what its
    builder says: "FP32 GEMM is not supported" for 7.5). 9.0, 10.0 and GPUs older than 7.5 are not for RTX at all.
    classic: the oldest capability on which classic TensorRT computes in it; (0, 0) is any.
    """

    floating: bool
    onnx: str
    stored: str  # safetensors' name
    torch: str
    numpy: str | None  # None: numpy has no such type
    bytes: float  # of one number
    tolerance: Tolerance | None
    instead: str | None  # what to suggest where this precision does not do
    rtx: tuple[str, ...] = ()
    classic: tuple[int, int] | None = None  # None: on none


EXACT = Tolerance(1e-5, latents_floor=60.0, image_floor=60.0)
"""That of fp32."""
_RTX = ("8.0", "8.6", "8.9", "12.0", "12.1")

# Measured with the emulation of `reduce` on the built-in package and tiny randomly weighted SD 1.5 and 2.1 pipelines:
# fp16 differs by 4e-4 to 7e-3, bf16 by 4e-3 to 5.5e-2, most where the signal is small or the timestep 0. The tolerance
# is some three times the worst: beyond it, more than rounding is at work. Over 20 steps the latents stayed above 66 dB
# in fp16 and 49 dB in bf16, and the images were at 67 and 50 dB or better.
PRECISIONS: "dict[Precision, PrecisionInfo]" = {
    "fp32": PrecisionInfo(
        floating=True,
        onnx="FLOAT",
        stored="F32",
        torch="float32",
        numpy="float32",
        bytes=4,
        tolerance=EXACT,
        instead=None,
        rtx=_RTX,
        classic=(0, 0),
    ),
    "fp16": PrecisionInfo(
        floating=True,
        onnx="FLOAT16",
        stored="F16",
        torch="float16",
        numpy="float16",
        bytes=2,
        tolerance=Tolerance(2e-2, latents_floor=45.0, image_floor=40.0),
        instead="bf16, which has float32's range, or fp32",
        rtx=("7.5", *_RTX),
        classic=(0, 0),
    ),
    "bf16": PrecisionInfo(
        floating=True,
        onnx="BFLOAT16",
        stored="BF16",
        torch="bfloat16",
        numpy=None,
        bytes=2,
        tolerance=Tolerance(1.5e-1, latents_floor=30.0, image_floor=25.0),
        instead="fp32",
        rtx=_RTX,
        classic=(8, 0),
    ),
    "int8": PrecisionInfo(
        floating=False,
        onnx="INT8",
        stored="I8",
        torch="int8",
        numpy="int8",
        bytes=1,
        tolerance=None,
        instead=None,
    ),
    "int4": PrecisionInfo(
        floating=False,
        onnx="INT4",
        stored="U8",
        torch="uint8",
        numpy="uint8",
        bytes=0.5,
        tolerance=None,
        instead=None,
    ),
}
"""Precision -> its row."""

FLOATING: "tuple[Precision, ...]" = tuple(name for name, each in PRECISIONS.items() if each.floating)
REDUCED: "tuple[Precision, ...]" = tuple(name for name in FLOATING if name != "fp32")
