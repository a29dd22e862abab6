"""What errors say: the list of all texts, so that each can be read, and none changes unseen.

``python tests/bad_input/test_messages.py`` writes the list anew.
"""

import re
import sys
from pathlib import Path

if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).parent))

from calls import CALLS
from test_bad_input import outcome, ways

MESSAGES = Path(__file__).with_name("messages.txt")
OF_A_LIBRARY = re.compile(r"Tensor-likes.*|(?<=an error from it: ).*", re.DOTALL)


def messages() -> list[str]:
    """Return the texts of the errors for one spoiled argument, sorted, a line for each that is expected.

    Numbers are left out; of what came instead, the first in the alphabet stands for all.
    """
    found: dict[str, str] = {}
    for name, call in CALLS.items():
        for argument, good in call.arguments().items():
            for way in ways(name, good):
                error = outcome(call.function, call.arguments() | {argument: way.value})[1]
                if error is not None and not isinstance(error, MemoryError):
                    text = OF_A_LIBRARY.sub("...", f"{type(error).__name__}: {error}")
                    text = re.sub(r"-?\b\d[\d.]*(e[+-]?\d+)?", "#", text)
                    text = re.sub(r"#(, #)+", "#", text)
                    expected, _, got = text.partition(", got ")
                    found[expected] = min(found.get(expected, got), got)
    return [f"{expected}, got {got}" for expected, got in sorted(found.items())]


def test_errors_say_what_is_listed() -> None:
    assert messages() == MESSAGES.read_text(encoding="utf-8").splitlines()


if __name__ == "__main__":
    MESSAGES.write_text("\n".join(messages()) + "\n", encoding="utf-8")
