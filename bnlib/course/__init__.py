"""What the pages need around the mathematics: a session that repeats, figures, sliders and quizzes."""

from bnlib.course.compare import same
from bnlib.course.explore import MAX_FRAMES, explore
from bnlib.course.figures import COLORS, show
from bnlib.course.quiz import quiz
from bnlib.course.session import setup

__all__ = ["COLORS", "MAX_FRAMES", "explore", "quiz", "same", "setup", "show"]
