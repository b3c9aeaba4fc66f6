"""The Python of docs/python.md and of the README, run as it stands in the pages."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


def blocks(page: str) -> list[str]:
    """The blocks of Python, but those that need something that is not there."""
    return re.findall(r"^(?<!-->\n)```python\n(.*?)^```", page, flags=re.MULTILINE | re.DOTALL)


@pytest.mark.slow
def test_the_page_runs_from_top_to_bottom(capsys):
    names: dict[str, object] = {}
    found = blocks((ROOT / "docs/python.md").read_text())
    assert len(found) == 4
    for block in found:
        exec(block, names)
    assert "code_0" in capsys.readouterr().out
    assert names["action"] in range(7)
    assert names["agents"]["hunter_1"].belief()["hunter_0"] == {}  # the episode is over


def test_the_five_lines_of_the_readme_run():
    section = (ROOT / "README.md").read_text().partition("## Use it from Python")[2].partition("\n## ")[0]
    names: dict[str, object] = {}
    for block in blocks(section):
        exec(block, names)
    assert names["action"] in range(7)
    assert set(names["agent"].belief()) == set(names["env"].possible_agents) - {names["env"].possible_agents[0]}


@pytest.mark.parametrize("page", ["README.md", "docs/python.md"])
def test_the_zoo_has_the_agents_that_the_pages_name(page):
    from omg_lightning.sources import zoo_names

    named = set(re.findall(r"zoo:(\w+)", (ROOT / page).read_text())) - {"NAME"}
    assert named <= set(zoo_names())
