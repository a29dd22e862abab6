"""Every formula of the course, once, in NumPy alone. Slow and readable: the other backends answer to it."""

from bnlib.reference.backward import (
    batch_norm_backward,
    batch_norm_inference_backward,
    group_norm_backward,
    instance_norm_backward,
    layer_norm_backward,
    normalize_backward,
    rms_norm_backward,
)
from bnlib.reference.backward_by_graph import batch_norm_backward_by_graph, batch_norm_backward_detached
from bnlib.reference.depth import linear_growth, relu_growth
from bnlib.reference.double_backward import normalize_double_backward
from bnlib.reference.ghost import (
    count_ghost_batches,
    ghost_batch_norm,
    ghost_batch_norm_backward,
    ghost_batches,
    update_by_ghost_batches,
)
from bnlib.reference.gradcheck import GradientReport, central_difference, check_gradient, complex_step
from bnlib.reference.jacobian import hessian_vector_product, jacobian, jvp, projector, vjp
from bnlib.reference.moments import (
    batch_norm_axes,
    center,
    moments,
    one_pass_moments,
    shifted_one_pass_moments,
    two_pass_moments,
)
from bnlib.reference.network import MLP, softmax_cross_entropy
from bnlib.reference.normalize import (
    batch_norm,
    batch_norm_inference,
    group_norm,
    instance_norm,
    layer_norm,
    normalize,
    rms_norm,
)
from bnlib.reference.renorm import (
    RenormSchedule,
    batch_renorm,
    batch_renorm_backward,
    renorm_correction,
    update_renorm,
)
from bnlib.reference.running import RunningStatistics, update_running
from bnlib.reference.streaming_moments import Moments, merge, merge_all, welford
from bnlib.reference.weight_norm import weight_norm, weight_norm_backward

__all__ = [
    "MLP",
    "GradientReport",
    "Moments",
    "RenormSchedule",
    "RunningStatistics",
    "batch_norm",
    "batch_norm_axes",
    "batch_norm_backward",
    "batch_norm_backward_by_graph",
    "batch_norm_backward_detached",
    "batch_norm_inference",
    "batch_norm_inference_backward",
    "batch_renorm",
    "batch_renorm_backward",
    "center",
    "central_difference",
    "check_gradient",
    "complex_step",
    "count_ghost_batches",
    "ghost_batch_norm",
    "ghost_batch_norm_backward",
    "ghost_batches",
    "group_norm",
    "group_norm_backward",
    "hessian_vector_product",
    "instance_norm",
    "instance_norm_backward",
    "jacobian",
    "jvp",
    "layer_norm",
    "layer_norm_backward",
    "linear_growth",
    "merge",
    "merge_all",
    "moments",
    "normalize",
    "normalize_backward",
    "normalize_double_backward",
    "one_pass_moments",
    "projector",
    "relu_growth",
    "renorm_correction",
    "rms_norm",
    "rms_norm_backward",
    "shifted_one_pass_moments",
    "softmax_cross_entropy",
    "two_pass_moments",
    "update_by_ghost_batches",
    "update_renorm",
    "update_running",
    "vjp",
    "weight_norm",
    "weight_norm_backward",
    "welford",
]
