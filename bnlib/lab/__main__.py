"""Run and show experiments: ``python -m bnlib.lab run NAME --seeds 10``, ``list``, ``show NAME``."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from bnlib.lab import records, registry
from bnlib.lab.statistics import mean_interval


def main(arguments: Sequence[str] | None = None) -> int:
    """Do what the command line asks for; return the exit status."""
    parser = argparse.ArgumentParser(prog="python -m bnlib.lab", description="Run and show experiments.")
    parser.add_argument("--folder", type=Path, default=records.RESULTS, help="of the records")
    commands = parser.add_subparsers(dest="command", required=True)
    run = commands.add_parser("run", help="run experiments and write their records")
    run.add_argument("names", nargs="*", metavar="NAME", help="an experiment; none runs all without a record")
    run.add_argument("--seeds", type=int, help="number of seeds; by default that of the experiment")
    commands.add_parser("list", help="list all experiments")
    show = commands.add_parser("show", help="show a record: the mean over seeds with its 95%% interval")
    show.add_argument("name", metavar="NAME")
    options = parser.parse_args(arguments)
    try:
        if options.command == "run":
            run_all(options.names, options.seeds, options.folder)
        elif options.command == "list":
            print(listing(options.folder))
        else:
            print(table(records.load(options.name, options.folder)))
    except (ValueError, FileNotFoundError) as error:
        parser.error(str(error))
    except KeyboardInterrupt:
        print("Interrupted. The same command goes on from what is finished.", file=sys.stderr)
        return 130
    return 0


def run_all(names: Sequence[str], seeds: int | None, folder: Path) -> None:
    """Run the named experiments, or all that have no record."""
    known = registry.experiments()
    chosen = [registry.find(name) for name in names]
    if not names:
        chosen = [e for name, e in known.items() if name not in records.recorded(folder)]
    for experiment in chosen:
        record = records.run(experiment, seeds, folder)
        print(f"{experiment.name}: recorded, {len(record.seeds)} seeds")
    if not chosen:
        print("Every experiment has a record.")


def listing(folder: Path) -> str:
    """Lay out all experiments, a line each: name, what is recorded, and what it is about."""
    lines = []
    for name, experiment in registry.experiments().items():
        state = "no record"
        if name in records.recorded(folder):
            record = records.load(name, folder)
            state = f"{len(record.seeds)} seeds, {record.date}"
        lines.append(f"{name:<24}{state:<24}{experiment.about}")
    return "\n".join(lines)


def table(record: records.Record) -> str:
    """Lay out a record: for each part and metric the mean over seeds with its interval, one line a value."""
    seeds = ", ".join(map(str, record.seeds))
    lines = [f"{record.experiment}: seeds {seeds}; {record.date}; {record.device}"]
    for part, metrics in record.metrics.items():
        lines += ["", part]
        lines += [f"  {key}: {value}" for key, value in record.settings[part].items()]
        for name in metrics:
            values = record.metric(part, name)
            for place in np.ndindex(values.shape[1:]):
                index = "".join(f"[{i}]" for i in place)
                over_seeds = values[(slice(None),) + place].tolist()  # noqa: RUF005
                lines.append(f"  {name + index:<32}{mean_interval(over_seeds):.4g}")
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
