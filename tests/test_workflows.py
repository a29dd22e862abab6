import re
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[1]
WORKFLOWS = sorted((ROOT / ".github" / "workflows").glob("*.y*ml"))
PINNED = re.compile(r"[\w.-]+/[\w./-]+@[0-9a-f]{40} # v\d+\.\d+\.\d+")
# In YAML 1.1 the key `on` is a boolean.
ON = True


def read(path):
    return yaml.safe_load(path.read_text(encoding="utf-8"))


def steps(workflow):
    return [step for job in workflow["jobs"].values() for step in job["steps"]]


def commands(workflow):
    return [step["run"] for step in steps(workflow) if "run" in step]


@pytest.fixture(params=WORKFLOWS, ids=lambda path: path.name)
def path(request):
    return request.param


@pytest.fixture
def workflow(path):
    return read(path)


def test_there_are_four_workflows():
    assert [path.name for path in WORKFLOWS] == ["links.yml", "newest.yml", "pages.yml", "test.yml"]


def test_every_action_is_pinned_to_a_commit_and_names_its_version(path, workflow):
    written = re.findall(r"\buses:\s*(.*)", path.read_text(encoding="utf-8"))
    assert [use.split(" #")[0] for use in written] == [
        step["uses"] for step in steps(workflow) if "uses" in step
    ]
    assert [use for use in written if not PINNED.fullmatch(use)] == []


def test_one_action_is_pinned_to_one_commit_in_all_workflows():
    pins = {step["uses"] for path in WORKFLOWS for step in steps(read(path)) if "uses" in step}
    assert len({pin.split("@")[0] for pin in pins}) == len(pins)


def test_permissions_are_least(path, workflow):
    assert workflow["permissions"] in ({"contents": "read"}, {})
    granted = {name: job["permissions"] for name, job in workflow["jobs"].items() if "permissions" in job}
    report = {"report": {"issues": "write"}}
    expected = {
        "pages.yml": {"deploy": {"pages": "write", "id-token": "write"}},
        "links.yml": report,
        "newest.yml": report,
    }
    assert granted == expected.get(path.name, {})
    assert "write-all" not in path.read_text(encoding="utf-8")


def test_nothing_runs_with_the_rights_of_the_repository_on_foreign_code(workflow):
    assert set(workflow[ON]) <= {"push", "pull_request", "schedule", "workflow_dispatch"}


def test_no_expression_of_an_event_reaches_a_shell(workflow):
    assert [command for command in commands(workflow) if "${{" in command] == []


def test_the_checkout_keeps_no_credentials(workflow):
    checkouts = [step for step in steps(workflow) if step.get("uses", "").startswith("actions/checkout@")]
    assert checkouts
    assert all(step["with"]["persist-credentials"] is False for step in checkouts)


def test_every_job_ends(workflow):
    assert all(job["timeout-minutes"] <= 60 for job in workflow["jobs"].values())


def test_the_tests_run_on_every_supported_python():
    workflow = read(ROOT / ".github/workflows/test.yml")
    assert set(workflow[ON]) == {"push", "pull_request"}
    job = workflow["jobs"]["test"]
    assert job["strategy"]["matrix"]["python"] == ["3.10", "3.11", "3.12", "3.13", "3.14"]
    assert commands({"jobs": {"test": job}}) == ["make lint test"]


@pytest.mark.parametrize(
    ("name", "job", "uploaded"),
    [
        ("test.yml", "book", ["dist/batch-normalization.zip", "_build/screenshots"]),
        ("pages.yml", "build", ["_build/html"]),
    ],
)
def test_the_site_is_tested_before_it_is_uploaded(name, job, uploaded):
    listed = read(ROOT / ".github/workflows" / name)["jobs"][job]["steps"]
    check = next(i for i, step in enumerate(listed) if step.get("run") == ".ci/run")
    uploads = [step for step in listed if step.get("uses", "").startswith("actions/upload-")]
    assert [step["with"]["path"] for step in uploads] == uploaded
    assert all(listed.index(step) > check for step in uploads)


@pytest.mark.parametrize(
    ("name", "job", "command"),
    [
        ("newest.yml", "chapters", "make test-colab NEWEST=1"),
        ("newest.yml", "audit", "make audit"),
        ("links.yml", "check", "make linkcheck"),
    ],
)
def test_what_others_can_break_is_checked_on_a_schedule_and_reported(name, job, command):
    workflow = read(ROOT / ".github/workflows" / name)
    minute, hour, *days = workflow[ON]["schedule"][0]["cron"].split()
    assert (minute.isdigit(), hour.isdigit()) == (True, True)
    assert days != ["*", "*", "*"]
    assert workflow["jobs"][job]["steps"][-1]["run"] == command
    report = workflow["jobs"]["report"]
    needs = report["needs"]
    assert job in ([needs] if isinstance(needs, str) else needs)
    assert report["if"] == "${{ failure() }}"
    assert "gh issue create" in report["steps"][0]["run"]
    assert not [step for step in report["steps"] if "uses" in step]


def test_the_site_is_deployed_from_main_alone_after_it_is_built():
    workflow = read(ROOT / ".github/workflows/pages.yml")
    assert workflow[ON]["push"] == {"branches": ["main"]}
    assert workflow["concurrency"] == {"group": "pages", "cancel-in-progress": False}
    assert workflow["jobs"]["deploy"]["needs"] == "build"
