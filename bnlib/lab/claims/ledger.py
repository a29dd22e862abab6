"""The claims of the course, and the verdict that the records give on each."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from bnlib.lab import verdicts
from bnlib.lab.claims import (
    covariate_shift,
    depth,
    family,
    learning_rates,
    overall,
    recurrent,
    regularization,
    shift,
    small_batches,
    transform,
)
from bnlib.lab.records import RESULTS, load
from bnlib.lab.verdicts import SIDES, Comparison, Part, verdict

__all__ = ["LEDGER", "Claim", "details", "overview", "report"]


@dataclass(frozen=True)
class Claim:
    """What is said about batch normalization, and how the records judge it.

    Attributes:
        name: C1 to C12.
        said: the claim, as a widely read account has it.
        chapters: the names of the notebooks that derive and measure it.
        records: names of the experiments that it rests on.
        rule: a function of their records, in this order, that returns the parts of the judgement.
    """

    name: str
    said: str
    chapters: Sequence[str]
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
        ["02-forward-pass", "03-computing-the-moments", "04-backward-pass"],
        ["transform"],
        transform.judge_definition,
    ),
    Claim(
        "C2",
        "A scale γ and a shift β are learned per activation and let the layer choose its own scale.",
        ["02-forward-pass", "05-geometry-of-the-jacobian"],
        ["transform"],
        transform.judge_scale,
    ),
    Claim(
        "C3",
        "Its purpose: it reduces internal covariate shift.",
        ["08-covariate-shift"],
        ["covariate_shift"],
        covariate_shift.judge,
    ),
    Claim(
        "C4",
        "BN also normalizes across the features of each sample.",
        ["02-forward-pass", "16-the-family"],
        ["transform"],
        transform.judge_across_features,
    ),
    Claim(
        "C5",
        "Training converges faster; higher learning rates do not diverge.",
        ["09-learning-rates", "10-smoothness"],
        ["learning_rates"],
        learning_rates.judge,
    ),
    Claim(
        "C6",
        "It regularizes: less overfitting, less need for dropout.",
        ["12-noise"],
        ["regularization"],
        regularization.judge,
    ),
    Claim("C7", "It prevents vanishing and exploding gradients.", ["11-depth"], ["depth"], depth.judge),
    Claim(
        "C8",
        "Small batches give poor statistics and hurt.",
        ["13-small-batches"],
        ["small_batches"],
        small_batches.judge,
    ),
    Claim(
        "C9", "It fits recurrent networks badly.", ["14-recurrent-networks"], ["recurrent"], recurrent.judge
    ),
    Claim(
        "C10",
        "At inference running statistics stand in for those of the batch, which can disagree, most under "
        "distribution shift.",
        ["06-running-statistics", "15-distribution-shift"],
        ["distribution_shift"],
        shift.judge,
    ),
    Claim(
        "C11",
        "Layer or instance norm can be preferable; it depends on architecture and data.",
        ["16-the-family"],
        ["family"],
        family.judge,
    ),
    Claim(
        "C12",
        "It makes networks easier to train overall: speed, stability, convergence.",
        ["01-why-normalize", "09-learning-rates", "11-depth"],
        ["learning_rates", "depth"],
        overall.judge,
    ),
)


def report(name: str, folder: Path = RESULTS) -> str:
    """Write the statements of a claim, such as ``C3``, with the counts of comparisons, and the verdict.

    Raises:
        ValueError: there is no such claim.
        FileNotFoundError: a record is missing.
    """
    claims = {claim.name: claim for claim in LEDGER}
    if name not in claims:
        raise ValueError(f"expected a claim {', '.join(claims)}, got {name!r}")
    return verdicts.report(claims[name].judge(folder))


def overview(claims: Sequence[Claim] = LEDGER, folder: Path = RESULTS) -> str:
    """Write a table in Markdown: a row for each claim, with its chapters and its verdict."""
    rows = ["| | what is said | chapters | verdict |", "|---|---|---|---|"]
    for claim in claims:
        links = ", ".join(f"[{int(name[:2])}]({name}.ipynb)" for name in claim.chapters)
        rows.append(f"| {claim.name} | {claim.said} | {links} | **{claim.verdict(folder)}** |")
    return "\n".join(rows)


def details(claim: Claim, folder: Path = RESULTS) -> str:
    """Write a table in Markdown: a row for each statement of a claim, with its effects and its verdict.

    Of more than three comparisons of one effect, those with the smallest and the largest mean are shown.
    """
    if missing := claim.missing(folder):
        return f"No verdict yet: there is no record of {', '.join(missing)}."
    rows = ["| statement | effect, with 95 % interval | comparisons | verdict |", "|---|---|---|---|"]
    for part in claim.judge(folder):
        counts = ", ".join(f"{part.count(side)} {side}" for side in SIDES if part.count(side))
        rows.append(f"| {part.statement} | {effects(part)} | {counts} | {part.verdict} |")
    return "\n".join(rows)


def effects(part: Part) -> str:
    """Write the effects of a part: each name once, then its values with where they were found."""
    kinds: dict[str, list[Comparison]] = {}
    for comparison in part.comparisons:
        kinds.setdefault(comparison.what, []).append(comparison)
    texts = []
    for what, comparisons in kinds.items():
        shown = comparisons
        if len(comparisons) > 3:
            ordered = sorted(comparisons, key=lambda c: c.effect.mean)
            shown = [ordered[0], ordered[-1]]
        values = [f"{c.where.replace('|', 'and')} {c.effect:.3g}" for c in shown]
        texts.append(f"*{what}*: {('; ' if shown is comparisons else ' … ').join(values)}")
    return "<br>".join(texts)
