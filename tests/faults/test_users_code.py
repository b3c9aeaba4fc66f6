"""Errors in a user's own classes: one line that names class, method and message, exit code 2, and nothing left over."""

import sys
import traceback
from multiprocessing import active_children

import pytest
import torch
from command_line import SMOKE, TINY, refused

from omg_lightning.actors.scripted import PlayerActor
from omg_lightning.cli import main
from omg_lightning.games.scripts import goals_of
from omg_lightning.rollout.workers import at_once
from omg_lightning.types import ConfigError
from omg_lightning.users_code import place_of, users_error

ONE = ["--trainer.max_epochs=1", "--data.offline.rounds=0", "--trainer.check_val_every_n_epoch=1"]
PPO = ["--model.algorithm=PPO", "--model.opponent=Direct"]
PARTS = {  # a class of this project that the user's inherits: how it is chosen, and methods that a run calls
    "omg_lightning.games.scripts.RandomPlayer": (
        ["--data.seats=[learner,{}]"],
        ("__init__", "reset", "act", "goal", "goals", "action_probabilities"),
    ),
    "omg_lightning.games.StagHunt": (
        ["--data.game={}"],
        ("reset", "observe", "step", "legal", "active", "realised", "terminated"),
    ),
    "omg_lightning.envs.PettingZooEnv": (
        ["--data.game={}", "--data.game.make=parallel_toys.Toy", "--data.seats=[learner,random,random]", *PPO],
        ("reset", "step"),
    ),
    "omg_lightning.opponents.Codebook": (
        ["--model.opponent={}"],
        ("prior", "start", "infer", "update", "losses"),
    ),
    "omg_lightning.algorithms.BestResponseSearch": (["--model.algorithm={}"], ("actor", "losses")),
    "omg_lightning.encoders.MLP": (["--model.encoder={}"], ("forward",)),
    "omg_lightning.rewards.Prosocial": (["--model.reward={}", *PPO], ("reward",)),
    "lightning.Callback": (["--trainer.callbacks=[{}]"], ("setup", "on_train_epoch_start", "on_train_batch_end")),
}
CASES = [(base, method, "raise") for base, (_, methods) in PARTS.items() for method in methods]
CASES += [("omg_lightning.games.scripts.RandomPlayer", "act", "exit"), ("omg_lightning.games.StagHunt", "step", "exit")]
HOW = {"raise": "raise KeyError('mine:\\n 7')", "exit": "import sys; sys.exit(3)"}
QUICK = [("omg_lightning.games.scripts.RandomPlayer", "goals"), ("omg_lightning.games.StagHunt", "step")]


def write_class(folder, base: str, method: str, how: str) -> str:
    """Write a module with a class that fails in one method; return the path of the class."""
    module, name = base.rpartition(".")[::2]
    decorator = "    @property\n" if method in ("goal", "goals") else ""
    body = f"{decorator}    def {method}(self, *args, **kwargs):\n        {HOW[how]}\n"
    (folder / "my_faulty.py").write_text(f"from {module} import {name}\n\n\nclass Mine({name}):\n{body}")
    return "my_faulty.Mine"


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """Where a module of the user's lies; it is imported anew."""
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "my_faulty", raising=False)
    yield tmp_path
    sys.modules.pop("my_faulty", None)


def check(folder, base: str, method: str, how: str, workers: int, capsys) -> None:
    path = write_class(folder, base, method, how)
    typed = [word.format(path) for word in PARTS[base][0]]
    root = ["--trainer.default_root_dir", str(folder / "runs"), f"--data.workers={workers}"]
    line = refused(["fit", *SMOKE, *TINY, *ONE, *typed, *root], capsys)
    assert f"Mine.{method}" in line or (method == "__init__" and "Mine() failed" in line)
    assert "KeyError: 'mine:" in line if how == "raise" else "sys.exit(3)" in line or "SystemExit: 3" in line
    assert "my_faulty.py, line" in line or method == "__init__"
    assert not active_children()


@pytest.mark.parametrize(("base", "method"), QUICK)
def test_an_error_of_a_users_class_is_one_line_also_in_a_process_of_workers(base, method, folder, capsys):
    check(folder, base, method, "raise", 2, capsys)


@pytest.mark.slow
@pytest.mark.parametrize(("base", "method", "how"), CASES)
def test_an_error_in_any_method_of_a_users_class_is_one_line(base, method, how, folder, capsys):
    check(folder, base, method, how, 1, capsys)


# The mechanism ------------------------------------------------------------------------------------------------------


class Helped:
    """Fails in a helper, within a library."""

    def act(self) -> None:
        self.help()

    def help(self) -> None:
        raise OSError("two\nlines")


def raised(run) -> BaseException:
    """What `run` raises, with the frames below this one alone, as at the command line."""
    try:
        run()
    except (Exception, SystemExit) as error:
        error.__traceback__ = error.__traceback__.tb_next
        return error
    raise AssertionError("nothing was raised")


def test_the_method_that_was_called_and_the_line_that_failed_are_named():
    error = raised(Helped().act)
    number = traceback.extract_tb(error.__traceback__)[-1].lineno
    assert place_of(error) == ("Helped.act", f"{__file__}, line {number}")
    assert users_error(error) == (
        f"Helped.act failed with OSError: two lines ({__file__}, line {number}): correct it; OMG_TRACEBACK=1 shows the "
        "whole traceback"
    )


def test_an_error_without_a_users_code_is_a_bug_of_the_program():
    assert users_error(raised(lambda: None) if False else KeyError("never raised")) is None
    frames = raised(lambda: PlayerActor(None).start(None, None, None, None)).__traceback__
    inner = TypeError("in the program alone")
    inner.__traceback__ = frames.tb_next  # without the line of this test
    assert users_error(inner) is None


def test_an_error_within_a_property_is_not_a_missing_attribute():
    class Property:
        @property
        def goals(self):
            return self.misspelt

    class Delegating:
        def __getattr__(self, name):
            raise AttributeError(name)

    game = type("Game", (), {"goal_names": ("stag",)})
    view, legal = torch.zeros(2, 1), torch.ones(2, 3, dtype=torch.bool)
    with pytest.raises(AttributeError, match="misspelt"):
        goals_of(Property(), game, view, legal)
    assert goals_of(Delegating(), game, view, legal).tolist() == [-1, -1]


def exits() -> None:
    sys.exit(5)


def test_an_error_in_a_process_ends_the_others_and_brings_its_traceback():
    with pytest.raises(ConfigError, match=r"exits called sys.exit\(5\)") as caught:
        at_once([exits, Helped().act])
    assert "in exits" in caught.value.__notes__[0]
    assert not active_children()


def test_a_bug_keeps_its_traceback_and_ends_with_a_request_to_report_it(monkeypatch):
    def fail(*args):
        raise KeyError("within the program")

    monkeypatch.setattr("omg_lightning.mistakes.users_error", lambda error: None)
    monkeypatch.setattr("omg_lightning.cli.run", fail)
    with pytest.raises(KeyError) as caught:
        main(["fit"])
    last = "".join(traceback.format_exception(caught.value)).splitlines()[-1]
    assert last.startswith("error: this is probably a bug in omg_lightning")


def test_the_whole_traceback_is_shown_where_the_environment_asks_for_it(folder, capsys, monkeypatch):
    monkeypatch.setenv("OMG_TRACEBACK", "1")
    path = write_class(folder, "omg_lightning.games.StagHunt", "reset", "raise")
    root = ["--trainer.default_root_dir", str(folder / "runs")]
    with pytest.raises(SystemExit, match="2"):
        main(["fit", *SMOKE, *TINY, *ONE, f"--data.game={path}", *root])
    printed = capsys.readouterr().err
    assert "Traceback (most recent call last)" in printed
    assert printed.splitlines()[-1].startswith("error: Mine.reset failed with KeyError")
