"""Options of engines that give up precision, so that it is said: no record has their error."""

from collections.abc import Iterable, Mapping

# engine -> option -> the values with which it computes in float32
_EXACT: Mapping[str, Mapping[str, tuple[str, ...]]] = {
    "openvino": {"INFERENCE_PRECISION_HINT": ("f32",), "DYNAMIC_QUANTIZATION_GROUP_SIZE": ("0",)},
    "ort:cuda": {"use_tf32": ("0", "False")},
    "ort:tensorrt": {
        "trt_fp16_enable": ("0", "False", "false"),
        "trt_bf16_enable": ("0", "False", "false"),
        "trt_int8_enable": ("0", "False", "false"),
    },
}


def lossy_options(engine: str, options: Mapping[str, str]) -> Iterable[str]:
    """Say of each option with which an engine computes in less than float32 that its error is not known."""
    for name, exact in _EXACT.get(engine, {}).items():
        value = options.get(name)
        if value is not None and value not in exact:
            yield (
                f"{engine} has the option {name}={value}, which computes in less than float32: how far the image is "
                "from the exact one is recorded nowhere"
            )
