"""The page of the API names everything that is public, with its docstring."""

import importlib
import re

import pytest
from conftest import SITE

PACKAGES = [
    "bnlib.reference",
    "bnlib.torch",
    "bnlib.torch.kernels",
    "bnlib.torch.surgery",
    "bnlib.exercises",
    "bnlib.course",
]
NOT_CALLED = {"EXERCISES", "Exercise", "Mistake", "MAX_FRAMES", "COLORS"}


@pytest.fixture(scope="module")
def page():
    return (SITE / "chapters" / "api.html").read_text(encoding="utf-8")


@pytest.mark.parametrize("package", PACKAGES)
def test_every_public_name_is_there_with_its_docstring(page, package):
    module = importlib.import_module(package)
    names = set(module.__all__) - NOT_CALLED
    assert names
    for name in names:
        value = getattr(module, name)
        places = [f"{package}.{name}", f"bnlib.reference.{name}"]  # the latter for what it lends to others
        entry = next((p for p in places if f'id="{p}"' in page), None)
        assert entry, f"{package}.{name} is not on the page of the API"
        first = re.split(r"[`*\n]", value.__doc__.strip())[0].strip()
        section = page[page.index(f'id="{entry}"') :][:6000]
        assert first[:40].rstrip() in re.sub(r"<[^>]+>", "", section).replace("&#39;", "'"), entry


def test_docstrings_are_rendered(page):
    assert "Args:" not in page
    assert "Parameters" in page
