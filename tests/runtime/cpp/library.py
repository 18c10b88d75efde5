"""The C++ library through ctypes: runs of a package, asked for in Python's words."""

import ctypes
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from PIL import Image

from tests.runtime.cpp.context import Context

FLOAT32, INT64 = 1, 2  # element types
EVALUATE, DONE, PREVIEW = 1, 3, 4  # kinds of tasks
COUNTED = {"prompts": "prompt_count", "seeds": "seed_count", "images": "image_count"}


class Evaluation(NamedTuple):
    """A component that was run, its feeds, and the name of its graph where the run says which."""

    component: str
    feeds: dict[str, np.ndarray]
    artefact: str | None = None


Host = Callable[[Evaluation], dict[str, np.ndarray]]  # an engine: all outputs of the graph


class Library(Context):
    """The library with one package and its engine, whose other options are fields of ldm_engine_options.

    ONNX Runtime has one thread: a test has one core.
    """

    def __init__(self, file: Path, engine_library: Path, package: Path, **engine: Any) -> None:
        super().__init__(file)
        self.calls.ldm_run_image_count.restype = ctypes.c_size_t
        self.package, self.engine = ctypes.c_void_p(), ctypes.c_void_p()
        self.call("ldm_package_open", str(package).encode(), None, ctypes.byref(self.package))
        alone = {} if "engine" in engine else {"threads": 1}
        found = self.begun("ldm_engine_options", library=str(engine_library).encode(), **(alone | engine))
        self.call("ldm_engine_open", self.package, ctypes.byref(found), ctypes.byref(self.engine))

    def free(self) -> None:
        """Free the engine, the package and the context."""
        self.calls.ldm_engine_free(self.engine)
        self.calls.ldm_package_free(self.package)
        super().free()

    def sample(self, prompt: Any = None, **options: Any) -> "Run":
        """Begin a run, with the options of the Python runtime; the ends of an interpolation are the C interface's."""
        self.said.clear()
        handle, kept = ctypes.c_void_p(), _Kept()
        fields = _RunFields(self, kept).of({"prompt": prompt, **options})
        given = self.begun("ldm_run_options", **fields)
        self.call("ldm_run_create", self.package, ctypes.byref(given), ctypes.byref(handle))
        return Run(self, handle, list(self.said))


class _Kept(list[Any]):
    """What pointers point at."""

    def array(self, values: Any) -> ctypes.c_void_p:
        self.append(values)
        return ctypes.cast(values, ctypes.c_void_p)

    def numbers(self, values: Any) -> ctypes.c_void_p:
        array = np.ascontiguousarray(values, np.float32)
        self.append(array)
        return ctypes.c_void_p(array.ctypes.data)


class _RunFields:
    """Fields of ldm_run_options from options of the Python runtime."""

    def __init__(self, library: Library, kept: _Kept) -> None:
        self._library, self._kept = library, kept

    def of(self, options: dict[str, Any]) -> dict[str, Any]:
        fields: dict[str, Any] = {}
        for name, value in options.items():
            if value is not None:
                fields |= getattr(self, f"_{name}", self._plain(name))(value)
        return fields

    def _plain(self, name: str) -> Callable[[Any], dict[str, Any]]:
        return lambda value: {name: value.encode() if isinstance(value, str) else value}

    def _texts(self, name: str, value: Any) -> dict[str, Any]:
        if isinstance(value, str):
            return {name: value.encode("utf-8", "surrogateescape")}
        array = (ctypes.c_char_p * len(value))(*[text.encode() for text in value])
        return self._listed(f"{name}s", array)

    def _listed(self, name: str, array: Any) -> dict[str, Any]:
        count = {COUNTED[name]: len(array)} if name in COUNTED else {}
        return {name: self._kept.array(array), **count}

    def _prompt(self, value: Any) -> dict[str, Any]:
        return self._texts("prompt", value)

    def _negative(self, value: Any) -> dict[str, Any]:
        return self._texts("negative", value)

    def _to_prompt(self, value: str) -> dict[str, Any]:
        return {"to_prompt": value.encode()}

    def _guidance_interval(self, value: tuple[float, float]) -> dict[str, Any]:
        return dict(zip(("guidance_from", "guidance_to"), value, strict=True))

    def _seed(self, value: int | Sequence[int]) -> dict[str, Any]:
        if isinstance(value, int):
            return {"seed": value, "has_seed": 1}
        return self._listed("seeds", (ctypes.c_uint64 * len(value))(*value))

    def _variation(self, value: tuple[int, float]) -> dict[str, Any]:
        return {"has_variation": 1, "variation_seed": value[0], "variation_strength": value[1]}

    def _size(self, value: tuple[int, int]) -> dict[str, Any]:
        return dict(zip(("width", "height"), value, strict=True))

    def _original_size(self, value: tuple[int, int]) -> dict[str, Any]:
        return dict(zip(("original_width", "original_height"), value, strict=True))

    def _target_size(self, value: tuple[int, int]) -> dict[str, Any]:
        return dict(zip(("target_width", "target_height"), value, strict=True))

    def _crop_top_left(self, value: tuple[int, int]) -> dict[str, Any]:
        return dict(zip(("crop_top", "crop_left"), value, strict=True))

    def _image(self, value: Image.Image | Sequence[Image.Image]) -> dict[str, Any]:
        several = [value] if isinstance(value, Image.Image) else value
        images = [self._one_image(image) for image in several]
        return self._listed("images", (self._library.structures["ldm_image"] * len(images))(*images))

    def _mask(self, value: Image.Image) -> dict[str, Any]:
        image = self._one_image(value)
        return {"mask": self._kept.array(ctypes.pointer(image))}

    def _one_image(self, image: Image.Image) -> Any:
        pixels = np.ascontiguousarray(image)
        self._kept.append(pixels)
        channels = 1 if pixels.ndim == 2 else pixels.shape[2]
        place = ctypes.c_void_p(pixels.ctypes.data)
        return self._library.begun("ldm_image", width=image.width, height=image.height, channels=channels, pixels=place)

    def _latents(self, value: np.ndarray) -> dict[str, Any]:
        return {"latents": self._kept.numbers(value), "latents_count": value.size}

    def _prompt_embeds(self, value: np.ndarray) -> dict[str, Any]:
        count, tokens, width = value.shape
        counts = {"embeds_count": count, "embeds_tokens": tokens, "embeds_width": width}
        return {"prompt_embeds": self._kept.numbers(value), **counts}

    def _pooled_prompt_embeds(self, value: np.ndarray) -> dict[str, Any]:
        return {"pooled_prompt_embeds": self._kept.numbers(value), "pooled_width": value.shape[1]}


class Run:
    """A run of the library, which is drawn by its engine."""

    def __init__(self, library: Library, handle: ctypes.c_void_p, notices: list[str]) -> None:
        self.library, self.handle, self.notices = library, handle, notices
        self.evaluations: list[Evaluation] = []  # so far

    def __del__(self) -> None:
        self.library.calls.ldm_run_free(self.handle)

    def draw(self) -> "Run":
        """Take it to its end."""
        for _ in self.tasks():
            pass
        return self

    def tasks(self, host: Host | None = None) -> Iterator[Any]:
        """Take it to its end, and yield each task once it is done. host: evaluates in place of the library's engine."""
        library = self.library
        task = library.begun("ldm_task")
        while task.kind != DONE or not self.evaluations:
            library.call("ldm_run_next", self.handle, ctypes.byref(task))
            if task.kind == EVALUATE:
                self.evaluations.append(self._evaluation(task))
                if host is None:
                    library.call("ldm_engine_evaluate", library.engine, self.handle, ctypes.byref(task))
                else:
                    self._give(host(self.evaluations[-1]))
            yield task

    def preview(self) -> None:
        """Ask for a preview, which one of the next tasks tells."""
        self.library.call("ldm_run_preview", self.handle)

    def _evaluation(self, task: Any) -> Evaluation:
        tensors = ctypes.cast(task.inputs, ctypes.POINTER(self.library.structures["ldm_tensor"]))
        feeds = {}
        for tensor in tensors[: task.input_count]:
            dtype = {FLOAT32: np.float32, INT64: np.int64}.get(tensor.element_type, np.int32)
            content = ctypes.string_at(tensor.data, tensor.bytes)
            feeds[tensor.name.decode()] = np.frombuffer(content, dtype).reshape(tensor.shape[: tensor.rank])
        artefact = None if task.artefact is None else task.artefact.decode()
        return Evaluation(task.component.decode(), feeds, artefact)

    def _give(self, outputs: dict[str, np.ndarray]) -> None:
        made = self.library.structures["ldm_tensor"]
        arrays = {name.encode(): np.ascontiguousarray(array, np.float32) for name, array in outputs.items()}
        given = (made * len(arrays))()
        for tensor, (name, array) in zip(given, arrays.items(), strict=True):
            tensor.name, tensor.element_type, tensor.rank = name, FLOAT32, array.ndim
            tensor.shape[: array.ndim] = array.shape
            tensor.data, tensor.bytes = array.ctypes.data, array.nbytes
        self.library.call("ldm_run_give", self.handle, given, ctypes.c_size_t(len(arrays)))

    @property
    def count(self) -> int:
        """The number of images."""
        return int(self.library.calls.ldm_run_image_count(self.handle))

    @property
    def seeds(self) -> tuple[int, ...]:
        def seed(image: int) -> int:
            value = ctypes.c_uint64()
            self.library.call("ldm_run_seed", self.handle, ctypes.c_size_t(image), ctypes.byref(value))
            return value.value

        return tuple(map(seed, range(self.count)))

    @property
    def latents(self) -> np.ndarray:
        """After the last step, float32 (B, C, h, w)."""
        place, shape = ctypes.POINTER(ctypes.c_float)(), (ctypes.c_int64 * 4)()
        self.library.call("ldm_run_latents", self.handle, ctypes.byref(place), shape)
        return np.ctypeslib.as_array(place, tuple(shape)).copy()

    @property
    def images(self) -> np.ndarray:
        """uint8 (B, H, W, 3)."""
        return np.stack([self._image(index) for index in range(self.count)])

    def _image(self, index: int) -> np.ndarray:
        image = self.library.begun("ldm_image")
        self.library.call("ldm_run_image", self.handle, ctypes.c_size_t(index), ctypes.byref(image))
        content = ctypes.string_at(image.pixels, image.width * image.height * 3)
        return np.frombuffer(content, np.uint8).reshape(image.height, image.width, 3)

    def metadata(self, image: int = 0) -> dict[str, str]:
        """How an image was made so far, in the library's order."""
        pairs, count = [ctypes.POINTER(ctypes.c_char_p)() for _ in range(2)], ctypes.c_size_t()
        places = [ctypes.byref(each) for each in (*pairs, count)]
        self.library.call("ldm_run_metadata", self.handle, ctypes.c_size_t(image), *places)
        keys, values = ([text.decode() for text in each[: count.value]] for each in pairs)
        return dict(zip(keys, values, strict=True))
