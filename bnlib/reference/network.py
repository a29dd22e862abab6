"""A multilayer perceptron with an explicit backward pass: linear maps, batch normalization, activations.

Every layer remembers what its backward pass needs from its last forward pass. Conventions, names and
initial values are those of ``torch.nn``.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any, Literal, Protocol

import numpy as np
from numpy.typing import DTypeLike, NDArray

from bnlib.reference.backward import batch_norm_backward, batch_norm_inference_backward
from bnlib.reference.normalize import batch_norm, batch_norm_inference
from bnlib.reference.running import RunningStatistics
from bnlib.reference.validate import Floating, check_array

Parameters = dict[str, Floating]
Activation = Literal["relu", "sigmoid", "tanh"]


@np.errstate(invalid="ignore")
def softmax_cross_entropy(logits: Floating, labels: NDArray[np.integer[Any]]) -> tuple[float, Floating]:
    """Compute the mean cross-entropy of the softmax of ``logits``, and its gradient.

    ``loss = mean_n(log(sum_k(exp(z_nk))) - z_n,label)``, ``dlogits = (softmax(z) - onehot(labels)) / N``

    Args:
        logits: z, shape (N, K), floating.
        labels: integers 0 to K - 1, shape (N,).

    Returns:
        The loss, and its gradient, of the shape and dtype of ``logits``. NaN in a sample, an infinity, or
        nothing but minus infinities make its gradient and the loss NaN.

    Raises:
        TypeError: ``logits`` is not a floating NumPy array, or ``labels`` not one of integers.
        ValueError: the shapes do not match, N is 0, or a label is outside 0 to K - 1.

    Source: Bishop (2006), "Pattern Recognition and Machine Learning", equations 4.108 and 4.109.
    """
    check_array(logits, "logits")
    if not (isinstance(labels, np.ndarray) and np.issubdtype(labels.dtype, np.integer)):
        raise TypeError(f"expected labels to be a NumPy array of integers, got {type(labels).__name__}")
    if logits.ndim != 2 or labels.shape != logits.shape[:1] or not len(labels):
        raise ValueError(f"expected logits (N, K) and labels (N,), got {logits.shape} and {labels.shape}")
    if labels.min() < 0 or labels.max() >= logits.shape[1]:
        raise ValueError(f"expected labels 0 to {logits.shape[1] - 1}, got {labels.min()} to {labels.max()}")
    n = np.arange(len(labels))
    z = logits - logits.max(1, keepdims=True)
    total = np.exp(z).sum(1, keepdims=True)
    loss = float(np.mean(np.log(total[:, 0]) - z[n, labels]))
    dlogits = np.exp(z) / total
    dlogits[n, labels] -= 1
    return loss, dlogits / len(labels)


class Layer(Protocol):
    """What a layer has: a forward and a backward pass, parameters and their gradients."""

    parameters: Parameters
    gradients: Parameters

    def forward(self, x: Floating, training: bool) -> Floating:
        """Return the output for ``x``."""
        ...

    def backward(self, dy: Floating) -> Floating:
        """Return the gradient with respect to the last ``x``, and set ``gradients``."""
        ...


class Linear:
    """Map (N, in) to (N, out): ``y = x @ weight.T + bias``, weights drawn from U(-1, 1) / sqrt(in)."""

    def __init__(self, inputs: int, outputs: int, rng: np.random.Generator, dtype: DTypeLike = np.float64):
        bound = inputs**-0.5
        self.parameters: Parameters = {
            "weight": rng.uniform(-bound, bound, (outputs, inputs)).astype(dtype),
            "bias": rng.uniform(-bound, bound, outputs).astype(dtype),
        }
        self.gradients: Parameters = {}

    def forward(self, x: Floating, training: bool) -> Floating:
        """Return ``x @ weight.T + bias``."""
        self._x = x
        y: Floating = x @ self.parameters["weight"].T + self.parameters["bias"]
        return y

    def backward(self, dy: Floating) -> Floating:
        """Return ``dx = dy @ weight``; ``dweight = dy.T @ x``, ``dbias = sum(dy)``."""
        self.gradients = {"weight": dy.T @ self._x, "bias": dy.sum(0)}
        return dy @ self.parameters["weight"]


class BatchNorm:
    """Normalize each feature of (N, C): by the batch in training, by running statistics otherwise.

    A forward pass in training moves ``running``, a `RunningStatistics`; ``momentum`` weighs the new batch.
    """

    def __init__(
        self, features: int, *, eps: float = 1e-5, momentum: float = 0.1, dtype: DTypeLike = np.float64
    ):
        self.eps, self.momentum = eps, momentum
        self.running = RunningStatistics.start(features, dtype)
        self.parameters: Parameters = {"weight": np.ones(features, dtype), "bias": np.zeros(features, dtype)}
        self.gradients: Parameters = {}

    def forward(self, x: Floating, training: bool) -> Floating:
        """Return ``weight * (x - mu) / sqrt(var + eps) + bias``."""
        self._x, self._training = x, training
        weight, bias = self.parameters["weight"], self.parameters["bias"]
        if not training:
            return batch_norm_inference(x, self.running.mean, self.running.var, weight, bias, eps=self.eps)
        self.running = self.running.update(x, self.momentum)
        return batch_norm(x, weight, bias, eps=self.eps)

    def backward(self, dy: Floating) -> Floating:
        """Return dx, through the statistics of the batch if the last forward pass used them."""
        x, weight = self._x, self.parameters["weight"]
        if self._training:
            dx, dweight, dbias = batch_norm_backward(dy, x, weight, eps=self.eps)
        else:
            mean, var = self.running.mean, self.running.var
            dx, dweight, dbias = batch_norm_inference_backward(dy, x, mean, var, weight, eps=self.eps)
        self.gradients = {"weight": dweight, "bias": dbias}
        return dx


class ReLU:
    """Keep what is positive: ``y = max(x, 0)``, with derivative 0 at 0."""

    def __init__(self) -> None:
        self.parameters: Parameters = {}
        self.gradients: Parameters = {}

    def forward(self, x: Floating, training: bool) -> Floating:
        """Return ``max(x, 0)``."""
        self._positive = x > 0
        return np.maximum(x, 0)

    def backward(self, dy: Floating) -> Floating:
        """Return dy where the input was positive."""
        return dy * self._positive


class Sigmoid:
    """Squash into (0, 1): ``y = 1 / (1 + exp(-x))``."""

    def __init__(self) -> None:
        self.parameters: Parameters = {}
        self.gradients: Parameters = {}

    def forward(self, x: Floating, training: bool) -> Floating:
        """Return ``(1 + tanh(x / 2)) / 2``, which is the same and does not overflow."""
        y: Floating = (1 + np.tanh(x / 2)) / 2
        self._y = y
        return y

    def backward(self, dy: Floating) -> Floating:
        """Return ``dy * y * (1 - y)``."""
        return dy * self._y * (1 - self._y)


class Tanh:
    """Squash into (-1, 1): ``y = tanh(x)``."""

    def __init__(self) -> None:
        self.parameters: Parameters = {}
        self.gradients: Parameters = {}

    def forward(self, x: Floating, training: bool) -> Floating:
        """Return ``tanh(x)``."""
        y: Floating = np.tanh(x)
        self._y = y
        return y

    def backward(self, dy: Floating) -> Floating:
        """Return ``dy * (1 - y**2)``."""
        return dy * (1 - self._y**2)


ACTIVATIONS: dict[Activation, type[ReLU] | type[Sigmoid] | type[Tanh]] = {
    "relu": ReLU,
    "sigmoid": Sigmoid,
    "tanh": Tanh,
}


class MLP:
    """A multilayer perceptron: Linear, BatchNorm if ``norm``, activation, ... and a last Linear.

    Args:
        widths: number of inputs, of units in each hidden layer, and of outputs.
        norm: normalize between each linear map and its activation.
        activation: ``"relu"``, ``"sigmoid"`` or ``"tanh"``.
        seed: of the initial weights.
        dtype: of parameters and running statistics.

    Attributes:
        layers: the layers, in order.

    Raises:
        ValueError: ``widths`` has fewer than 2 numbers or one below 1; ``activation`` is another word.
    """

    def __init__(
        self,
        widths: Sequence[int],
        norm: bool = True,
        activation: Activation = "relu",
        seed: int = 0,
        *,
        dtype: DTypeLike = np.float64,
    ):
        if len(widths) < 2 or min(widths) < 1:
            raise ValueError(f"expected 2 widths or more, each at least 1, got {tuple(widths)}")
        if activation not in ACTIVATIONS:
            raise ValueError(f"expected activation {', '.join(ACTIVATIONS)}, got {activation!r}")
        rng = np.random.default_rng(seed)
        self.layers: list[Layer] = []
        for inputs, outputs in pairwise(widths[:-1]):
            self.layers.append(Linear(inputs, outputs, rng, dtype))
            if norm:
                self.layers.append(BatchNorm(outputs, dtype=dtype))
            self.layers.append(ACTIVATIONS[activation]())
        self.layers.append(Linear(widths[-2], widths[-1], rng, dtype))

    def forward(self, x: Floating, training: bool = False) -> Floating:
        """Return the outputs, shape (N, K), for ``x`` of shape (N, inputs)."""
        for layer in self.layers:
            x = layer.forward(x, training)
        return x

    def backward(self, dlogits: Floating) -> Floating:
        """Return the gradient with respect to the last ``x``; set that of every parameter."""
        for layer in reversed(self.layers):
            dlogits = layer.backward(dlogits)
        return dlogits

    def parameters(self) -> Parameters:
        """Return the parameters, not copied, by the names of ``torch.nn.Sequential``: ``"0.weight"``, ..."""
        return {
            f"{i}.{name}": p for i, layer in enumerate(self.layers) for name, p in layer.parameters.items()
        }

    def gradients(self) -> Parameters:
        """Return the gradients of the last backward pass, by the names of the parameters."""
        return {
            f"{i}.{name}": g for i, layer in enumerate(self.layers) for name, g in layer.gradients.items()
        }

    def step(self, lr: float) -> None:
        """Move every parameter, in place, by ``-lr`` times its gradient."""
        gradients = self.gradients()
        for name, p in self.parameters().items():
            p -= lr * gradients[name]

    def loss_and_gradient(
        self, x: Floating, labels: NDArray[np.integer[Any]], training: bool = True
    ) -> tuple[float, Parameters]:
        """Run forward and backward through the cross-entropy; return the loss and the gradients by name."""
        loss, dlogits = softmax_cross_entropy(self.forward(x, training), labels)
        self.backward(dlogits)
        return loss, self.gradients()
