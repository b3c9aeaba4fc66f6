"""Games that people played are trained on in the offline phase."""

import pytest
import torch
from test_viewer import GAME, STAY, session
from toys import attached, tiny_data

from omg_lightning.games import Snowdrift
from omg_lightning.types import NO_GOAL, ConfigError
from omg_lightning.viewer import HUMAN
from omg_lightning.viewer.files import save_game


@pytest.fixture
def folder(tmp_path):
    """Two games: of a person who stays beside a hare hunter, and of two hare hunters, who are done sooner."""
    for seats in ((HUMAN, "nearest_hare"), ("nearest_hare", "nearest_hare")):
        played = session(seats)
        while played.waits:
            played.play(dict.fromkeys(played.waits, STAY))
        played.play_out()
        save_game(played, tmp_path)
    return tmp_path


def data_of(folder, rounds=2, **sizes):
    return tiny_data(**{"game": GAME, **sizes}, offline={"rounds": rounds, "recorded": str(folder)})


def test_each_offline_round_has_the_recorded_games_and_no_other_round_has(folder):
    data = attached(data_of(folder))
    saved = [torch.load(path, weights_only=True)["episodes"] for path in sorted(folder.glob("*.pt"))]
    assert len({len(game["active"]) for game in saved}) == 2, "of different lengths"
    for held in (data.num_envs + 2, data.num_envs + 2, data.num_envs):
        data.refresh(max_age=1)
        assert len(data.buffer) == held
        everything = data.buffer.sample(held, torch.Generator())
        for game in saved:
            steps = len(game["active"])
            found = [
                row
                for row in range(held)
                if all(
                    torch.equal(field[:steps, row], game[name][:, 0])
                    for name, field in everything.tensors().items()
                    if name in game and name != "goal"
                )
            ]
            assert len(found) == (held > data.num_envs)
            for row in found:
                assert not everything.active[steps:, row].any()
                assert (everything.achieved_goal[steps:, row] == NO_GOAL).all()
                assert not everything.learner[:, row].any()


def test_user_errors_are_raised_before_any_rollout(folder, tmp_path):
    found = r"nowhere, which has no episode_\*\.pt: save games there with python -m omg_lightning play --folder"
    with pytest.raises(ConfigError, match=found):
        data_of(tmp_path / "nowhere")
    with pytest.raises(ConfigError, match=r"data\.offline\.rounds is 0: set it to at least 1"):
        data_of(folder, rounds=0)
    with pytest.raises(ConfigError, match=r"a game with name StagHunt, but this run has name Snowdrift"):
        data_of(folder, game=Snowdrift(num_players=2), seats=["learner", "cleaner"])
    with pytest.raises(ConfigError, match=r"capacity is 5, .* the 6 episodes .*: set it to at least 6"):
        data_of(folder, training={"capacity": 5})
    (folder / "episode_0001.pt").write_bytes(b"none")
    with pytest.raises(ConfigError, match=r"episode_0001\.pt is not a game saved by `play` .*: remove it"):
        data_of(folder)
