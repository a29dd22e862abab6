import copy
import re

import nbformat
from canonical import canonical, write
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output

STATE = "application/vnd.jupyter.widget-state+json"


def stream(text, name="stdout"):
    return new_output("stream", text=text, name=name)


def picture(alt):
    return new_output("display_data", {"image/png": "AA=="}, metadata={"image/png": {"alt": alt}})


def executed():
    """Return a notebook as an execution leaves it."""
    notebook = new_notebook(
        cells=[
            new_markdown_cell("# Title\n", metadata={"collapsed": True}),
            new_code_cell(
                "print(1)",
                execution_count=7,
                metadata={
                    "execution": {"iopub.execute_input": "2026-01-01T00:00:00Z"},
                    "tags": ["remove-input", "hide-input"],
                    "ExecuteTime": {"start_time": "now"},
                    "scrolled": False,
                },
                outputs=[stream("a\n"), stream("b\n"), stream("w\n", "stderr"), stream("c\n")],
            ),
            new_code_cell(
                "\n1 + 1\n",
                execution_count=None,
                outputs=[new_output("execute_result", {"text/plain": "2"}, execution_count=9)],
                metadata={"jupyter": {"source_hidden": True}, "cellView": "form"},
            ),
            new_markdown_cell("print(1)"),
            new_code_cell("print(1)", execution_count=3, outputs=[picture("A line.")]),
            new_code_cell("print(1)", execution_count=3),
        ],
        metadata={
            "kernelspec": {"display_name": ".venv", "language": "python", "name": "venv"},
            "language_info": {"name": "python", "version": "3.11.7"},
            "widgets": {
                STATE: {
                    "state": {"id": {"model_name": "M", "state": {"a": None, "b": 0, "c": "", "d": False}}},
                    "version_major": 2,
                }
            },
            "signature": "secret",
        },
    )
    notebook.nbformat_minor = 4
    return notebook


def codes(notebook):
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


def ids(notebook):
    return [cell.id for cell in notebook.cells]


def text_of(notebook):
    return nbformat.writes(notebook, version=nbformat.NO_CONVERT, sort_keys=True)


def test_the_second_time_changes_nothing():
    once = canonical(executed())
    again = canonical(copy.deepcopy(once))
    assert again == once
    assert text_of(again) == text_of(once)


def test_it_is_a_valid_notebook_of_the_current_format():
    notebook = canonical(executed())
    nbformat.validate(notebook)
    assert (notebook.nbformat, notebook.nbformat_minor) == (4, 5)


def test_no_trace_of_when_and_where_it_was_executed_is_left():
    notebook = canonical(executed())
    assert notebook.metadata.kernelspec == {
        "display_name": "Python 3",
        "language": "python",
        "name": "python3",
    }
    assert notebook.metadata.language_info == {"name": "python"}
    assert set(notebook.metadata) == {"kernelspec", "language_info", "widgets"}
    for volatile in (
        "2026",
        "execut" + 'ion"',
        "ExecuteTime",
        "scrolled",
        "collapsed",
        "venv",
        "3.11.7",
        "secret",
    ):
        assert volatile not in text_of(notebook)


def test_metadata_that_the_book_uses_is_kept():
    _, first, second, *_ = canonical(executed()).cells
    assert first.metadata == {"tags": ["hide-input", "remove-input"]}
    assert second.metadata == {"jupyter": {"source_hidden": True}, "cellView": "form"}


def test_empty_lines_around_a_cell_are_dropped():
    notebook = canonical(executed())
    assert [cell.source for cell in notebook.cells[:3]] == ["# Title", "print(1)", "1 + 1"]


def test_counts_run_from_one_and_results_follow():
    notebook = canonical(executed())
    assert [cell.execution_count for cell in codes(notebook)] == [1, 2, 3, 4]
    assert codes(notebook)[1].outputs[0].execution_count == 2


def test_ids_are_unique_and_follow_from_the_text():
    notebook = canonical(executed())
    assert len(set(ids(notebook))) == len(notebook.cells)
    assert ids(notebook) == ids(canonical(executed()))
    code, markdown = ids(notebook)[1], ids(notebook)[3]
    assert code != markdown  # of the same text
    assert ids(notebook)[4:] == [f"{code}-2", f"{code}-3"]


def test_an_id_changes_with_its_own_cell_only():
    before, after = canonical(executed()), executed()
    after.cells[2].source = "1 + 2"
    after.cells.insert(0, new_markdown_cell("new"))
    assert [a == b for a, b in zip(ids(before), ids(canonical(after))[1:], strict=True)] == [
        True,
        True,
        False,
        True,
        True,
        True,
    ]


def test_ids_do_not_depend_on_the_repositorys_address():
    found = set()
    for slug in ("OWNER/REPOSITORY", "acme-lab/course.notes"):
        install = f'%pip install "bnlib @ git+https://github.com/{slug}"'
        found.add(tuple(ids(canonical(new_notebook(cells=[new_code_cell(install)])))))
    assert len(found) == 1
    other = canonical(new_notebook(cells=[new_code_cell("%pip install bnlib")]))
    assert tuple(ids(other)) not in found


def test_alt_text_is_carried_to_the_cell_and_follows_the_figure():
    notebook = canonical(executed())
    cell = notebook.cells[4]
    assert cell.metadata == {"mystnb": {"image": {"alt": "A line."}}}
    cell.outputs = [picture("Another line.")]
    assert canonical(notebook).cells[4].metadata.mystnb.image.alt == "Another line."
    cell.outputs = []
    assert "mystnb" not in canonical(notebook).cells[4].metadata


def test_other_settings_of_the_renderer_are_kept_beside_the_alt_text():
    cell = new_code_cell(
        "f()", outputs=[picture("A line.")], metadata={"mystnb": {"remove_code_source": True}}
    )
    [cell] = canonical(new_notebook(cells=[cell])).cells
    assert cell.metadata.mystnb == {"remove_code_source": True, "image": {"alt": "A line."}}


def test_streams_that_the_kernel_split_are_joined():
    outputs = canonical(executed()).cells[1].outputs
    assert [(o.name, o.text) for o in outputs] == [("stdout", "a\nb\n"), ("stderr", "w\n"), ("stdout", "c\n")]


def test_widgets_lose_their_nulls_and_nothing_else():
    state = canonical(executed()).metadata.widgets[STATE]
    assert state == {
        "state": {"id": {"model_name": "M", "state": {"b": 0, "c": "", "d": False}}},
        "version_major": 2,
    }


def test_write_stores_sorted_readable_text_with_one_newline_at_its_end(tmp_path):
    path = tmp_path / "a.ipynb"
    notebook = canonical(new_notebook(cells=[new_markdown_cell("σ²")]))
    assert write(notebook, path)
    text = path.read_text(encoding="utf-8")
    assert "σ²" in text
    assert text.endswith("}\n")
    assert not text.endswith("\n\n")
    assert re.findall(r'^ "(\w+)"', text, re.MULTILINE) == ["cells", "metadata", "nbformat", "nbformat_minor"]
    assert nbformat.read(path, as_version=4) == notebook
    assert [p.name for p in tmp_path.iterdir()] == ["a.ipynb"]


def test_unchanged_content_leaves_the_file_untouched(tmp_path):
    path = tmp_path / "a.ipynb"
    notebook = canonical(executed())
    assert write(notebook, path)
    before = path.stat()
    assert not write(canonical(notebook), path)
    after = path.stat()
    assert (after.st_mtime_ns, after.st_ino) == (before.st_mtime_ns, before.st_ino)
    notebook.cells[0].source += "!"
    assert write(notebook, path)
    assert path.stat().st_ino != before.st_ino
