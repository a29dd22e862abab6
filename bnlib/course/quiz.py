"""Multiple-choice questions, answered on the page."""

import hashlib
import json
import random
from collections.abc import Mapping
from typing import Any

import jupyterquiz
from IPython.display import display
from IPython.utils.capture import capture_output

_COLORS = {
    "--jq-multiple-choice-bg": "#1d4e79",
    "--jq-mc-button-bg": "#f4f6f8",
    "--jq-mc-button-border": "#c4ccd4",
    "--jq-mc-button-inset-shadow": "#8a949e",
    "--jq-incorrect-color": "#a4260b",
    "--jq-correct-color": "#0b6b47",
    "--jq-text-color": "#ffffff",
    "--jq-link-color": "#cfe3f5",
}


def quiz(questions: Mapping[str, Mapping[str, str]]) -> None:
    """Display questions that answer at once, with a kernel and without one.

    Args:
        questions: question to answers; each answer maps to the feedback that a reader sees after choosing
            it. The first answer is the right one; the page shuffles them.

    Raises:
        ValueError: no question, fewer than two answers, or an answer without feedback.
    """
    _validate(questions)
    content = [_question(text, answers) for text, answers in questions.items()]
    # jupyterquiz draws the id of its element from the global generator.
    state = random.getstate()
    random.seed(hashlib.sha256(json.dumps(content).encode()).digest())
    try:
        with capture_output() as captured:
            jupyterquiz.display_quiz(content, colors=_COLORS, border_radius=8, max_width=720)
    finally:
        random.setstate(state)
    for output in captured.outputs:
        data = dict(output.data)
        if "text/html" in data:
            data["text/html"] += "</div>"  # left open by jupyterquiz, which unsettles a page around it
        data["text/plain"] = f"Quiz of {len(content)} questions"
        display(data, raw=True)


def _validate(questions: Mapping[str, Mapping[str, str]]) -> None:
    if not questions:
        raise ValueError("expected at least one question, got none")
    for text, answers in questions.items():
        if len(answers) < 2:
            raise ValueError(f"expected at least two answers to {text!r}, got {len(answers)}")
        if silent := [answer for answer, feedback in answers.items() if not feedback.strip()]:
            raise ValueError(f"expected feedback for every answer to {text!r}, got none for {silent}")


def _question(text: str, answers: Mapping[str, str]) -> dict[str, Any]:
    return {
        "question": text,
        "type": "multiple_choice",
        "answers": [
            {"answer": answer, "correct": i == 0, "feedback": feedback}
            for i, (answer, feedback) in enumerate(answers.items())
        ],
    }
