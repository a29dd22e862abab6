import json
import random
import re
from html.parser import HTMLParser

import pytest
from IPython.core.interactiveshell import InteractiveShell
from IPython.utils.capture import capture_output
from traitlets.config import Config

from bnlib.course import quiz

QUESTIONS = {
    "Which axes does BN reduce for (N, C, H, W)?": {
        "N, H and W": "One mean for each channel.",
        "C": "That is a mean for each position of each sample.",
        "H and W": 'That is instance normalization: a < b & "c" isn\'t </div> here.',
    },
    "What does γ do?": {"It scales": "By γ.", "It shifts": "That is β."},
}


@pytest.fixture
def ask(monkeypatch, tmp_path):
    """Return a function that shows a quiz in an IPython shell and gives back the data of each output."""
    monkeypatch.setenv("IPYTHONDIR", str(tmp_path))
    InteractiveShell.instance(config=Config({"HistoryManager": {"enabled": False}}))

    def run(questions=QUESTIONS):
        with capture_output() as captured:
            quiz(questions)
        return [output.data for output in captured.outputs]

    yield run
    InteractiveShell.clear_instance()


def content(data):
    """Return the questions as the page receives them."""
    [found] = re.findall(r"var questions\w+ ?= ?(\[.*?\]);?\n", data["application/javascript"])
    return json.loads(found)


class Balance(HTMLParser):
    """Check that each element is closed, and in the right order."""

    def __init__(self, text):
        super().__init__()
        self.open, self.seen = [], []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag, attributes):
        self.open.append(tag)
        self.seen.append(tag)

    def handle_endtag(self, tag):
        assert self.open
        assert self.open.pop() == tag


PROGRAM = """
import json, random
from IPython.core.interactiveshell import InteractiveShell
from IPython.utils.capture import capture_output
from traitlets.config import Config
InteractiveShell.instance(config=Config({"HistoryManager": {"enabled": False}}))
from bnlib.course import quiz
random.seed()
with capture_output() as captured:
    quiz({"One?": {"1": "Yes.", "2": "No."}})
    quiz({"Two?": {"2": "Yes.", "1": "No."}})
print(json.dumps([output.data for output in captured.outputs]))
"""


def test_two_fresh_processes_display_the_same(two_fresh_processes):
    first, second = two_fresh_processes(PROGRAM)
    assert first == second
    assert len(first) == 4


def test_two_quizzes_on_a_page_have_different_elements(ask):
    one, two = (ask({"?": {answer: "Yes.", "no": "No."}})[0]["text/html"] for answer in "ab")
    assert set(re.findall(r'id="(\w+)"', one)).isdisjoint(re.findall(r'id="(\w+)"', two))


def test_the_global_random_numbers_go_on_as_if_nothing_was_shown(ask):
    random.seed(3)
    state = random.getstate()
    ask()
    assert random.getstate() == state


def test_every_element_is_closed(ask):
    page, _ = ask()
    balance = Balance(page["text/html"])
    assert "div" in balance.seen
    assert balance.open == []


def test_the_first_answer_is_the_right_one_and_each_has_its_feedback(ask):
    _, script = ask()
    shown = content(script)
    assert [question["question"] for question in shown] == list(QUESTIONS)
    for question in shown:
        answers = QUESTIONS[question["question"]]
        assert {a["answer"]: a["feedback"] for a in question["answers"]} == answers
        assert [a["correct"] for a in question["answers"]] == [
            answer == next(iter(answers)) for answer in answers
        ]


def test_each_output_says_in_words_what_it_is(ask):
    page, script = ask()
    assert set(page) == {"text/html", "text/plain"}
    assert set(script) == {"application/javascript", "text/plain"}
    assert page["text/plain"] == script["text/plain"] == "Quiz of 2 questions"


def test_the_quiz_has_the_books_colours(ask):
    page, _ = ask()
    assert re.search(r"--jq-multiple-choice-bg: ?#1d4e79", page["text/html"])


@pytest.mark.parametrize(
    ("questions", "message"),
    [
        ({}, "expected at least one question, got none"),
        ({"Why?": {"so": "Yes."}}, "expected at least two answers to 'Why?', got 1"),
        ({"A?": QUESTIONS["What does γ do?"], "B?": {}}, "expected at least two answers to 'B?', got 0"),
        (
            {"Why?": {"so": "Yes.", "or": " ", "not": ""}},
            "expected feedback for every answer to 'Why?', got none for ['or', 'not']",
        ),
    ],
)
def test_what_would_leave_a_reader_alone_is_refused(ask, questions, message):
    with pytest.raises(ValueError) as raised:  # noqa: PT011 - the whole message follows
        ask(questions)
    assert str(raised.value) == message
