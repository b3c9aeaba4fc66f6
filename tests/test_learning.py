"""Learning by the shipped configurations, against values in closed form. It takes minutes: `pytest -m slow`."""

import json
from pathlib import Path

import pytest
import torch

from omg_lightning.actors import arrange
from omg_lightning.cli import Networks, main, run
from omg_lightning.evaluation.best_response import best_response
from omg_lightning.rollout import play

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
    found = learned(tmp_path, *PPO, "--data.game.preset", "climbing", *SELF_PLAY)
    assert found["return/seat_0_mean"] >= 175


@pytest.mark.parametrize(
    ("preset", "partner"),
    [("prisoners_dilemma", "tit_for_tat"), ("prisoners_dilemma", "mostly_1"), ("chicken", "mostly_0")],
)
def test_search_is_the_exact_best_response_beside_a_fixed_strategy(preset, partner, tmp_path):
    few = ["--data.evaluation.episodes=8", "--trainer.check_val_every_n_epoch=30"]
    learned(tmp_path, *MATRIX, "--data.game.preset", preset, "--data.seats", f"[learner, {partner}]", *few)
    networks = run(["validate", "--config", str(tmp_path / "lightning_logs/version_0/config.yaml")], Networks)
    actor = networks.model.load_actor(str(tmp_path / "lightning_logs/version_0/last.ckpt"))
    env, game = networks.datamodule.env, networks.datamodule.env.game
    seating = arrange([["learner", partner]], 64, env, torch.Generator().device)
    with torch.no_grad():
        found = play(env, seating, {"learner": actor}, torch.Generator().manual_seed(0), greedy=True).episodes
    assert best_response(game, game.players[partner]()).regret(found).max() < 1e-6
