"""Change the batch norms of a finished model: exchange them, fold them away, or renew their statistics."""

from bnlib.torch.surgery.convert import Change, Conversion, Skip, convert
from bnlib.torch.surgery.fold import Fold, Folding, Refusal, fold_batch_norm
from bnlib.torch.surgery.recompute import Recomputation, recompute_statistics

__all__ = [
    "Change",
    "Conversion",
    "Fold",
    "Folding",
    "Recomputation",
    "Refusal",
    "Skip",
    "convert",
    "fold_batch_norm",
    "recompute_statistics",
]
