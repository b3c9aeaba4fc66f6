import pytest
import torch
from toys import TokenGame, stag_hunt, tiny_data

from omg_lightning.games.grid.symmetry import Symmetries
from omg_lightning.games import Snowdrift, StagHunt
from omg_lightning.rollout import arrange, play
from omg_lightning.types import ConfigError

SQUARE = StagHunt.preset("4h1s_6x6")


def hunt(game, batch=6, seed=0):
    lineup = ["nearest_stag", "nearest_hare", "random", "random"][: game.num_players]
    seats = arrange([lineup], batch, game, torch.device("cpu"))
    return play(game, seats, {}, torch.Generator().manual_seed(seed)).episodes


def place_like(game, observation):
    """The state that seat 0 sees in one row, `[C, h, w]`."""
    cells = {name: plane.nonzero().tolist() for name, plane in zip(game.plane_names, observation, strict=True)}
    players = [cells["self"][0], *(cells[f"other_{k}"][0] for k in range(1, game.num_players))]
    return game.place(hunters=players, **{name: cells[name] for name in ("stags", "hares", "blocks")})


@pytest.mark.parametrize("index", range(8))
def test_a_moved_episode_is_an_episode_of_the_moved_board(index):
    """The rules themselves say what should have come: the moved actions are played on the moved first board."""
    moved = Symmetries(SQUARE).apply(hunt(SQUARE), index)
    for b in range(moved.active.shape[1]):
        state = place_like(SQUARE, moved.observation[0, b, 0])
        for t in range(int(moved.active[:, b].any(-1).sum())):
            assert torch.equal(SQUARE.observe(state)[0], moved.observation[t, b].float())
            assert torch.equal(SQUARE.legal(state)[0], moved.legal[t, b])
            state, reward = SQUARE.step(state, moved.action[t, b][None])
            torch.testing.assert_close(reward[0], moved.reward[t, b])


def test_the_first_changes_nothing_and_all_are_different():
    episodes, group = hunt(SQUARE), Symmetries(SQUARE)
    assert len(group) == 8
    assert all(torch.equal(a, b) for a, b in zip(group.apply(episodes, 0), episodes, strict=True))
    views = {tuple(group.apply(episodes, k).observation.flatten().tolist()) for k in range(8)}
    assert len(views) == 8


def test_search_policies_go_with_their_actions():
    episodes = hunt(SQUARE)
    chosen = torch.nn.functional.one_hot(episodes.action, 7).float()
    for k in range(8):
        moved = Symmetries(SQUARE).apply(episodes._replace(policy=chosen), k)
        assert torch.equal(moved.policy.argmax(-1), moved.action)


@pytest.mark.parametrize("index", range(8))
def test_goals_that_are_places_move_with_the_board(index):
    game = Snowdrift(num_drifts=3, height=4, width=4)
    seats = arrange([["cleaner"] * 4], 5, game, torch.device("cpu"))
    episodes = play(game, seats, {}, torch.Generator().manual_seed(0)).episodes
    drifts = episodes.observation[..., 4, :, :].flatten(3).float()
    nowhere = torch.full_like(drifts[..., :1], 0.5)
    moved = Symmetries(game).apply(episodes._replace(goal=torch.cat([drifts, nowhere], -1)), index, places=True)
    assert torch.equal(
        moved.goal[..., :-1].view(moved.observation[..., 4, :, :].shape), moved.observation[..., 4, :, :]
    )
    assert torch.equal(moved.goal[..., -1:], nowhere)


def test_a_rectangle_has_four():
    game = stag_hunt(2, height=3, width=5)
    assert len(Symmetries(game)) == 4
    assert Symmetries(game).apply(hunt(game), 3).observation.shape[-2:] == (3, 5)


def test_snowdrift_has_them_and_a_game_without_moves_has_none():
    assert len(Symmetries(Snowdrift.preset("msg"))) == 8
    with pytest.raises(ConfigError, match="symmetries"):
        Symmetries(TokenGame())


def test_batches_are_moved_where_it_is_switched_on():
    def views(symmetries):
        data = tiny_data(symmetries=symmetries, steps_per_epoch=8, batch_size=4, num_envs=4)
        data.buffer.add(hunt(data.game, 4), 0)
        # Summed, for a batch of all four holds them in any order.
        return [batch.episodes.observation.sum((1, 2)).float() for batch in data.train_dataloader()]

    still, moved = views(False), views(True)
    assert all(torch.equal(x, still[0]) for x in still)
    assert not all(torch.equal(x, moved[0]) for x in moved)
