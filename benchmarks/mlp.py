"""The paper's performance predictor: an MLP 64-32-16, in numpy (at batches of 8 torch spends its time on dispatch).

Chen et al. 2026 (arXiv 2602.08351): dropout 0.2, Adam 1e-2, weight decay 1e-4, 500 epochs, batch 8; the input is the
configuration, the (step, value) pairs seen, and the target step; one example for every later step of a full run.
Everything is standardised (fed unscaled, as the released script does, it is several times worse: DESIGN section 3).
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Settings:
    hidden: tuple[int, ...] = (64, 32, 16)
    dropout: float = 0.2
    rate: float = 1e-2
    weight_decay: float = 1e-4
    epochs: int = 500
    batch: int = 8


@dataclass(frozen=True)
class FittedMLP:
    """Layers of a fitted network, and the standardisation of its n x p inputs and its output."""

    weights: tuple[Array, ...]
    biases: tuple[Array, ...]
    shift: Array
    scale: Array
    centre: float
    size: float

    def predict(self, inputs: Array) -> Array:
        """m x p -> (m,)."""
        h = (inputs - self.shift) / self.scale
        for w, b in zip(self.weights[:-1], self.biases[:-1], strict=True):
            h = np.maximum(h @ w + b, 0)
        return np.asarray((h @ self.weights[-1] + self.biases[-1])[:, 0] * self.size + self.centre)


def fit_mlp(inputs: Array, targets: Array, seed: int, settings: Settings) -> FittedMLP:
    """n x p, (n,) -> network trained on squared error by Adam with L2 in the gradient, as torch.optim.Adam has it."""
    rng = np.random.default_rng((seed, 3))
    shift, scale = inputs.mean(0), inputs.std(0)
    scale = np.where(scale < 1e-9, 1.0, scale)
    centre, size = float(targets.mean()), max(float(targets.std()), 1e-9)
    X, y = (inputs - shift) / scale, (targets - centre) / size
    widths = (X.shape[1], *settings.hidden, 1)
    shapes = list(pairwise(widths))
    # one flat vector, so that Adam is a handful of numpy calls; torch's default start: uniform +-1/sqrt(fan in)
    theta = np.concatenate([rng.uniform(-1, 1, a * b + b) / np.sqrt(a) for a, b in shapes])
    grad, m, v = np.zeros_like(theta), np.zeros_like(theta), np.zeros_like(theta)
    W, B = views(theta, shapes)
    dW, dB = views(grad, shapes)
    keep, step = 1 - settings.dropout, 0
    for _ in range(settings.epochs):
        order = rng.permutation(len(X))
        for start in range(0, len(X), settings.batch):
            index = order[start : start + settings.batch]
            hs = [X[index]]
            masks = []
            for w, b in zip(W[:-1], B[:-1], strict=True):
                pre = hs[-1] @ w + b
                mask = (pre > 0) * (rng.random(pre.shape) < keep) / keep
                masks.append(mask)
                hs.append(pre * mask)
            back = 2 * ((hs[-1] @ W[-1] + B[-1])[:, 0] - y[index])[:, None] / len(index)
            for layer in range(len(W) - 1, -1, -1):
                np.matmul(hs[layer].T, back, out=dW[layer])
                dB[layer][:] = back.sum(0)
                if layer:
                    back = (back @ W[layer].T) * masks[layer - 1]
            step += 1
            g = grad + settings.weight_decay * theta
            m *= 0.9
            m += 0.1 * g
            v *= 0.999
            v += 0.001 * g * g
            theta -= settings.rate / (1 - 0.9**step) * m / (np.sqrt(v / (1 - 0.999**step)) + 1e-8)
    return FittedMLP(tuple(W), tuple(B), shift, scale, centre, size)


def views(flat: Array, shapes: list[tuple[int, int]]) -> tuple[list[Array], list[Array]]:
    """Weights a x b and biases (b,) of every layer as views of one flat vector."""
    weights, biases, at = [], [], 0
    for a, b in shapes:
        weights.append(flat[at : at + a * b].reshape(a, b))
        biases.append(flat[at + a * b : at + a * b + b])
        at += a * b + b
    return weights, biases


def examples(rows: Array, curves: Array, k: int) -> tuple[Array, Array]:
    """n x 19 and n x T curves -> inputs n (T - k) x (19 + 2 k + 1) and targets: every later step of every run."""
    n, T = curves.shape
    targets = np.arange(k + 1, T + 1)
    inputs = np.repeat(prefix(rows, curves[:, :k]), len(targets), axis=0)
    return np.column_stack([inputs, np.tile(targets, n)]), curves[:, k:].ravel()


def prefix(rows: Array, seen: Array) -> Array:
    """n x 19 and n x k values seen at t = 1 ... k -> n x (19 + 2 k): configuration, then steps and values."""
    n, k = seen.shape
    return np.column_stack([rows, np.tile(np.arange(1.0, k + 1), (n, 1)), seen])


class MLPPredictor:
    """`fit` on full curves, then `predict` the final of prefixes of the same length k. It has no uncertainty."""

    def __init__(self, seed: int = 0, settings: Settings | None = None) -> None:
        self.seed, self.settings = seed, settings or Settings()

    def fit(self, rows: Array, curves: Array, k: int) -> MLPPredictor:
        self.length = curves.shape[1]
        self.network = fit_mlp(*examples(rows, curves, k), self.seed, self.settings)
        return self

    def predict(self, rows: Array, seen: Array) -> Array:
        """m x 19 and m x k -> (m,) predicted values at the last step."""
        return self.network.predict(np.column_stack([prefix(rows, seen), np.full(len(rows), float(self.length))]))
