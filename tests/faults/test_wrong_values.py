"""Values that no run can work with: each is refused in one line, with exit code 2, before anything is written."""

import pytest
from command_line import SMOKE, refused

from omg_lightning.mistakes import mistake, suggest
from omg_lightning.training.trainer import RULES, check_trainer
from omg_lightning.types import ConfigError

TRAINER = {
    "max_epochs": [-3, 0],
    "min_epochs": [-1],
    "max_steps": [-5, 0],
    "min_steps": [-1],
    "check_val_every_n_epoch": [0, -1],
    "val_check_interval": [0, -1],
    "max_time": ["abc", "1:2"],
    "limit_train_batches": [0, 0.0, -1],
    "accumulate_grad_batches": [0],
    "gradient_clip_val": [-1, float("nan"), float("inf")],
    "log_every_n_steps": [-1],
    "num_sanity_val_steps": [-2],
    "num_nodes": [0],
    "devices": ["0", "-3", 0],
    "precision": ["64-true", "bf16-true", "16-true", "16-mixed", 64, "transformer-engine"],
    "barebones": [True],
}
FITTING = {
    "max_epochs": [None, -1, 1],
    "min_epochs": [None, 0],
    "max_steps": [-1, 5],
    "min_steps": [None, 3],
    "check_val_every_n_epoch": [None, 1],
    "val_check_interval": [None, 1.0, 0.5, 3, "00:00:10:00"],
    "max_time": [None, "00:01:00:00", {"hours": 1}],
    "limit_train_batches": [None, 1.0, 0.5, 3],
    "accumulate_grad_batches": [1],
    "gradient_clip_val": [None, 0, 0.5],
    "log_every_n_steps": [None, 0, 50],
    "num_sanity_val_steps": [None, 0, -1],
    "num_nodes": [1],
    "devices": ["auto", 1, 2, "2", -1, [0]],
    "precision": [None, "32-true", 32, "bf16-mixed"],
    "barebones": [False],
}


@pytest.mark.parametrize(("name", "value"), [(name, value) for name, values in TRAINER.items() for value in values])
def test_a_setting_of_the_trainer_out_of_range_is_refused_by_name(name, value):
    with pytest.raises(ConfigError, match=rf"^--trainer\.{name} is {value}: expected [^\n]+$"):
        check_trainer({name: value})


def test_valid_settings_of_the_trainer_are_accepted():
    assert set(FITTING) == set(RULES) == set(TRAINER)
    for name, values in FITTING.items():
        for value in values:
            check_trainer({name: value})


def test_a_share_of_an_evaluation_that_is_less_than_a_batch_is_refused():
    with pytest.raises(ConfigError, match=r"limit_val_batches is 0.5, less than one of 1 batches"):
        check_trainer({"limit_val_batches": 0.5}, 1)
    for fits in (0, 0.0, 1, 1.0, 0.5, None):
        check_trainer({"limit_val_batches": fits}, 2)


REJECTS = "Lightning's Trainer rejects its settings"
WRONG = {
    # what the user typed: words of the line
    "--seed_everything=1099511627776": "--seed_everything is 1099511627776: it must lie between 0 and",
    "--seed_everything=abc": "--seed_everything is abc: expected bool or int",
    "--model.learning_rate=-1": "model.learning_rate is -1.0: it must be above 0",
    "--model.learning_rate=0": "model.learning_rate is 0.0: it must be above 0",
    "--model.learning_rate=nan": "--model.learning_rate is nan: expected a finite number",
    "--model.opponent=3": "--model.opponent is 3: expected one of Codebook",
    "--model.networks=3": "--model.networks is 3: expected a group of settings; give them one by one",
    "--model.networks.hidden=0": "model.networks.hidden is 0: it must be at least 1",
    "--data.game=null": "--data.game is null: expected one of CoinGame",
    "--data.num_envs=abc": "--data.num_envs is abc: expected int",
    "--data.num_envs=100000000": "data.training.capacity is 32: it must be at least 100000000",
    "--data.training.capacity=10000000000": "data.training.capacity 10000000000",
    "--data.workers=100000": "data.workers is 100000",
    "--refresh.max_age=abc": "--refresh.max_age is abc: expected int or null",
    "--trainer.max_epochs=-3": "--trainer.max_epochs is -3: expected at least 1",
    "--trainer.devices=0": "--trainer.devices is 0: expected at least 1",
    "--trainer.strategy=nonsense": f"{REJECTS}: You selected an invalid strategy name",
    "--trainer.accelerator=nonsense": f"{REJECTS}: You selected an invalid accelerator name",
    "--trainer.accelerator=mps": REJECTS,
    "--trainer.val_check_interval=99": f"{REJECTS}: `val_check_interval` (99) must be less than",
    "--trainer.max_time=abc": "--trainer.max_time is abc: expected DD:HH:MM:SS",
    "--model.goal=declared": "--model.goal: the options of --model are opponent, algorithm, encoder, reward, networks",
    "--model.learnin_rate=1": "no option --model.learnin_rate: did you mean --model.learning_rate?",
    "--learning_rate=1": "no option --learning_rate: did you mean --model.learning_rate?",
    "--data.trainin.batch_size=1": "did you mean --data.training.batch_size?",
    "--data.game.widht=4": "prosocial; did you mean width?",
    "--data.game.name=snowdrift": "--data.game.name: StagHunt has no option 'name'",
}


@pytest.mark.parametrize("typed", WRONG)
def test_a_wrong_value_is_one_line_that_names_it(typed, tmp_path, capsys):
    line = refused(["fit", *SMOKE, "--trainer.default_root_dir", str(tmp_path), typed], capsys)
    assert WRONG[typed] in line
    assert not list(tmp_path.iterdir())


def test_a_fit_without_a_game_says_what_is_missing(capsys):
    line = refused(["fit", "--data.seats=[learner,random]"], capsys)
    assert "--data.game is missing: give one of CoinGame" in line


def test_an_option_of_a_game_that_is_not_named_asks_for_the_game(capsys):
    line = refused(["fit", "--data.game.name=snowdrift"], capsys)
    assert "--data.game.name came before its class: first give --data.game with one of CoinGame" in line


def test_an_error_names_the_file_of_an_option(capsys):
    line = refused(["fit", *SMOKE, "--data.game=Snowdrift"], capsys)
    assert "a configuration file sets preset: set --data.game.preset as well" in line
    line = refused(["fit", *SMOKE, "--data.game.preset=9x9"], capsys)
    assert "a configuration file" not in line


@pytest.mark.parametrize(
    ("message", "expected"),
    [
        ("unrecognized arguments: --trainer.max_epoch=3", "did you mean --trainer.max_epochs?"),
        ("Subcommand 'fit' does not accept option 'modl.learning_rate'", "did you mean --model.learning_rate?"),
        ("unrecognized arguments: --nonsense=3", "the options are trainer, model"),
        ("Parser key \"x\": Option 'y' is not accepted", "Parser key \"x\": Option 'y' is not accepted"),
    ],
)
def test_a_misspelt_key_suggests_the_most_similar_one(message, expected):
    found = suggest(message, ["trainer.max_epochs", "trainer.max_steps", "model.learning_rate"])
    assert found.endswith(expected)


@pytest.mark.parametrize(
    ("error", "word"),
    [
        (MemoryError("9 GiB"), "too large for this machine"),
        (RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried 8 bytes"), "too large"),
        (RuntimeError("Storage size calculation overflowed with sizes=[9]"), "too large"),
        (RuntimeError("a bug of the program"), None),
        (ValueError("a bug of the program"), None),
    ],
)
def test_a_size_beyond_memory_is_a_mistake_and_a_bug_is_none(error, word):
    found = mistake(error)
    assert found is None if word is None else word in found
