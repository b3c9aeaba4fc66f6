"""Learning by the shipped configurations, against values in closed form. It takes minutes: `pytest -m slow`."""

import json
from pathlib import Path

import pytest

from omg_lightning.cli import main

pytestmark = pytest.mark.slow
CONFIGS = Path(__file__).parents[1] / "configs"
MATRIX = ["--config", str(CONFIGS / "matrix.yaml")]
PPO = [*MATRIX, "--config", str(CONFIGS / "ppo.yaml")]
SELF_PLAY = ["--data.seats", "[learner, learner]"]


def learned(folder, *args: str) -> dict[str, float]:
    """Returns the numbers of the evaluation that ends a run."""
    main(["fit", *args, "--trainer.default_root_dir", str(folder), "--trainer.enable_progress_bar=false"])
    return json.loads((folder / "lightning_logs/version_0/metrics.json").read_text())


@pytest.mark.parametrize("seed", [0, 1])
def test_ppo_finds_the_optimum_of_the_penalty_game(seed, tmp_path):
    found = learned(tmp_path, *PPO, "--data.game.preset", "penalty", *SELF_PLAY, "--seed_everything", str(seed))
    assert found["return/seat_0_mean"] == 250


def test_ppo_reaches_the_safe_return_of_the_climbing_game(tmp_path):
    longer = ["--model.algorithm.entropy=0.1", "--model.learning_rate=0.005", "--trainer.max_epochs=90"]
    found = learned(tmp_path, *PPO, "--data.game.preset", "climbing", *SELF_PLAY, *longer)
    assert found["return/seat_0_mean"] >= 175


def test_search_defects_against_a_partner_that_always_defects(tmp_path):
    # The best response to `always_1` in the prisoner's dilemma is to defect: -2 in each of 25 steps.
    found = learned(tmp_path, *MATRIX, "--data.seats", "[learner, always_1]", "--data.evaluation.episodes=64")
    assert found["return/seat_0_mean"] == -50
