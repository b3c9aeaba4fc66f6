"""The examples of docs/extend.md, run as they stand in the page: one new file and one configuration each."""

import re
import shlex
import shutil
import sys
from pathlib import Path

import pytest

from omg_lightning.cli import main

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "docs/extend.md").read_text()
SECTIONS = {part.split("\n", 1)[0]: part for part in re.split(r"^## ", PAGE, flags=re.MULTILINE)[1:]}


def blocks(text: str, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", text, flags=re.MULTILINE | re.DOTALL)


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A folder with the shipped configurations, from which a user runs; what is imported from it is forgotten again."""
    shutil.copytree(ROOT / "configs", tmp_path / "configs")
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    before = set(sys.modules)
    yield tmp_path
    for name in set(sys.modules) - before:
        if name.startswith("my_"):
            del sys.modules[name]


QUICK = ("A game",)


@pytest.mark.parametrize("title", [pytest.param(t, marks=[] if t in QUICK else pytest.mark.slow) for t in SECTIONS])
def test_example_runs_as_it_stands_in_the_page(title, folder):
    section = SECTIONS[title]
    for block in blocks(section, "python") + blocks(section, "yaml"):
        name = block.split("\n", 1)[0].removeprefix("# ")
        assert re.fullmatch(r"my_\w+\.(py|yaml)", name), "each block starts with the name of its file"
        (folder / name).write_text(block)
    files = {path.name for path in folder.glob("my_*")}
    assert len(files) == 2, "one file and one configuration"
    (commands,) = blocks(section, "bash")
    for line in commands.strip().splitlines():
        words = shlex.split(line)
        if words[:2] == ["python", "-c"]:
            exec(words[2], {})
        else:
            assert words[:3] == ["python", "-m", "omg_lightning"]
            main([*words[3:], "--trainer.enable_progress_bar=false"])
    assert (folder / "lightning_logs/version_0/metrics.json").is_file()
    assert {path.name for path in folder.glob("my_*.*")} == files


def test_the_page_has_an_example_of_each_protocol():
    wanted = {"A game", "An environment", "An encoder", "An opponent model", "A learning algorithm"}
    assert wanted <= set(SECTIONS)
