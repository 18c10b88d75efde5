"""Runs: the sampling steps of one call, computed one at a time."""

import dataclasses
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from ldm_runtime.errors import Cancelled, InputError
from ldm_runtime.latents import LatentCodec
from ldm_runtime.notice import Notice
from ldm_runtime.request import Request
from ldm_runtime.sampling.loop import PlanStep

if TYPE_CHECKING:
    from PIL import Image


@dataclasses.dataclass(frozen=True)
class Step(PlanStep):
    """The state after one sampling step. It is decoded only on request: a step costs nothing to skip.

    `latents` are the caller's own: writing into them changes no other step. `timestep` is that of the last evaluation.
    """

    request: Request
    codec: LatentCodec
    model: Mapping[str, str]  # its name and the package's identity

    def decode(self) -> np.ndarray:
        """Decode the latents to pixels in [-1, 1], or a little beyond: float32 (B, 3, H, W)."""
        return self.codec.decode(self.latents)

    def images(self) -> "list[Image.Image]":
        """Decode the latents to PIL images, which keep how they were made in `info` and in their PNG files."""
        return self._images(self.decode(), self.metadata)

    def preview(self) -> "list[Image.Image]":
        """Decode the image that the model predicts at this step. Early predictions are blurred, not noisy."""
        return self._images(self.codec.decode(self.predicted()), self.preview_metadata)

    def metadata(self, image: int = 0) -> dict[str, str]:
        """Describe image `image` of this step as text. The same options draw it again, unless it is within a step."""
        facts = self.request.metadata(image, steps_done=self.index + 1)
        if not self.ends_step:
            facts.pop("stopped after", None)
            facts["within step"] = f"{self.index + 1}, after evaluation {self.evaluations}"
        return {**facts, **self.model}

    def preview_metadata(self, image: int = 0) -> dict[str, str]:
        """Describe the preview of image `image` as text. It says that it is one: no options draw it again."""
        within = f"evaluation {self.evaluations}, within step {self.index + 1}"
        moment = {"preview after": str(self.index + 1) if self.ends_step else within}
        return {**self.request.metadata(image), **moment, **self.model}

    def _images(self, pixels: np.ndarray, metadata: Callable[[int], dict[str, str]]) -> "list[Image.Image]":
        from ldm_runtime.image import to_images

        return to_images(pixels, [metadata(b) for b in range(len(pixels))])


class Run(Iterator[Step]):
    """The sampling steps of one run: an iterator that computes them one at a time.

    request: what is drawn, nothing in it left to a default. notices: what the user should know beside the result.

    An iterator for one thread at a time; any thread may `cancel` it. It holds memory until its end, until it is
    cancelled, or until it is dropped.
    """

    def __init__(
        self,
        request: Request,
        notices: Sequence[Notice],
        states: Iterator[PlanStep],
        codec: LatentCodec,
        model: Mapping[str, str],
    ) -> None:
        self.request = request
        self.notices = tuple(notices)
        self._states: Iterator[PlanStep] | None = states
        self._codec: LatentCodec | None = codec
        self._model = model
        self._done = 0
        self._is_cancelled = False
        self._iterating = threading.Lock()

    @property
    def total(self) -> int:
        """The number of sampling steps that this run takes."""
        whole, stop = self.request.plan.taken, self.request.stop_after
        return whole if stop is None else stop

    def __iter__(self) -> "Run":
        if self._states is None and not self._is_cancelled:
            raise InputError("this run is over; start another one with `sample`")
        return self

    def __next__(self) -> Step:
        """Take the next sampling step.

        Raises:
            Cancelled: `cancel` was called.
            InputError: another thread is iterating this run.
            EngineError: the pipeline is closed, or its engine failed.
            NonFiniteError: the model made NaN or infinity.
        """
        while not (step := self._advance()).ends_step:
            pass
        return step

    def evaluations(self) -> Iterator[Step]:
        """Iterate over every evaluation of the denoiser; some samplers have several in a step (see `ends_step`)."""
        iter(self)
        return iter(self._advance, None)

    def cancel(self) -> None:
        """End the run, from any thread.

        The thread that iterates gets `Cancelled` at most one evaluation later; the memory is freed at once, or then.
        A run that is over stays as it is.
        """
        self._is_cancelled = self._is_cancelled or self._states is not None
        self._free_cancelled()

    def metadata(self, image: int = 0) -> dict[str, str]:
        """Describe image `image` as text, after the steps taken so far, or of the whole run before the first."""
        done = self._done if self._done > 0 else self.total
        return {**self.request.metadata(image, steps_done=done), **self._model}

    def _advance(self) -> Step:
        if not self._iterating.acquire(blocking=False):
            self._require_going()  # what holds it may be `cancel`
            raise InputError("another thread is iterating this run; give each thread a run of its own")
        try:
            return self._evaluate()
        except BaseException:
            self._states = self._codec = None
            raise
        finally:
            self._iterating.release()
            self._free_cancelled()

    def _evaluate(self) -> Step:
        self._require_going()
        if self._states is None or self._codec is None or self._done == self.total:
            raise StopIteration
        state = next(self._states)
        self._done += state.ends_step
        copied = {**vars(state), "latents": state.latents.copy()}
        return Step(**copied, request=self.request, codec=self._codec, model=self._model)

    def _require_going(self) -> None:
        if self._is_cancelled:
            raise Cancelled(f"the run was cancelled after step {self._done} of {self.request.plan.taken}")

    def _free_cancelled(self) -> None:
        """Free the memory of a cancelled run, unless a thread is at an evaluation: it does so itself afterwards."""
        if self._is_cancelled and self._iterating.acquire(blocking=False):
            self._states = self._codec = None
            self._iterating.release()
