"""The tutorials run as they stand in the documentation, from an empty folder, in processes of their own."""

import json
import re
from pathlib import Path

import pytest
from pages import run_page, write_files


@pytest.fixture
def empty_folder(tmp_path, monkeypatch):
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parents[1]))
    return tmp_path


@pytest.mark.slow
def test_train_and_look(empty_folder):
    printed = run_page("tutorials/train_and_look.md", empty_folder)
    shown = {name: float(value) for name, value in re.findall(r"(\S+) +(\S+)\n", printed["python look.py"])}
    assert shown["goal/belief_true_5"] > shown["goal/belief_true_1"] > 0.5, "the belief finds the goal"
    folder = empty_folder / "runs/first/lightning_logs/version_0"
    assert {"belief.png", "confusion.png", "return.png"} <= {path.name for path in folder.iterdir()}


@pytest.mark.slow
def test_own_game(empty_folder):
    printed = run_page("tutorials/own_game.md", empty_folder)
    points, belief, inferred, at_random = map(float, re.findall(r": +(\S+)\n", printed["python look.py"]))
    assert points > 5, "the best possible is 5.5 on average"
    assert belief > 0.9
    assert inferred - at_random > 3
    assert printed["python play.py"] == "points: 6.0\n"


@pytest.mark.slow
def test_compare(empty_folder):
    write_files("tutorials/own_game.md", empty_folder)
    run_page("tutorials/compare.md", empty_folder)
    found = json.loads((empty_folder / "beliefs.json").read_text())
    assert (empty_folder / "beliefs.png").is_file()
    assert set(found["games"]["side"]["methods"]) == {"belief", "direct"}
