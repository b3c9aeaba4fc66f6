"""Whatever models the others, learns and plays, a resumed run ends as one that nobody interrupted."""

from pathlib import Path
from typing import Any

import pytest
import torch
from command_line import PPO, TINY, interrupted, numbers, run

OPPONENTS = ["Direct", "Declared", "Locations", "Codebook", "Subgoal", "Oracle"]
ALGORITHMS = {"BestResponseSearch": ["--model.algorithm.trees=2"], "PPO": PPO}
SNOWDRIFT = ["--data.game=Snowdrift", *(f"--data.game.{name}=3" for name in ("height", "width", "num_drifts"))]
SNOWDRIFT += ["--data.game.num_players=2", "--data.game.preset=msg"]
PLAY = ["--trainer.max_epochs=5", "--trainer.check_val_every_n_epoch=3", "--data.offline.rounds=1"]
PLAY += ["--data.training.steps_per_epoch=2", "--data.training.past_every=1", "--refresh.max_age=2"]
PLAY += ["--tree_count.schedule={0: 1, 90: null}", "--data.game.max_steps=8"]
PAST = "[[learner, past], [learner, switcher:3]]"
SCRIPTS = "[[learner, switcher:3], [switcher, learner]]"  # who needs true goals cannot play with past selves
SETTINGS = {  # kinds of partners, and an encoder that remembers boards
    "Codebook": ["--model.opponent.belief.kinds.count=3"],
    "Declared": ["--model.encoder=RecurrentConv"],
}
WHERE = {("BestResponseSearch", 1): "a rollout", ("PPO", 1): "a batch"}  # else while processes play
OF_THE_FOLDER = {"dirpath", "best_model_path", "last_model_path", "kth_best_model_path", "best_k_models"}
OF_THE_CLOCK = {"fit_s", "seconds"}
UNUSED = {"current_score"}  # Lightning saves it and never restores it


def differences(one: Any, other: Any, path: str = "") -> list[str]:
    """Where two checkpoints differ, but for the names of run folders and for seconds."""
    if isinstance(one, dict) and isinstance(other, dict):
        keys = {*one, *other} - OF_THE_FOLDER - OF_THE_CLOCK - UNUSED
        return [where for key in keys for where in differences(one.get(key), other.get(key), f"{path}/{key}")]
    if isinstance(one, list | tuple) and isinstance(other, list | tuple) and len(one) == len(other):
        pairs = enumerate(zip(one, other, strict=True))
        return [where for index, pair in pairs for where in differences(*pair, f"{path}/{index}")]
    if isinstance(one, torch.Tensor) and isinstance(other, torch.Tensor):
        return [] if one.dtype == other.dtype and torch.equal(one, other) else [path]
    return [] if one == other else [path]


def last(folder: Path) -> dict[str, Any]:
    return torch.load(folder / "last.ckpt", weights_only=True)


@pytest.mark.slow
@pytest.mark.parametrize("workers", [1, 2])
@pytest.mark.parametrize("algorithm", ALGORITHMS)
@pytest.mark.parametrize("opponent", OPPONENTS)
def test_an_interrupted_run_ends_as_one_that_was_not(opponent, algorithm, workers, tmp_path, monkeypatch):
    later = SCRIPTS if opponent == "Oracle" else PAST
    seats = [f"--data.seats={SCRIPTS}", f"--seat_schedule.schedule={{34: {later}}}"]
    game = SNOWDRIFT if opponent == "Locations" else []
    parts = [f"--model.opponent={opponent}", *SETTINGS.get(opponent, []), *TINY, *ALGORITHMS[algorithm]]
    parts += [f"--data.workers={workers}"]
    args = [*parts, *game, *seats, *PLAY]
    whole = run("fit", tmp_path / "whole", *args)
    place = WHERE.get((algorithm, workers), "processes that play")
    part = interrupted(place, tmp_path / "part", args, monkeypatch)
    rest = run("fit", tmp_path / "rest", *args, f"--ckpt_path={part}/last.ckpt")
    assert 2 <= last(part)["EpisodeDataModule"]["rounds"] < 5
    assert len(last(whole)["EpisodeDataModule"]["past"]) == (0 if opponent == "Oracle" else 3)
    assert not differences(last(whole), last(rest))
    found, expected = ({k: v for k, v in numbers(x).items() if not k.startswith("time/")} for x in (rest, whole))
    assert found == expected
