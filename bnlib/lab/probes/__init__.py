"""What to measure of a network in training or at rest.

A probe takes a network and a ``Moment`` of one run and returns a tensor; ``bnlib.lab.train`` maps it over all
runs. What needs more than a moment (many batches, a representation) is a function of its own.
"""

from bnlib.lab.probes.depth import gradient_norms, rank_bound, residual_share, soft_rank
from bnlib.lab.probes.landscape import along_gradient, along_relative_gradient, relative_step
from bnlib.lab.probes.places import activation_gradients, activations, block_names, weight_names
from bnlib.lab.probes.sampling import batch_gradients, batch_moments, noise
from bnlib.lab.probes.scale import steps_on_sphere
from bnlib.lab.probes.shift import gradient_shift, moment_shift, shift_of_moments, unit_moments
from bnlib.lab.probes.time import state_gradients

__all__ = [
    "activation_gradients",
    "activations",
    "along_gradient",
    "along_relative_gradient",
    "batch_gradients",
    "batch_moments",
    "block_names",
    "gradient_norms",
    "gradient_shift",
    "moment_shift",
    "noise",
    "rank_bound",
    "relative_step",
    "residual_share",
    "shift_of_moments",
    "soft_rank",
    "state_gradients",
    "steps_on_sphere",
    "unit_moments",
    "weight_names",
]
