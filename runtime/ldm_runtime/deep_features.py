"""Deep features of a denoiser, kept for the next rows of a plan (DeepCache, Ma et al. 2023, arXiv:2312.00858).

One artefact evaluates all of the network and gives, beside its output, what the deep part made; another one takes that
in place of the deep part. `ldm_export/optimise/cut_at.py` makes both of one graph.
"""

import numpy as np

from ldm_runtime.components import Components
from ldm_runtime.package.variants import Caching


class DeepFeatures:
    """The denoiser of one run, and what was kept in it. Not for threads: rows follow one another.

    caching: which artefacts keep and read; when, the plan says.
    """

    def __init__(self, components: Components, component: str, caching: Caching) -> None:
        self._components = components
        self._component = component
        self._caching = caching
        self._kept: dict[str, np.ndarray] = {}  # (B, …) each, of the last whole evaluation

    def evaluate(self, feeds: dict[str, np.ndarray], batch: int, *, whole: bool) -> dict[str, np.ndarray]:
        """Evaluate the denoiser, all of it where that is `whole` or more images are asked for than were kept.

        batch: images in `feeds`, along the first axis. With guidance the negative prompts' are the first half: where it
        has ended since, what was kept of the prompts', the last half, is read. Feeds that an artefact has no input for
        are not passed on to it.
        """
        if whole or not self._holds(batch):
            outputs = self._run(feeds, self._caching.keeps)
            read = {spec.name for spec in self._components.open(self._component, self._caching.reads).inputs}
            self._kept = {name: value for name, value in outputs.items() if name in read - set(feeds)}
            return outputs
        kept = {name: value[-batch:] for name, value in self._kept.items()}
        return self._run({**feeds, **kept}, self._caching.reads)

    def _holds(self, batch: int) -> bool:
        return bool(self._kept) and all(value.ndim > 0 and len(value) >= batch for value in self._kept.values())

    def _run(self, feeds: dict[str, np.ndarray], artefact: str) -> dict[str, np.ndarray]:
        taken = {spec.name for spec in self._components.open(self._component, artefact).inputs}
        read = {name: value for name, value in feeds.items() if name in taken}
        return self._components.evaluate(self._component, read, artefact)
