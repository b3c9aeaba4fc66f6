"""The command line as a user types it: each shipped config, every subcommand, resume, and one line for each mistake."""

import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest
import torch
import yaml
from command_line import DATA, FEW, QUIET, ROOT, SMOKE, TINY, newest, numbers, refused, run, trained_smoke
from lightning.pytorch.cli import LightningCLI

from omg_lightning.cli import main

BASE = ["--config", str(ROOT / "configs/base.yaml")]
ONE = ["--trainer.max_epochs=1", "--data.offline.rounds=1"]
TWO = ["--trainer.max_epochs=2", "--data.offline.rounds=1"]
ENVS = "needs the extra envs: pip install 'omg-lightning[envs]'"


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    return trained_smoke(tmp_path_factory)


def checkpoint(folder: Path) -> dict:
    return torch.load(folder / "last.ckpt", weights_only=True)


# Subcommands --------------------------------------------------------------------------------------------------------


def test_fit_leaves_everything_in_one_folder(trained):
    names = {path.name for path in trained.iterdir()}
    assert {"last.ckpt", "best.ckpt", "config.yaml", "metrics.json"} <= names
    assert any(name.startswith("events.out") for name in names)
    found = numbers(trained)
    assert found["return/episodes"] == 16
    assert found["return/team_mean"] == pytest.approx(found["return/seat_0_mean"] + found["return/seat_1_mean"])
    assert found["return/team_low"] <= found["return/team_mean"] <= found["return/team_high"]
    assert found["buffer/env_steps"] > 4 * 8  # rounds times environments: every episode has at least a step


@pytest.mark.slow
def test_a_saved_configuration_reproduces_its_run(tmp_path):
    first = run("fit", tmp_path, *TINY, *TWO)
    main(["fit", "--config", str(first / "config.yaml")])
    second = newest(tmp_path)
    assert first != second
    for name, value in numbers(first).items():
        if not name.startswith("time/"):
            assert numbers(second)[name] == value, name


def test_hyperparameters_in_a_checkpoint_are_plain_values(trained):
    def check(value, path):
        if isinstance(value, dict):
            for key, inner in value.items():
                assert isinstance(key, str), path
                check(inner, f"{path}.{key}")
        elif isinstance(value, list | tuple):
            for index, inner in enumerate(value):
                check(inner, f"{path}[{index}]")
        else:
            assert value is None or type(value) in (bool, int, float, str), f"{path} is {value!r}"

    found = checkpoint(trained)["hyper_parameters"]
    check(found, "")
    assert found["opponent"]["class_path"].endswith(".Subgoal")
    assert found["opponent"]["init_args"]["goal_dim"] == 4
    assert found["algorithm"]["init_args"]["simulations"] == 4
    assert found["spec"]["name"] == "StagHunt"


@pytest.mark.slow
def test_validate_of_the_last_checkpoint_repeats_the_end_of_fit(trained, tmp_path):
    args = ["--ckpt_path", str(trained / "last.ckpt")]
    folder = run("validate", tmp_path, *args)
    for name, value in numbers(trained).items():
        if name.startswith(("return/", "goal/action")):
            assert numbers(folder)[name] == value, name


def test_a_run_never_writes_over_another(trained, tmp_path):
    args = ["--ckpt_path", str(trained / "last.ckpt"), *TINY, "--model.networks.hidden=32", "--data.game.max_steps=35"]
    first, second = run("validate", tmp_path, *args), run("validate", tmp_path, *args)
    assert first != second
    assert (first / "metrics.json").exists()


@pytest.mark.slow
def test_predict_writes_a_replay_for_each_episode(trained, tmp_path):
    folder = run("predict", tmp_path, "--ckpt_path", str(trained / "last.ckpt"))
    assert len(list(folder.rglob("*.gif"))) == 2


def test_resume_continues_bit_exactly(tmp_path):
    whole = run("fit", tmp_path / "whole", *TINY, *TWO, "--trainer.max_epochs=4")
    part = run("fit", tmp_path / "part", *TINY, *TWO)
    on = ["--trainer.max_epochs=4", "--ckpt_path", str(part / "last.ckpt")]
    resumed = run("fit", tmp_path / "rest", *TINY, *TWO, *on)
    expected, got = checkpoint(whole), checkpoint(resumed)
    for name, weight in expected["state_dict"].items():
        assert torch.equal(weight, got["state_dict"][name]), name
    assert expected["EpisodeDataModule"]["env_steps"] == got["EpisodeDataModule"]["env_steps"]
    assert numbers(whole)["return/team_mean"] == numbers(resumed)["return/team_mean"]


@pytest.mark.slow
def test_seed_true_is_seed_0_wherever_it_is_recorded(tmp_path, monkeypatch):
    monkeypatch.setenv("PL_GLOBAL_SEED", "7")  # Lightning would take this one for true
    folder = run("fit", tmp_path, *TINY, *ONE, "--seed_everything=true")
    saved = yaml.safe_load((folder / "config.yaml").read_text())
    assert saved["seed_everything"] == 0
    assert isinstance(saved["seed_everything"], int)
    assert not isinstance(saved["seed_everything"], bool)
    assert checkpoint(folder)["hyper_parameters"]["seed"] == 0
    same = run("fit", tmp_path, *TINY, *ONE, "--seed_everything=0")
    for name, weight in checkpoint(folder)["state_dict"].items():
        assert torch.equal(weight, checkpoint(same)["state_dict"][name]), name


def test_help_lists_all_commands(capsys):
    with pytest.raises(SystemExit) as stop:
        main(["--help"])
    assert stop.value.code == 0
    shown = capsys.readouterr().out
    for command in ("fit", "validate", "test", "predict", "references", "adaptation", "crossplay"):
        assert any(line.split()[:1] == [command] for line in shown.splitlines()), command
    assert shown.startswith("usage: python -m omg_lightning")
    assert "test                Measure how a checkpoint adapts to each of" in shown
    assert "evaluation epoch" not in shown, "Lightning's own description of its commands"


# Parts by class name ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("opponent", ["Direct", "Declared", "Locations", "Codebook", "Oracle"])
def test_every_opponent_model_runs(opponent, tmp_path):
    args = ["--model.opponent", opponent, *TWO]
    if opponent == "Locations":
        args += ["--data.game=Snowdrift", "--data.game.preset=msg", "--data.seats=[learner,cleaner,random,defector]"]
    assert numbers(run("fit", tmp_path, *TINY, *args))["return/episodes"] == 4


def parts(folder: Path) -> dict:
    """The parts in a saved configuration: key to class name and arguments."""
    saved = yaml.safe_load((folder / "config.yaml").read_text())
    found = {
        "game": saved["data"]["game"],
        **{key: saved["model"][key] for key in ("opponent", "algorithm", "encoder")},
    }
    return {key: (part["class_path"].rpartition(".")[2], part.get("init_args", {})) for key, part in found.items()}


def test_parts_are_chosen_by_class_name_with_their_own_keys_below_and_the_configuration_keeps_them(tmp_path):
    four = ["--data.seats=[learner,learner,nearest_hare,random]", "--data.training.capacity=8", *DATA]
    short = [
        FEW,
        "--trainer.max_epochs=1",
        "--data.offline.rounds=0",
        *QUIET,
        "--trainer.default_root_dir",
        str(tmp_path),
    ]
    game = ["--data.game", "StagHunt", "--data.game.preset", "4h1s_6x6"]
    opponent = ["--model.opponent", "Codebook", "--model.opponent.num_codes", "4"]
    algorithm = ["--model.algorithm.trees", "2", "--model.algorithm.simulations", "3"]  # the class is that of base.yaml
    encoder = ["--model.encoder", "MLP"]
    main(["fit", *BASE, *four, *short, *game, *opponent, *algorithm, *encoder])
    folder = newest(tmp_path)
    found = parts(folder)
    assert {key: name for key, (name, _) in found.items()} == {
        "game": "StagHunt",
        "opponent": "Codebook",
        "algorithm": "BestResponseSearch",
        "encoder": "MLP",
    }
    assert found["game"][1]["preset"] == "4h1s_6x6"
    assert found["opponent"][1]["num_codes"] == 4
    assert (found["algorithm"][1]["trees"], found["algorithm"][1]["simulations"]) == (2, 3)
    main(["fit", "--config", str(folder / "config.yaml")])
    again = newest(tmp_path)
    assert again != folder
    assert parts(again) == found
    expected, got = checkpoint(folder), checkpoint(again)
    assert got["hyper_parameters"] == expected["hyper_parameters"]
    assert all(torch.equal(weight, got["state_dict"][name]) for name, weight in expected["state_dict"].items())


def test_a_key_of_a_part_does_not_need_its_class_name_again(tmp_path):
    few = [*ONE, "--model.opponent.goal_dim=3", "--data.game.max_steps=6", "--model.losses.vae=0.5"]
    folder = run("fit", tmp_path, *TINY, *few)
    found = parts(folder)
    assert (found["opponent"][0], found["opponent"][1]["goal_dim"]) == ("Subgoal", 3)
    assert (found["game"][1]["preset"], found["game"][1]["max_steps"]) == ("2h1s_4x4", 6)
    assert checkpoint(folder)["hyper_parameters"]["losses"] == {"vae": 0.5}


def test_several_learners_and_a_checkpoint_share_a_game(tmp_path):
    game = ["--data.game.preset=4h1s_4x4", "--data.training.capacity=8", *ONE]
    first = run("fit", tmp_path, *TINY, *game, "--data.seats=[learner,learner,nearest_hare,random]")
    seats = f"--data.seats=[learner,'checkpoint:{first / 'last.ckpt'}',learner,nearest_stag]"
    assert numbers(run("fit", tmp_path, *TINY, *game, seats, "--data.offline.rounds=0"))["return/episodes"] == 4


class Idler:
    """A player of a user's own: it stays where it is."""

    def reset(self, batch_size, seat, game, generator):
        self.noop = game.noop

    def act(self, observation, legal):
        return torch.full((len(legal),), self.noop)


def test_a_player_of_ones_own_by_its_dotted_path(tmp_path):
    found = numbers(run("fit", tmp_path, *TINY, f"--data.seats=[learner,{__name__}.Idler]"))
    assert found["return/seat_1_mean"] == 0


MY_MODULE = '''
from typing import NamedTuple

import numpy as np
import torch
from gymnasium.spaces import Box

from omg_lightning.games import Game


class State(NamedTuple):
    time: torch.Tensor
    place: torch.Tensor


class MyGame(Game):
    """Two walkers on a line of five places; a meeting pays both."""

    num_players, num_actions, max_steps = 2, 3, 6
    observation_space = Box(-4.0, 4.0, (3,), np.float32)
    goal_names = ("meet",)
    action_names = ("left", "stay", "right")
    agent_names = ("ann", "bob")
    noop = 1

    def reset(self, batch_size, generator=None):
        place = torch.randint(5, (batch_size, 2), generator=generator)
        return State(torch.zeros(batch_size, dtype=torch.int64), place)

    def active(self, state):
        return (state.time < self.max_steps)[:, None].expand(-1, 2)

    def legal(self, state):
        return torch.stack([state.place > 0, torch.ones_like(state.place) > 0, state.place < 4], -1)

    def observe(self, state):
        other = state.place.flip(1)
        return torch.stack([state.place, other, state.place - other], -1).float()

    def step(self, state, actions):
        place = state.place + actions - 1
        met = (place[:, :1] == place[:, 1:]).expand(-1, 2)
        return State(state.time + 1, place), met.float()

    def realised(self, state, actions):
        place = state.place + actions - 1
        return torch.where((place[:, :1] == place[:, 1:]).expand(-1, 2), 0, -1)


class Stayer:
    def reset(self, batch_size, seat, game, generator):
        self.noop = game.noop

    def act(self, observation, legal):
        return torch.full((len(legal),), self.noop)


class NotAGame:
    pass


class Broken(MyGame):
    def __init__(self, size: int = 3):
        raise TypeError("a mistake in the user's own code")
'''


@pytest.fixture(scope="module")
def users_folder(tmp_path_factory):
    """A folder with a module of the user's."""
    folder = tmp_path_factory.mktemp("user")
    (folder / "my_module.py").write_text(MY_MODULE)
    return folder


@pytest.mark.slow
@pytest.mark.parametrize("program", ["python -m omg_lightning", "omg-lightning"])
def test_a_game_in_the_current_folder_runs(program, users_folder):
    script = Path(sysconfig.get_path("scripts")) / "omg-lightning"
    command = [sys.executable, "-m", "omg_lightning"] if " " in program else [str(script)]
    own = ["--data.game", "my_module.MyGame", "--data.seats=[learner,my_module.Stayer]"]
    args = [*SMOKE, *[flag for flag in TINY if "max_steps" not in flag], *own, *TWO]  # it has no options
    done = subprocess.run([*command, "fit", *args], capture_output=True, text=True, cwd=users_folder)
    assert done.returncode == 0, done.stderr
    assert "UserWarning" not in done.stderr
    folder = newest(users_folder)
    assert parts(folder)["game"][0] == "MyGame"
    assert checkpoint(folder)["hyper_parameters"]["spec"]["action_names"] == ["left", "stay", "right"]
    assert numbers(folder)["return/episodes"] == 4


@pytest.fixture
def my_module(users_folder, monkeypatch):
    """The user's module, found as it is in the current folder."""
    monkeypatch.syspath_prepend(users_folder)


def test_a_mistake_in_the_code_of_a_users_game_shows_where_it_is(my_module, tmp_path, capsys):
    root = ["--trainer.default_root_dir", str(tmp_path)]
    line = refused(["fit", *SMOKE, *root, "--data.game", "my_module.Broken"], capsys)
    assert "Broken.__init__ failed with TypeError: a mistake in the user's own code (" in line
    assert "my_module.py, line " in line


# Shipped configurations ---------------------------------------------------------------------------------------------

CONFIGS = sorted(path.name for path in (ROOT / "configs").glob("*.yaml"))
SCRIPTED = ("subgoal.yaml", "vae.yaml")  # no learner plays in these, so all of their rounds are offline
ALONE = ("ppo", "pettingzoo", "predator_prey", "coin", "overcooked", "lola", "guessing")  # on data of the newest round
ON_POLICY = {f"{name}.yaml" for name in ALONE}
STACKS = [
    (name,)
    for name in CONFIGS
    if name not in ("ppo.yaml", "ends_early.yaml", "liam.yaml", "lola.yaml", "guessing.yaml", "secret.yaml")
]
STACKS += [("4h2s.yaml", "ends_early.yaml"), ("base.yaml", "ppo.yaml", "liam.yaml"), ("matrix.yaml", "lola.yaml")]
STACKS += [("matrix.yaml", "guessing.yaml"), ("base.yaml", "ppo.yaml", "secret.yaml")]
STACKS += [(name, "ppo.yaml") for name in ("base.yaml", "msg.yaml", "4h1s_6x6.yaml", "matrix.yaml", "smoke.yaml")]


def stacked(names: tuple[str, ...]) -> list[str]:
    """The options of stacked configurations; one that is not complete stands on base.yaml."""
    paths = [ROOT / "configs" / name for name in names]
    if "seed_everything" not in yaml.safe_load(paths[0].read_text()):
        paths = [ROOT / "configs/base.yaml", *paths]
    return [word for path in paths for word in ("--config", str(path))]


def is_slow(names: tuple[str, ...]) -> bool:
    """Say whether the configuration is like another one but for sizes, or a stack."""
    return len(names) > 1 or names[0] in ("adapt_6x6.yaml", "adapt_8x8.yaml", "4h2s.yaml", "4h1s.yaml")


@pytest.mark.parametrize(
    "names",
    [pytest.param(names, marks=pytest.mark.slow if is_slow(names) else ()) for names in STACKS],
    ids="+".join,
)
def test_every_shipped_config_runs(names, tmp_path):
    if {"pettingzoo.yaml", "predator_prey.yaml"} & set(names):
        pytest.importorskip("mpe2", reason=ENVS)
    on_policy = ON_POLICY & set(names)
    flags = [*(DATA if on_policy else TINY[:-1]), *QUIET]  # with all callbacks of the file
    if "overcooked.yaml" in names:
        flags.append("--model.algorithm.minibatches=4")  # of four episodes
    if names[0] not in SCRIPTED:
        flags.append("--data.offline.rounds=0")  # a single round: play and learn in it
    dev = ["--trainer.fast_dev_run=true", "--trainer.default_root_dir", str(tmp_path)]
    main(["fit", *stacked(names), *flags, *dev])
    assert not (tmp_path / "lightning_logs").exists()  # fast_dev_run leaves nothing behind


def test_a_stacked_configuration_keeps_what_it_does_not_name(capsys, tmp_path):
    mine = tmp_path / "mine.yaml"
    mine.write_text("model: {algorithm: {class_path: BestResponseSearch, init_args: {simulations: 16}}}")
    with pytest.raises(SystemExit):
        main(["fit", *stacked(("4h2s.yaml", "ends_early.yaml", str(mine))), "--print_config"])
    shown = yaml.safe_load(capsys.readouterr().out)
    game, algorithm = shown["data"]["game"]["init_args"], shown["model"]["algorithm"]["init_args"]
    assert (game["preset"], game["steps_after_first_hunt"]) == ("4h2s", 5)
    assert (algorithm["trees"], algorithm["simulations"]) == (8, 16)
    assert (algorithm["planner"]["policy"], algorithm["planner"]["td_lambda"]) == ("search", 0.5)


@pytest.mark.parametrize(
    ("words", "built"),
    [(["fit", "--print_config"], ["fit"]), (["--help"], ["fit", "validate", "test", "predict"])],
)
def test_only_the_parser_of_the_command_that_runs_is_built(words, built, monkeypatch, capsys):
    found, build = [], LightningCLI._prepare_subcommand_parser

    def counted(self, klass, subcommand, **kwargs):
        found.append(subcommand)
        return build(self, klass, subcommand, **kwargs)

    monkeypatch.setattr(LightningCLI, "_prepare_subcommand_parser", counted)
    with pytest.raises(SystemExit):
        main([words[0], *(SMOKE if words[0] == "fit" else []), *words[1:]])
    assert found == built


# Mistakes -----------------------------------------------------------------------------------------------------------

MPE = "mpe2.simple_spread_v3.parallel_env"
MISTAKES = {
    "command": (["--model.goalz=declared"], "goalz"),
    "abbreviation": (["--trainer.max_epoch=3"], "max_epoch"),
    "abbreviation in a part": (["--model.algorithm.planner.bet=3"], "no option 'planner.bet'"),
    "opponent model": (["--model.opponent=Codebok"], "expected one of Codebook, Declared, Direct, ExactBayes, LIAM"),
    "algorithm": (["--model.algorithm=PPPO"], "expected one of BestResponseSearch, LOLA, PPO,"),
    "encoder": (["--model.encoder=MPL"], "expected one of Centred, Conv, MLP, Paths, RecurrentConv,"),
    "reward": (["--model.reward=Prosocal"], "expected one of GameReward, GoalBonus,"),
    "game": (["--data.game=StagHnt"], "expected one of CoinGame, CopyableGame, LevelBasedForaging, MatrixGame,"),
    "game that does not inherit the base": (["--data.game=my_module.NotAGame"], "inherits omg_lightning.games.Game or"),
    "opponent model of another kind": (
        ["--model.opponent=torch.nn.Linear"],
        "expected a class that inherits omg_lightning.opponents.OpponentModel, or one of Codebook",
    ),
    "module": (["--data.game=nowhere.MyGame"], "No module named 'nowhere'"),
    "class in a module": (["--data.game=my_module.MyGam"], "no attribute 'MyGam'"),
    "abstract class": (["--data.game=omg_lightning.games.Game"], "does not implement observe, reset, step"),
    "option of a part": (["--model.opponent.goal_dmi=3"], "its options are goal_dim, selector"),
    "option of another part": (["--model.opponent.num_codes=3"], "Subgoal has no option 'num_codes'"),
    "group in a part": (["--model.opponent.vae.kl=3"], "Subgoal has no option 'vae.kl'"),
    "type": (["--model.opponent.goal_dim=abc"], "--model.opponent.goal_dim is abc: expected int"),
    "range": (["--model.opponent.goal_dim=0"], "goal_dim is 0"),
    "choice": (["--model.algorithm.planner.rule=uct"], "is uct: expected one of 'puct', 'gumbel'"),
    "no training": (["--trainer.max_epochs=0"], "max_epochs is 0"),
    "no batches": (["--data.training.steps_per_epoch=0"], "steps_per_epoch is 0"),
    "player": (["--data.seats=[learner,bogus]"], "bogus"),
    "number of seats": (["--data.seats=[learner]"], "2 seats"),
    "preset": (["--data.game.preset=9x9"], "9x9"),
    "game option": (["--data.game.width=0"], "width"),
    "unknown game option": (["--data.game.widht=4"], "StagHunt has no option 'widht'; its options are preset,"),
    "game option of the wrong type": (["--data.game.num_stags=two"], "--data.game.num_stags is two: expected int"),
    "missing game option": (["--data.game=PettingZooEnv"], "--data.game.make is missing"),
    "search on an environment": (
        ["--data.game=PettingZooEnv", f"--data.game.make={MPE}", "--data.seats=[learner,random,random]"],
        "--model.algorithm PPO",
    ),
    "partner": (["--data.partners=[bogus]"], "bogus"),
    "config file": (["--config=nowhere.yaml"], "nowhere.yaml"),
    "checkpoint file": (["--ckpt_path=nowhere.ckpt"], "nowhere.ckpt"),
    "checkpoint seat": (["--data.seats=[learner,'checkpoint:nowhere.ckpt']"], "nowhere.ckpt"),
    "workers": (["--data.workers=0"], "data.workers is 0"),
    "capacity": (["--data.training.capacity=2"], "capacity is 2"),
    "unknown loss": (["--model.losses.nonsense=1"], "expected one of vae, subgoal, coplayer, policy, value"),
    "weights": (["--model.losses.vae=-1"], "losses"),
    "adaptation": (["--data.adaptation.steps=0"], "data.adaptation.steps is 0"),
    "references": (["--data.adaptation.references=nowhere.json"], "nowhere.json"),
    "horizon": (["--model.opponent.selector.horizon=0"], "horizon"),
    "seed": (["--seed_everything=-1"], "--seed_everything is -1"),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_is_one_clear_line_and_leaves_nothing(mistake, my_module, tmp_path, capsys):
    args, word = MISTAKES[mistake]
    if MPE in str(args):
        pytest.importorskip("mpe2", reason=ENVS)
    line = refused(["fit", *SMOKE, "--trainer.default_root_dir", str(tmp_path), *args], capsys)
    assert word in line
    assert not list(tmp_path.rglob("*.ckpt"))
    assert not (tmp_path / "lightning_logs").exists()


def test_a_command_that_does_not_exist_and_a_fit_without_an_end_are_refused(capsys):
    assert "expected one of fit, validate, test, predict, study" in refused(["train"], capsys)
    endless = ["fit", *SMOKE, "--trainer.max_epochs=null"]
    assert "give a number of rounds, or --config configs/base.yaml" in refused(endless, capsys)


@pytest.mark.parametrize(
    ("args", "word"),
    [
        (["--model.opponent.goal_dim=8"], "use the settings of its training"),
        (["--model.opponent=Declared"], "model.opponent Subgoal, but this run has Declared"),
        (["--data.game.preset=4h1s_4x4", "--data.seats=[learner,random,random,random]"], "observation_space"),
    ],
)
def test_a_checkpoint_of_another_game_or_size_is_refused(trained, tmp_path, capsys, args, word):
    where = ["--trainer.default_root_dir", str(tmp_path), "--ckpt_path", str(trained / "last.ckpt")]
    assert word in refused(["validate", *SMOKE, *where, *args], capsys)


def test_a_damaged_checkpoint_is_refused(trained, tmp_path, capsys):
    whole = (trained / "last.ckpt").read_bytes()
    (tmp_path / "half.ckpt").write_bytes(whole[: len(whole) // 2])
    args = ["validate", *SMOKE, "--trainer.default_root_dir", str(tmp_path), "--ckpt_path", str(tmp_path / "half.ckpt")]
    assert "damaged" in refused(args, capsys)


def test_schedules_have_keys_of_their_own_and_a_listed_callback_stands_for_them(tmp_path):
    flags = ["--refresh.max_age=1", "--tree_count.schedule={0: 1}", "--seat_schedule.schedule={0: [[learner, random]]}"]
    listed = ["--trainer.callbacks+=callbacks.BufferRefresh", "--trainer.callbacks.max_age=2"]
    for extra, held in ((flags, 4), ([*flags, *listed], 8)):
        folder = run("fit", tmp_path, *TINY, *TWO, "--model.algorithm.trees=3", *extra)
        assert numbers(folder)["buffer/episodes"] == held  # 4 environments: once a round, whoever asks for it
        assert numbers(folder)["search/trees"] == 1


def test_a_machine_of_many_cores_brings_no_advice_about_reading_files(tmp_path, monkeypatch, recwarn):
    module = "lightning.pytorch.trainer.connectors.data_connector"
    monkeypatch.setattr(f"{module}.suggested_max_num_workers", lambda *_: 16)
    run("fit", tmp_path, *TINY)
    assert not [each for each in recwarn if "does not have many workers" in str(each.message)]
