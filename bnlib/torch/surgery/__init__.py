"""Change the batch norms of a finished model: exchange them or fold them away."""

from bnlib.torch.surgery.convert import Change, Conversion, Skip, convert
from bnlib.torch.surgery.fold import Fold, Folding, Refusal, fold_batch_norm

__all__ = ["Change", "Conversion", "Fold", "Folding", "Refusal", "Skip", "convert", "fold_batch_norm"]
