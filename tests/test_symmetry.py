import pytest
import torch
from number_games import Countdown, NumberGame
from toys import TokenGame, attached, same, stag_hunt, tiny_agent, tiny_data

from omg_lightning.actors import arrange
from omg_lightning.algorithms import PPO
from omg_lightning.envs import as_env
from omg_lightning.games import MatrixGame, Overcooked, Snowdrift, StagHunt
from omg_lightning.games.grid.symmetry import Symmetries
from omg_lightning.rollout import play
from omg_lightning.types import ConfigError

SQUARE = StagHunt.preset("4h1s_6x6")


def symmetries(game):
    return Symmetries(as_env(game))


def rollout(game, lineup, batch, seed=0, **learners):
    env = as_env(game)
    seating = arrange([lineup], batch, env, torch.Generator().device)
    return play(env, seating, learners, torch.Generator().manual_seed(seed)).episodes


def hunt(game, batch=6, seed=0):
    return rollout(game, ["nearest_stag", "nearest_hare", "random", "random"][: game.num_players], batch, seed)


def place_like(game, observation):
    """The state that seat 0 sees in one row, `[C, h, w]`."""
    cells = {name: plane.nonzero().tolist() for name, plane in zip(game.layout.plane_names, observation, strict=True)}
    players = [cells["self"][0], *(cells[f"other_{k}"][0] for k in range(1, game.num_players))]
    return game.place(hunters=players, **{name: cells[name] for name in ("stags", "hares", "blocks")})


@pytest.mark.parametrize("index", range(8))
def test_a_transformed_episode_is_an_episode_on_the_transformed_board(index):
    """The rules themselves say what should have come: the moved actions are played on the moved first board."""
    moved = symmetries(SQUARE).apply(hunt(SQUARE), index)
    for b in range(moved.active.shape[1]):
        state = place_like(SQUARE, moved.observation[0, b, 0])
        for t in range(int(moved.active[:, b].any(-1).sum())):
            assert torch.equal(SQUARE.observe(state)[0], moved.observation[t, b].float())
            assert torch.equal(SQUARE.legal(state)[0], moved.legal[t, b])
            state, reward = SQUARE.step(state, moved.action[t, b][None])
            torch.testing.assert_close(reward[0], moved.reward[t, b])


def test_the_first_symmetry_is_the_identity_and_all_differ():
    episodes, group = hunt(SQUARE), symmetries(SQUARE)
    assert len(group) == 8
    assert same(group.apply(episodes, 0), episodes)
    views = {tuple(group.apply(episodes, k).observation.flatten().tolist()) for k in range(8)}
    assert len(views) == 8


def test_extras_per_action_turn_with_their_actions_and_others_stay():
    episodes = hunt(SQUARE)
    chosen = torch.nn.functional.one_hot(episodes.action, 7).float()
    value, pair = episodes.reward + 1, torch.stack([chosen, 2 * chosen], -2)  # per action is what comes last
    episodes = episodes._replace(extras={"root_policy": chosen, "root_value": value, "pair": pair, "other": chosen})
    for k in range(8):
        moved = symmetries(SQUARE).apply(episodes, k, per_action=["root_policy", "pair"])
        assert torch.equal(moved.extras["root_policy"].argmax(-1), moved.action)
        assert torch.equal(moved.extras["pair"].argmax(-1), moved.action[..., None].expand(-1, -1, -1, 2))
        assert torch.equal(moved.extras["root_value"], value)
        assert torch.equal(moved.extras["other"], chosen)
    assert same(episodes.extras["root_policy"], chosen), "what is given stays as it was"


@pytest.mark.parametrize("index", range(8))
def test_goals_that_are_cells_turn_with_the_board(index):
    game = Snowdrift(num_drifts=3, height=4, width=4)
    episodes = rollout(game, ["cleaner"] * 4, 5)
    drifts = episodes.observation[..., 4, :, :].flatten(3).float()
    nowhere = torch.full_like(drifts[..., :1], 0.5)
    episodes = episodes._replace(goal=torch.cat([drifts, nowhere], -1))
    moved = symmetries(game).apply(episodes, index, cells=True)
    assert torch.equal(
        moved.goal[..., :-1].view(moved.observation[..., 4, :, :].shape), moved.observation[..., 4, :, :]
    )
    assert torch.equal(moved.goal[..., -1:], nowhere)
    assert torch.equal(symmetries(game).apply(episodes, index).goal, episodes.goal), "goals that are no cells stay"


@pytest.mark.parametrize("index", range(4))
def test_directions_of_cooks_rotate_with_the_board(index):
    """Each turned episode is one of the kitchen that is turned as well."""
    game = Overcooked("cramped_room", max_steps=12)
    moved = symmetries(game).apply(rollout(game, ["random", "independent"], 3), index)
    cells = [list(row) for row in ("XXPXX", "O  2O", "X1  X", "XDXSX")]
    turn, mirror = symmetries(game).each[index]
    cells = [row[::-1] for row in cells] if mirror else cells
    for _ in range(turn):
        cells = [list(row) for row in zip(*cells, strict=True)][::-1]
    turned = Overcooked(grid=["".join(row) for row in cells], max_steps=12)
    state = turned.reset(3)
    first = torch.tensor([turned.layout.plane_names.index("facing_north")])
    facing = moved.observation[0, :, 0, first : first + 4].flatten(2).any(2).byte().argmax(1)
    state = state._replace(facing=facing[:, None].expand(-1, 2))
    for t in range(12):
        assert torch.equal(turned.observe(state), moved.observation[t].float())
        state, _ = turned.step(state, moved.action[t])


def test_a_rectangle_has_four():
    game = stag_hunt(2, height=3, width=5)
    assert len(symmetries(game)) == 4
    assert symmetries(game).apply(hunt(game), 3).observation.shape[-2:] == (3, 5)


def test_snowdrift_has_eight():
    assert len(symmetries(Snowdrift.preset("msg"))) == 8


@pytest.mark.parametrize(
    ("game", "says"),
    [
        (TokenGame(), "TokenGame has no action 'up', so its board cannot be rotated: set it to false"),
        (NumberGame("a table"), "rotates boards, but NumberGame is not on a grid: set it to false"),
        (MatrixGame("stag_hunt"), "rotates boards, but MatrixGame is not on a grid: set it to false"),
        (Countdown(2), "rotates boards, but Countdown is not on a grid: set it to false"),
    ],
)
def test_a_game_without_a_board_or_moves_is_refused_in_one_line(game, says):
    with pytest.raises(ConfigError, match=f"data.training.symmetries:? ?.*{says}") as caught:
        symmetries(game)
    assert "\n" not in str(caught.value)


def test_batches_are_moved_where_it_is_switched_on():
    def views(turned):
        data = attached(tiny_data(training={"symmetries": turned, "steps_per_epoch": 8, "batch_size": 4}))
        data.refresh()
        # Summed, for a batch of all four holds them in any order.
        return [batch.episodes.observation.sum((1, 2)).float() for batch in data.train_dataloader()]

    still, moved = views(False), views(True)
    assert all(torch.equal(x, still[0]) for x in still)
    assert not all(torch.equal(x, moved[0]) for x in moved)


@pytest.mark.parametrize("opponent", ["Declared", "Locations"])
@pytest.mark.parametrize("algorithm", ["search", "PPO"])
def test_a_rotated_batch_keeps_its_fields_consistent(opponent, algorithm):
    """A root policy is that of the turned actions, and a goal that is a cell lies on the turned board."""
    game = Snowdrift(num_players=2, num_drifts=3, height=4, width=4, max_steps=6)
    settings = {"algorithm": PPO} if algorithm == "PPO" else {"search_args": {"simulations": 6}}
    training = {"symmetries": True, "steps_per_epoch": 12, "batch_size": 4}
    data = tiny_data(game=game, seats=["learner", "cleaner"], offline={"rounds": 0}, training=training)
    agent = tiny_agent(data.env, opponent, **settings)
    data.attach(agent.actor, agent.load_actor, agent.copy_weights)
    data.refresh()
    turned = 0
    for batch in data.train_dataloader():
        episodes = batch.episodes
        assert episodes.legal.gather(-1, episodes.action[..., None])[..., 0][episodes.active].all()
        if algorithm == "search":
            policy = episodes.extras["root_policy"]
            assert not policy[~episodes.legal].any()
            taken = policy.gather(-1, episodes.action[..., None])[..., 0]
            assert (taken[episodes.learner] > 0).all()
        if opponent == "Locations":
            drifts = episodes.observation[..., 2, :, :].flatten(3) > 0
            assert not episodes.goal[..., :-1][episodes.active][~drifts[episodes.active]].any()
        stored = {tuple(view.flatten().tolist()) for view in data.latest.episodes.observation[0, :, 0]}
        turned += sum(tuple(view.flatten().tolist()) not in stored for view in episodes.observation[0, :, 0])
    assert turned > 4, "boards are turned"
