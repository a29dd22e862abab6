from pathlib import Path

import pytest
import yaml

import bnlib

ROOT = Path(__file__).parents[1]
TITLE = "Batch Normalization, Derived and Measured"
# What the schema of Citation File Format 1.2.0 knows.
KEYS = {
    "abstract",
    "authors",
    "cff-version",
    "commit",
    "contact",
    "date-released",
    "doi",
    "identifiers",
    "keywords",
    "license",
    "license-url",
    "message",
    "preferred-citation",
    "references",
    "repository",
    "repository-artifact",
    "repository-code",
    "title",
    "type",
    "url",
    "version",
}
REQUIRED = {"cff-version", "message", "title", "authors"}
ENTITY_KEYS = {
    "address",
    "alias",
    "city",
    "country",
    "date-end",
    "date-start",
    "email",
    "fax",
    "location",
    "name",
    "orcid",
    "post-code",
    "region",
    "tel",
    "website",
}


@pytest.fixture(scope="module")
def citation():
    return yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))


def test_the_citation_is_valid(citation):
    assert set(citation) <= KEYS
    assert set(citation) >= REQUIRED
    assert citation["cff-version"] == "1.2.0"
    assert citation["type"] in {"software", "dataset"}
    assert citation["title"] == TITLE
    for key in ("message", "title", "abstract", "version", "license", "repository-code", "url"):
        assert isinstance(citation[key], str)
    assert all(isinstance(word, str) for word in citation["keywords"])


def test_the_authors_are_an_entity_that_bears_the_name_of_the_project(citation):
    assert len(citation["authors"]) == 1
    for author in citation["authors"]:
        assert set(author) <= ENTITY_KEYS
        assert TITLE in author["name"]


def test_the_version_is_that_of_the_package(citation):
    assert citation["version"] == bnlib.__version__


def test_the_licences_are_those_that_the_metadata_name(citation):
    assert citation["license"] == "MIT"
    licence = (ROOT / "LICENSE").read_text(encoding="utf-8")
    assert licence.startswith("MIT License\n\nCopyright (c) ")
    assert citation["authors"][0]["name"] in licence
    assert "https://creativecommons.org/licenses/by/4.0/" in (ROOT / "LICENSE-TEXT.md").read_text("utf-8")
