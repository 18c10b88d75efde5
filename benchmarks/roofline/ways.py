"""The engines with the precisions in which they may compute a layer, and a check of what they really do."""

import tempfile
from collections.abc import Callable, Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
import onnxruntime

from benchmarks.roofline.shapes import Shape, bfloat16_graph, float_graph, quantised_graph
from ldm_runtime.engines.openvino.library import shared_core

LAYERS = ("Convolution", "FullyConnected", "MatMul")  # OpenVINO's names of what multiplies

Evaluate = Callable[[], None]


class Refused(Exception):
    """Why a way does not run here, as part of a sentence."""


@dataclass(frozen=True)
class Way:
    """An engine and a precision.

    graph: of a shape. open: threads -> an evaluation of the graph, and what the engine computes its layers in.
    """

    engine: str
    precision: str
    graph: Callable[[Shape], ir.Model]
    open: Callable[[ir.Model, np.ndarray, int], tuple[Evaluate, str]]

    @property
    def name(self) -> str:
        return f"{self.engine} {self.precision}"


def open_ort(model: ir.Model, x: np.ndarray, threads: int) -> tuple[Evaluate, str]:
    """Open a graph in ONNX Runtime. It computes in the kinds of its optimised graph's nodes."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = 4
    with tempfile.TemporaryDirectory() as folder:
        optimised = Path(folder, "optimised.onnx")
        options.optimized_model_filepath = str(optimised)
        try:
            session: Any = onnxruntime.InferenceSession(
                ir.to_proto(model).SerializeToString(), options, providers=["CPUExecutionProvider"]
            )
        except Exception as error:  # onnxruntime's classes derive from Exception, one per status code
            raise Refused(str(error).strip().splitlines()[0]) from error
        nodes = onnx.load(optimised).graph.node
    kinds = {node.op_type for node in nodes if any(word in node.op_type for word in ("Conv", "MatMul", "Gemm"))}
    return lambda: session.run(None, {"x": x}), ", ".join(sorted(kinds))


def open_openvino(hint: str) -> Callable[[ir.Model, np.ndarray, int], tuple[Evaluate, str]]:
    """Return how a graph is opened in OpenVINO with a hint of the precision; what it computes in is its own word."""

    def opened(model: ir.Model, x: np.ndarray, threads: int) -> tuple[Evaluate, str]:
        core = shared_core()
        options = {
            "INFERENCE_PRECISION_HINT": hint,
            "INFERENCE_NUM_THREADS": str(threads),
            "PERFORMANCE_HINT": "LATENCY",
            "DYNAMIC_QUANTIZATION_GROUP_SIZE": "0",  # else it rounds what narrow weights are multiplied with
        }
        compiled = core.compile_model(core.read_model(ir.to_proto(model).SerializeToString()), "CPU", options)
        infos = [node.get_rt_info() for node in compiled.get_runtime_model().get_ops()]
        kinds = {str(info["runtimePrecision"].astype(str)) for info in infos if info["layerType"].astype(str) in LAYERS}
        request = compiled.create_infer_request()
        return lambda: request.infer({"x": x}, share_inputs=True), ", ".join(sorted(kinds))

    return opened


def ways(units: Collection[str]) -> tuple[Way, ...]:
    """Return the ways that a CPU with these units may take; without a unit OpenVINO would only emulate its type."""
    found = [
        Way("ONNX Runtime", "fp32", float_graph, open_ort),
        Way("ONNX Runtime", "bf16", bfloat16_graph, open_ort),
        Way("ONNX Runtime", "int8", lambda shape: quantised_graph(shape, outputs=True), open_ort),
        Way("OpenVINO", "fp32", float_graph, open_openvino("f32")),
        Way("OpenVINO", "int8", lambda shape: quantised_graph(shape, outputs=False), open_openvino("f32")),
    ]
    if {"avx512_bf16", "amx_bf16"} & set(units):
        found.append(Way("OpenVINO", "bf16", float_graph, open_openvino("bf16")))
    if {"avx512_fp16", "amx_fp16"} & set(units):
        found.append(Way("OpenVINO", "fp16", float_graph, open_openvino("f16")))
    return tuple(found)
