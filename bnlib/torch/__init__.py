"""Batch normalization for PyTorch: drop-in, more accurate, and checked against ``bnlib.reference``."""

from bnlib.torch.act import BatchNormAct, batch_norm_act
from bnlib.torch.distributed import SyncBatchNorm, convert_sync_batchnorm, sync_batch_norm
from bnlib.torch.functional import batch_norm, group_norm, instance_norm, layer_norm, rms_norm
from bnlib.torch.ghost import GhostBatchNorm, ghost_batch_norm
from bnlib.torch.modules import (
    BatchNorm1d,
    BatchNorm2d,
    BatchNorm3d,
    LazyBatchNorm1d,
    LazyBatchNorm2d,
    LazyBatchNorm3d,
)
from bnlib.torch.renorm import BatchRenorm, RenormSchedule, batch_renorm

__all__ = [
    "BatchNorm1d",
    "BatchNorm2d",
    "BatchNorm3d",
    "BatchNormAct",
    "BatchRenorm",
    "GhostBatchNorm",
    "LazyBatchNorm1d",
    "LazyBatchNorm2d",
    "LazyBatchNorm3d",
    "RenormSchedule",
    "SyncBatchNorm",
    "batch_norm",
    "batch_norm_act",
    "batch_renorm",
    "convert_sync_batchnorm",
    "ghost_batch_norm",
    "group_norm",
    "instance_norm",
    "layer_norm",
    "rms_norm",
    "sync_batch_norm",
]
