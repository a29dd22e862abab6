"""Change the package in thousands of small ways, one at a time, and count the changes that the tests notice.

mutmut makes the changes and runs the tests that call the changed function. The record says for each module
how many were noticed, and lists the others with what ``tools/mutants.yml`` says of them.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import platform
import re
import subprocess
import sys
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timezone
from importlib.metadata import version
from pathlib import Path
from typing import Any

import yaml
from tqdm import tqdm

from bnlib.atomic import replace

REPOSITORY = Path(__file__).parents[1]
MUTMUT = "3.8.1"
HOME = REPOSITORY / ".tools" / "mutmut"
WORK = REPOSITORY / "mutants"
RECORD = REPOSITORY / "benchmarks" / "results" / "mutation.json"
REASONS = Path(__file__).with_suffix(".yml")

PARAMETERS = 64
"""Of each test, so many of its parameters at most: what few of them notice, all do."""

ACROSS_PROCESSES = re.compile(r"bnlib\.torch\.(collective|distributed|surgery\.convert)\.")
"""Functions that the tests call in other processes, where mutmut does not see them."""

SEVERAL_PROCESSES = "tests/torch/test_distributed.py"

WHEN_LOADED = re.compile(r"bnlib\.exercises\.(answers|catalogue|exercise|inputs|clinic|patients)\.")
"""Functions that also run when the exercises are loaded, which is before mutmut chooses a mutant."""

ONLY_WHEN_LOADED = re.compile(r"bnlib\.exercises\.(answers|catalogue|inputs)\.")
"""Those of them that run at no other time."""

OF_WHAT_IS_LOADED = [
    f"tests/exercises/test_{name}.py"
    for name in ("outputs", "what_is_said", "checker", "malformed_answers", "clinic")
]
OUTCOMES = {0: "survived", 1: "killed", 3: "killed", 5: "no test", 33: "no test", None: "not tried"}
"""What mutmut's codes mean; any other is a mutant that ended its process or ran out of time."""


def environment() -> dict[str, str]:
    """Return the variables of a process that finds mutmut beside the packages of this environment."""
    path = os.pathsep.join(filter(None, [str(HOME), os.environ.get("PYTHONPATH")]))
    own = {"PYTHONPATH": path, "PARAMETERS_OF_EACH_TEST": str(PARAMETERS)}
    return {"OMP_NUM_THREADS": "1", **os.environ, **own}


def mutmut(*arguments: str) -> None:
    """Run mutmut."""
    command = [sys.executable, "-c", "from mutmut.__main__ import cli; cli()", *arguments]
    subprocess.run(command, cwd=REPOSITORY, env=environment(), check=True)


def install() -> None:
    """Install mutmut apart from the packages that the project needs."""
    if not (HOME / "mutmut").is_dir():
        uv = [sys.executable, "-m", "uv", "pip", "install", "--quiet", "--python", sys.executable]
        constraints = str(REPOSITORY / "constraints.txt")
        packages = ["--constraint", constraints, f"mutmut=={MUTMUT}"]
        subprocess.run([*uv, "--target", str(HOME), *packages], check=True)


def attach(statistics: dict[str, Any], functions: Sequence[str]) -> None:
    """Say which tests call the functions that run in other processes, and take these tests from all others.

    Args:
        statistics: as mutmut keeps them, changed in place.
        functions: names of all functions with mutants.
    """
    seconds, tests = statistics["duration_by_test"], statistics["tests_by_mangled_function_name"]
    several = sorted((test for test in seconds if test.startswith(SEVERAL_PROCESSES)), key=seconds.get)
    for function in {*functions, *tests}:
        found = tests.get(function, [])
        if ACROSS_PROCESSES.match(function):
            tests[function] = sorted({*found, *several}, key=lambda test: seconds.get(test, 0.0))
        elif function in tests:
            tests[function] = [test for test in found if test not in several] or found


def metadata() -> Iterator[tuple[str, dict[str, int | None]]]:
    """Yield each changed file, and the codes of its mutants by name."""
    for path in sorted((WORK / "bnlib").rglob("*.meta")):
        codes = json.loads(path.read_text(encoding="utf-8"))["exit_code_by_key"]
        yield path.relative_to(WORK).with_suffix("").as_posix(), codes


def change_codes(change: Callable[[str, int | None], int | None]) -> None:
    """Replace the code of each mutant by what ``change`` makes of its name and its code."""
    for path in (WORK / "bnlib").rglob("*.meta"):
        found = json.loads(path.read_text(encoding="utf-8"))
        codes = found["exit_code_by_key"]
        found["exit_code_by_key"] = {name: change(name, code) for name, code in codes.items()}
        replace(path, json.dumps(found).encode())


def differences(mutants: Sequence[tuple[str, str]]) -> list[list[str]]:
    """Return the lines that each mutant takes away and those that it adds, as a diff marks them.

    Args:
        mutants: file and name of each.
    """
    program = (
        "import json, sys; from mutmut.mutation.diff_apply import get_diff_for_mutant as diff;"
        "json.dump([diff(name, path=file) for file, name in json.load(sys.stdin)], sys.stdout)"
    )
    done = subprocess.run(
        [sys.executable, "-c", program],
        input=json.dumps(mutants),
        cwd=REPOSITORY,
        env=environment(),
        check=True,
        stdout=subprocess.PIPE,
        text=True,
    )
    marked = [
        [line for line in diff.splitlines() if re.match(r"[+-](?![+-]{2} )", line)]
        for diff in json.loads(done.stdout)
    ]
    return [[line[0] + line[1:].strip() for line in lines] for lines in marked]


def reason(name: str, lines: Sequence[str], rules: Mapping[str, Mapping[str, str]]) -> str | None:
    """Return why no test can notice a mutant, or None if no rule says so.

    Args:
        name: of the mutant, with its module.
        lines: those that it takes away and adds.
        rules: by the start of a name, "" for any: what is said of a pattern that one of the lines matches.
    """
    text = "\n".join(lines)
    for start, patterns in rules.items():
        if name.startswith(start):
            for pattern, why in patterns.items():
                if re.search(pattern, text, re.MULTILINE):
                    return why
    return None


def unnoticeable(rules: Mapping[str, Mapping[str, str]]) -> set[str]:
    """Return the mutants not tried that a rule says no test can notice; they count as survivors."""
    left = [(file, name) for file, codes in metadata() for name, code in codes.items() if code is None]
    return {
        name
        for (_, name), lines in zip(left, differences(left), strict=True)
        if reason(name, lines, rules) is not None
    }


def record(rules: Mapping[str, Mapping[str, str]]) -> dict[str, Any]:
    """Return counts by module, the share of mutants that were noticed, and all others with the reason."""
    counts: dict[str, Counter[str]] = defaultdict(Counter)
    left = []
    for file, codes in metadata():
        module = file.removesuffix(".py").replace("/", ".")
        for name, code in codes.items():
            outcome = OUTCOMES.get(code, "killed, by its end")
            counts[module][outcome] += 1
            if not outcome.startswith("killed"):
                left.append((file, name, outcome))
    changes = differences([(file, name) for file, name, _ in left])
    others = [
        {"name": name, "outcome": outcome, "change": lines, "reason": reason(name, lines, rules)}
        for (_, name, outcome), lines in zip(left, changes, strict=True)
    ]
    total = sum(sum(count.values()) for count in counts.values())
    return {
        "date": datetime.now(timezone.utc).date().isoformat(),
        "versions": {name: version(name) for name in ("numpy", "torch", "pytest")}
        | {"python": platform.python_version(), "mutmut": MUTMUT},
        "mutants": total,
        "killed": total - len(others),
        "share": round(1 - len(others) / total, 4),
        "equivalent": sum(other["reason"] is not None for other in others),
        "modules": {module: dict(sorted(count.items())) for module, count in sorted(counts.items()) if count},
        "survivors": others,
    }


def main(arguments: Sequence[str] | None = None) -> int:
    """Try the mutants that have not been tried on the present code, and write the record."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--again", action="store_true", help="try those again that no test noticed")
    parser.add_argument("--record", action="store_true", help="only write the record of what was tried")
    parser.add_argument("--workers", type=int, default=os.cpu_count() or 1, help="mutants at a time")
    chosen = parser.parse_args(arguments)
    install()
    if not chosen.record:
        run(chosen.workers, chosen.again)
    rules = yaml.safe_load(REASONS.read_text(encoding="utf-8"))
    found = record(rules)
    RECORD.parent.mkdir(exist_ok=True)
    replace(RECORD, (json.dumps(found, indent=1, ensure_ascii=False) + "\n").encode())
    print(f"{found['killed']} of {found['mutants']} mutants killed, {100 * found['share']:.1f} %")
    print(f"{found['equivalent']} of {len(found['survivors'])} survivors with a reason")
    return 0


def run(workers: int, again: bool) -> None:
    """Collect which test calls which function, then try the mutants; both are kept for the next time."""
    statistics = WORK / "mutmut-stats.json"
    rules = yaml.safe_load(REASONS.read_text(encoding="utf-8"))
    if again:
        statistics.unlink(missing_ok=True)  # new tests of old names call other functions
        change_codes(lambda name, code: code if code == 1 else None)
    mutmut("run", "--max-children", str(workers), "bnlib.reference.sums.x_sum_product__mutmut_9")
    found = json.loads(statistics.read_text(encoding="utf-8"))
    attach(found, [name.partition("__mutmut_")[0] for _, codes in metadata() for name in codes])
    replace(statistics, json.dumps(found).encode())
    without = unnoticeable(rules)
    change_codes(
        lambda name, code: 0 if code is None and (name in without or ONLY_WHEN_LOADED.match(name)) else code
    )
    mutmut("run", "--max-children", str(workers))
    run_loaded(workers, rules)


def run_loaded(workers: int, rules: Mapping[str, Mapping[str, str]]) -> None:
    """Try what mutmut found unnoticed among ``WHEN_LOADED`` in processes that load the exercises anew."""
    unnoticed = [
        (file, name)
        for file, codes in metadata()
        for name, code in codes.items()
        if WHEN_LOADED.match(name) and OUTCOMES.get(code) in ("survived", "no test")
    ]
    changes = zip(unnoticed, differences(unnoticed), strict=True)
    found = [(file, name) for (file, name), lines in changes if reason(name, lines, rules) is None]
    with ThreadPoolExecutor(workers) as pool, contextlib.ExitStack() as stack:
        stack.callback(pool.shutdown, cancel_futures=True)
        codes = pool.map(run_alone, [name for _, name in found])
        for (file, name), code in tqdm(zip(found, codes, strict=True), "loaded", len(found), unit="mutant"):
            if code == 1:
                path = WORK / f"{file}.meta"
                content = json.loads(path.read_text(encoding="utf-8"))
                content["exit_code_by_key"][name] = code
                replace(path, json.dumps(content).encode())


def run_alone(name: str) -> int:
    """Run the tests of the exercises in a process of their own; return the status of pytest."""
    command = [sys.executable, "-m", "pytest", "-x", "-q", "-p", "no:cacheprovider", *OF_WHAT_IS_LOADED]
    done = subprocess.run(
        command, cwd=WORK, env=environment() | {"MUTANT_UNDER_TEST": name}, capture_output=True
    )
    return min(done.returncode, 1)  # an error while loading is noticed too


if __name__ == "__main__":
    sys.exit(main())
