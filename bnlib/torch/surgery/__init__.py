"""Change the batch norms of a finished model."""

from bnlib.torch.surgery.convert import Change, Conversion, Skip, convert

__all__ = ["Change", "Conversion", "Skip", "convert"]
