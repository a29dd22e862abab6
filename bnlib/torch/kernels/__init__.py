"""Batch norm on the GPU near the limit of its memory: kernels in Triton, and when to use them.

``bnlib.torch.batch_norm`` and ``bnlib.torch.BatchNormAct`` come here with what ``suits`` accepts. Importing
this package does not import Triton; the first call does.
"""

from bnlib.torch.kernels.autograd import batch_norm
from bnlib.torch.kernels.dispatch import suits

__all__ = ["batch_norm", "suits"]
