"""The claims of the course, and the verdict that the records give on each."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from bnlib.lab.claims import covariate_shift, depth, learning_rates, overall, regularization, transform
from bnlib.lab.records import RESULTS, load
from bnlib.lab.verdicts import Part, verdict

__all__ = ["LEDGER", "Claim"]


@dataclass(frozen=True)
class Claim:
    """What is said about batch normalization, and how the records judge it.

    Attributes:
        name: C1 to C12.
        said: the claim, as a widely read account has it.
        records: names of the experiments that it rests on.
        rule: a function of their records, in this order, that returns the parts of the judgement.
    """

    name: str
    said: str
    records: Sequence[str]
    rule: Callable[..., Sequence[Part]]

    def missing(self, folder: Path = RESULTS) -> list[str]:
        """Return the names of the records that are not in ``folder``."""
        return [name for name in self.records if not (folder / f"{name}.json").is_file()]

    def judge(self, folder: Path = RESULTS) -> Sequence[Part]:
        """Judge by the records in ``folder``.

        Raises:
            FileNotFoundError: a record is missing; says how to make it.
        """
        return self.rule(*(load(name, folder) for name in self.records))

    def verdict(self, folder: Path = RESULTS) -> str:
        """Return the verdict, or which records it waits for."""
        if missing := self.missing(folder):
            return f"open: no record of {', '.join(missing)}"
        return verdict(self.judge(folder))


LEDGER = (
    Claim(
        "C1",
        "BN subtracts the mean of the mini-batch and divides by its standard deviation, per feature.",
        ["transform"],
        transform.judge_definition,
    ),
    Claim(
        "C2",
        "A scale γ and a shift β are learned per activation and let the layer choose its own scale.",
        ["transform"],
        transform.judge_scale,
    ),
    Claim(
        "C3", "Its purpose: it reduces internal covariate shift.", ["covariate_shift"], covariate_shift.judge
    ),
    Claim(
        "C4",
        "BN also normalizes across the features of each sample.",
        ["transform"],
        transform.judge_across_features,
    ),
    Claim(
        "C5",
        "Training converges faster; higher learning rates do not diverge.",
        ["learning_rates"],
        learning_rates.judge,
    ),
    Claim(
        "C6",
        "It regularizes: less overfitting, less need for dropout.",
        ["regularization"],
        regularization.judge,
    ),
    Claim("C7", "It prevents vanishing and exploding gradients.", ["depth"], depth.judge),
    Claim(
        "C12",
        "It makes networks easier to train overall: speed, stability, convergence.",
        ["learning_rates", "depth"],
        overall.judge,
    ),
)
