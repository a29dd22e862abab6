"""Every formula of the course, once, in NumPy alone. Slow and readable: the other backends answer to it."""

from bnlib.reference.moments import batch_norm_axes, center, moments
from bnlib.reference.normalize import (
    batch_norm,
    batch_norm_inference,
    group_norm,
    instance_norm,
    layer_norm,
    normalize,
    rms_norm,
)

__all__ = [
    "batch_norm",
    "batch_norm_axes",
    "batch_norm_inference",
    "center",
    "group_norm",
    "instance_norm",
    "layer_norm",
    "moments",
    "normalize",
    "rms_norm",
]
