"""Files of results: refused before anything is played, never written over, shared by several processes."""

import fcntl
import json
import os
import threading
from multiprocessing import get_context
from pathlib import Path

import pytest
from command_line import SMOKE, refused

from omg_lightning.cli import main
from omg_lightning.commands import crossplay, references
from omg_lightning.evaluation import References
from omg_lightning.files import locked, replace_text
from omg_lightning.types import ConfigError

GAME = {"name": "StagHunt", "num_players": 2}
ENTRY = {"random": 1.0, "best_response": 5.0, "seeds": [0]}


@pytest.fixture
def played(monkeypatch):
    """Fail where a command plays, or only builds its networks, before it has looked at its files."""

    def play(*args, **settings):
        raise AssertionError("the command began its work before it looked at --out")

    monkeypatch.setattr(crossplay, "run", play)
    monkeypatch.setattr(references, "run", play)


@pytest.fixture
def bad(tmp_path) -> Path:
    """Where no file can be made: a file stands where a folder would have to be."""
    (tmp_path / "file").write_text("not a folder")
    return tmp_path / "file" / "out"


@pytest.mark.parametrize("command", [["crossplay", "a.ckpt"], ["references"]])
def test_out_is_checked_before_anything_is_played(command, bad, tmp_path, played, capsys):
    line = refused([*command, *SMOKE, "--out", str(bad)], capsys)
    assert "cannot write" in line
    assert "--out" in line
    (tmp_path / "folder.json").mkdir()
    named = tmp_path / ("folder.json" if command == ["references"] else "folder")
    assert "folder.json" in refused([*command, *SMOKE, "--out", str(named)], capsys)


def test_adaptation_checks_all_its_files_before_it_writes_any(bad, tmp_path, capsys):
    out = tmp_path / "seeds.json"
    for plot in (bad.with_suffix(".png"), tmp_path / "a.bogus"):
        assert str(plot) in refused(["adaptation", str(tmp_path), "--out", str(out), "--plot", str(plot)], capsys)
    assert not out.exists()


@pytest.mark.parametrize("full", ["write", "flush"])
def test_a_full_disk_is_reported_before_any_rollout(full, tmp_path, played, capsys, monkeypatch):
    """A file can be made on a full disk, but not be filled."""

    class Full:
        def __enter__(self):
            return self

        def __exit__(self, *error):
            if full == "flush":
                raise OSError(28, os.strerror(28))

        def write(self, text):
            if full == "write":
                raise OSError(28, os.strerror(28))

    monkeypatch.setattr("tempfile.TemporaryFile", lambda dir: Full())
    assert "No space left" in refused(["references", *SMOKE, "--out", str(tmp_path / "r.json")], capsys)


@pytest.mark.parametrize("ending", [".json", ".png", "_team.png"])
def test_cross_play_never_writes_over_another_result(ending, tmp_path, played, capsys):
    path = tmp_path / f"x{ending}"
    path.write_text("hours of play")
    assert "already exists" in refused(["crossplay", "a.ckpt", *SMOKE, "--out", str(tmp_path / "x")], capsys)
    assert path.read_text() == "hours of play"
    assert "--out is ''" in refused(["crossplay", "a.ckpt", *SMOKE, "--out", ""], capsys)


# Several processes --------------------------------------------------------------------------------------------------


def add_many(path: Path, who: int, barrier) -> None:
    file = References(path)  # read before any other process has written
    barrier.wait()
    for k in range(10):
        file.add(GAME, f"partner_{who}_{k}", ENTRY)


def test_no_entry_is_lost_when_processes_add_to_one_file_at_once(tmp_path):
    path, context = tmp_path / "r.json", get_context("fork")
    barrier = context.Barrier(4)
    processes = [context.Process(target=add_many, args=(path, who, barrier)) for who in range(4)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    assert [process.exitcode for process in processes] == [0] * 4
    found = References(path)
    assert all(found.find(GAME, f"partner_{who}_{k}") == ENTRY for who in range(4) for k in range(10))
    assert [entry.name for entry in tmp_path.iterdir()] == ["r.json"], "no lock and no partial file is left"


def test_two_references_commands_keep_each_others_results(tmp_path, monkeypatch, capsys):
    """While the first trains, another one adds the same partner and a second one."""
    path = tmp_path / "r.json"
    asked = []

    def measure(networks, settings, partner, seeds):
        asked.append(partner)
        game = references.describe(networks.datamodule.env)
        for name in ("random", "nearest_stag"):
            References(path).add(game, name, {**ENTRY, "best_response": 7.0})
        return ENTRY

    monkeypatch.setattr(references, "measure", measure)
    main(["references", *SMOKE, "--partners", "[random, nearest_stag, nearest_hare]", "--out", str(path)])
    (game,) = json.loads(path.read_text())["games"].values()
    assert {name: entry["best_response"] for name, entry in game["partners"].items()} == {
        "random": 7.0,
        "nearest_stag": 7.0,
        "nearest_hare": 5.0,
    }
    assert asked == ["random", "nearest_hare"], "entries that another command has made are skipped"
    shown = capsys.readouterr().out
    assert "random: random 1.00, best response 5.00" in shown
    assert "random: another command added it" in shown


def test_an_entry_of_references_is_never_replaced(tmp_path):
    file = References(tmp_path / "r.json")
    assert file.add(GAME, "random", ENTRY) is ENTRY
    assert file.add(GAME, "random", {**ENTRY, "best_response": 9.0}) == ENTRY
    assert References(tmp_path / "r.json").find(GAME, "random") == ENTRY


def test_the_lock_of_a_killed_process_is_free(tmp_path):
    path = tmp_path / "r.json"
    (tmp_path / ".r.json.lock").write_text("")  # what is left of it
    References(path).add(GAME, "random", ENTRY)
    assert [entry.name for entry in tmp_path.iterdir()] == ["r.json"]


def test_waiting_for_a_removed_lock_takes_a_new_one(tmp_path):
    path, entered = tmp_path / "r.json", threading.Event()
    lock = tmp_path / ".r.json.lock"

    def wait() -> None:
        with locked(path):
            entered.set()

    with lock.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        waiting = threading.Thread(target=wait)
        waiting.start()
        assert not entered.wait(0.2), "it is held by another"
        lock.unlink()
        with locked(path):  # a third one makes it anew
            fcntl.flock(file, fcntl.LOCK_UN)
            assert not entered.wait(0.2), "the old lock is worth nothing"
    waiting.join(10)
    assert entered.is_set()


def test_a_file_that_cannot_be_written_keeps_its_old_text(tmp_path, monkeypatch):
    path, link = tmp_path / "a.json", tmp_path / "link.json"
    path.write_text("old")
    link.symlink_to(path)

    def full(number):
        raise OSError(28, os.strerror(28))

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(ConfigError, match=r"cannot write .*No space left.*choose another file"):
        References(tmp_path / "r.json").add(GAME, "random", ENTRY)
    with pytest.raises(OSError, match="No space"):
        replace_text(path, "new")
    assert path.read_text() == "old"
    monkeypatch.undo()
    replace_text(link, "new")
    assert path.read_text() == "new"
    assert link.is_symlink()
    assert {entry.name for entry in tmp_path.iterdir()} == {"a.json", "link.json"}
