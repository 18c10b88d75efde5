"""What a linear probe reads of labels in representations, on images that it was not fitted to."""

import math
from dataclasses import dataclass

import numpy as np
from scipy import optimize
from scipy.special import logsumexp

LEAST_PER_LABEL = 16  # images of a label, so that every fold has some to fit to and to measure
FOLDS = 5
COMPONENTS = 64  # of the representation that the probe sees: its principal components
RIDGES = (10.0, 1.0, 0.1, 0.01, 0.001, 0.0001)  # strongest first: each fit begins at the one before
ITERATIONS = 100
BLOCK = 16384  # numbers of a point


@dataclass(frozen=True)
class Reading:
    """What a probe said of held-out images. cross_entropy: (N,) nats. correct: (N,) bool."""

    cross_entropy: np.ndarray
    correct: np.ndarray


def usable(labels: tuple[str, ...]) -> np.ndarray:
    """Return the places of images whose label enough images have; none if that is one label alone."""
    names, index, counts = np.unique(labels, return_inverse=True, return_counts=True)
    if (counts >= LEAST_PER_LABEL).sum() < 2:
        return np.array([], np.int64)
    return np.flatnonzero(counts[index] >= LEAST_PER_LABEL)


def gram_matrix(points: np.ndarray) -> np.ndarray:
    """Return the products (N, N) of centred points (N, …): all that a linear probe needs of them.

    It goes over their numbers block by block, so that images are not copied as a whole.
    """
    flat = points.reshape(len(points), -1)
    products = np.zeros((len(points), len(points)))
    for start in range(0, flat.shape[1], BLOCK):
        part = flat[:, start : start + BLOCK]
        centred = part - part.mean(axis=0, dtype=np.float64)
        products += centred @ centred.T
    return products


def entropy_of(index: np.ndarray) -> float:
    """Return the entropy of labels (N,), integers from 0, in nats."""
    share = np.bincount(index) / len(index)
    return float(-(share[share > 0] * np.log(share[share > 0])).sum())


def information(samples: np.ndarray) -> float:
    """Return I / H >= (H - cross-entropy) / H of samples (N, 2): the label's number, and nats held out.

    Below 0 where the probe says less of held-out images than the labels' frequencies do: then it bounds nothing.
    """
    entropy = entropy_of(samples[:, 0].astype(np.int64))
    return 1 - float(samples[:, 1].mean()) / entropy if entropy > 0 else 0.0


def read_labels(gram: np.ndarray, index: np.ndarray, random: np.random.Generator) -> Reading:
    """Fit multinomial logistic probes to four of five folds in turn, and measure each on the fifth.

    gram: (N, N) of `gram_matrix`. index: (N,), the labels. The ridge is chosen inside the four folds, so that the
    cross-entropy of the fifth bounds H(label | representation) from above in expectation.
    """
    folds = _folds(index, random)
    losses, correct = np.empty(len(index)), np.empty(len(index), bool)
    classes = int(index.max()) + 1
    for fold in range(FOLDS):
        inside, outside = np.flatnonzero(folds != fold), np.flatnonzero(folds == fold)
        chosen = folds[inside] == (fold + 1) % FOLDS
        ridge = _best_ridge(gram, index, inside[~chosen], inside[chosen], classes)
        fitted, measured = components(gram, inside, outside)
        *_, weights = _fits(fitted, index[inside], classes, ridge)
        log_share = _log_shares(measured, weights)
        losses[outside] = -log_share[np.arange(len(outside)), index[outside]]
        correct[outside] = log_share.argmax(axis=1) == index[outside]
    return Reading(losses, correct)


def _folds(index: np.ndarray, random: np.random.Generator) -> np.ndarray:
    """Return the fold of each image: every label spread evenly over all."""
    folds = np.empty(len(index), np.int64)
    start = 0
    for label in range(int(index.max()) + 1):
        places = random.permutation(np.flatnonzero(index == label))
        folds[places] = (start + np.arange(len(places))) % FOLDS
        start += len(places)
    return folds


def components(gram: np.ndarray, fitted: np.ndarray, others: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return both sets in the principal components of the first, with a mean square of 1 in the first of them."""
    inner = gram[np.ix_(fitted, fitted)]
    mean = inner.mean(axis=0)
    centred = inner - mean[None, :] - mean[:, None] + mean.mean()
    cross = gram[np.ix_(others, fitted)]
    crossed = cross - cross.mean(axis=1, keepdims=True) - mean[None, :] + mean.mean()
    values, vectors = np.linalg.eigh(centred)
    kept = [place for place in range(len(values))[::-1][:COMPONENTS] if values[place] > 1e-9 * values[-1]]
    root = np.sqrt(values[kept])
    scale = math.sqrt(len(fitted)) / root[0] if kept else 1.0
    return vectors[:, kept] * root * scale, crossed @ vectors[:, kept] / root * scale


def _best_ridge(gram: np.ndarray, index: np.ndarray, fitted: np.ndarray, chosen: np.ndarray, classes: int) -> float:
    points, others = components(gram, fitted, chosen)
    losses = [
        -_log_shares(others, weights)[np.arange(len(chosen)), index[chosen]].mean()
        for weights in _fits(points, index[fitted], classes, RIDGES[-1])
    ]
    return RIDGES[int(np.argmin(losses))]


def _fits(points: np.ndarray, index: np.ndarray, classes: int, last: float) -> list[np.ndarray]:
    """Return the weights (1 + components, classes) for each ridge down to the last."""
    with_one = np.concatenate([np.ones((len(points), 1)), points], axis=1)
    target = np.eye(classes)[index]
    weights = np.zeros((with_one.shape[1], classes))
    found = []

    def loss(flat: np.ndarray, ridge: float) -> tuple[float, np.ndarray]:
        shaped = flat.reshape(weights.shape)
        log_share = _log_shares(points, shaped)
        penalty = np.concatenate([np.zeros((1, classes)), ridge * shaped[1:]])
        value = -(target * log_share).sum() / len(points) + 0.5 * (penalty * shaped).sum()
        return value, (with_one.T @ (np.exp(log_share) - target) / len(points) + penalty).ravel()

    for ridge in (each for each in RIDGES if each >= last):
        result = optimize.minimize(
            loss, weights.ravel(), (ridge,), method="L-BFGS-B", jac=True, options={"maxiter": ITERATIONS}
        )
        weights = result.x.reshape(weights.shape)
        found.append(weights)
    return found


def _log_shares(points: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Return the log of what the probe says of each class, (N, classes)."""
    scores = weights[0] + points @ weights[1:]
    return np.asarray(scores - logsumexp(scores, axis=1, keepdims=True))
