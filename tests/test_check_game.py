from typing import NamedTuple

import numpy as np
import pytest
import torch
from gymnasium import spaces
from torch import Tensor

from omg_lightning.games import Game, MatrixGame, Snowdrift, StagHunt
from omg_lightning.games.grid.layout import GridLayout
from omg_lightning.games.matrix import PRESETS, TitForTat
from omg_lightning.testing import CheckError, check_device, check_game
from omg_lightning.types import ConfigError

WAIT, TAKE, LEAVE = range(3)


class PurseState(NamedTuple):
    time: Tensor  # int64 [B]
    out: Tensor  # bool [B, P]
    coins: Tensor  # int64 [B]


class Purse(Game):
    """Who takes gets a coin if there is one for every taker; who leaves gets two and is gone."""

    num_players, num_actions, max_steps = 2, 3, 6
    action_names = ("wait", "take", "leave")
    goal_names = ("take", "leave")
    observation_space = spaces.Box(0, np.array([1, 1, 500], dtype=np.int16), dtype=np.int16)

    def reset(self, batch_size, generator=None):
        device = torch.device("cpu") if generator is None else generator.device
        coins = torch.randint(400, (batch_size,), generator=generator, device=device)
        time = torch.zeros_like(coins)
        return PurseState(time, torch.zeros(batch_size, 2, dtype=torch.bool, device=device), coins)

    def active(self, state):
        return ~state.out & (state.time < self.max_steps)[:, None]

    def observe(self, state):
        mine = torch.stack([state.out, state.out.flip(1)], -1)  # [B, P, 2]
        return torch.cat([mine, state.coins[:, None, None].expand(-1, 2, 1)], -1)

    def step(self, state, actions):
        takes, leaves = actions == TAKE, (actions == LEAVE) & ~state.out
        count = takes.sum(1)
        paid = takes & (count <= state.coins)[:, None]
        coins = state.coins - paid.sum(1)
        return PurseState(state.time + 1, state.out | leaves, coins), paid + 2.0 * leaves

    def terminated(self, state):
        return state.out

    def realised(self, state, actions):
        return torch.where(actions == WAIT, -1, actions - 1)


class RealState(NamedTuple):
    time: Tensor
    x: Tensor  # float64 [B, P, 2]


class Rope(Game):
    """Real numbers, any shape of view: two players pull a point, which may drift anywhere."""

    num_players, num_actions, max_steps = 2, 2, 5

    def __init__(self, shape=(3,), dtype=np.float32):
        self.observation_space = spaces.Box(-np.inf, np.inf, shape, dtype)

    def reset(self, batch_size, generator=None):
        x = torch.randn(batch_size, 2, 2, generator=generator).double()
        return RealState(torch.zeros(batch_size, dtype=torch.int64), x)

    def observe(self, state):
        shape = self.observation_space.shape
        size = int(np.prod(shape))
        values = state.x.sum(-1)[..., None] / torch.arange(1, size + 1)
        return values.float().view(len(state.time), 2, *shape)

    def step(self, state, actions):
        x = state.x + (actions[..., None] - 0.5).double() @ torch.ones(1, 2, dtype=torch.float64)
        return RealState(state.time + 1, x), x.mean(-1)


class Alone(Game):
    """One player, who sees nothing but one bit."""

    num_players, num_actions, max_steps = 1, 1, 2
    observation_space = spaces.MultiBinary(1)

    def reset(self, batch_size, generator=None):
        return RealState(torch.zeros(batch_size, dtype=torch.int64), torch.zeros(batch_size, 1, 2))

    def observe(self, state):
        return (state.time % 2 == 1).view(-1, 1, 1)

    def step(self, state, actions):
        return state._replace(time=state.time + 1), torch.ones(actions.shape)


class Values(Purse):
    """Rules that need values, which "meta" has not."""

    def step(self, state, actions):
        coins = state.coins.clone()
        coins[(actions == TAKE).any(1).nonzero()[:, 0]] -= 0
        return Purse.step(self, state._replace(coins=coins), actions)


class CellState(NamedTuple):
    time: Tensor
    cells: Tensor  # int64 [B, P]


class Cells(Game):
    """A grid of 1 x 3 cells: players stand on them, and walk to the right."""

    num_players, num_actions, max_steps = 2, 2, 4
    layout = GridLayout(("self", "other", "floor"), 1, 3, 2)
    observation_space = spaces.MultiBinary((3, 1, 3))
    sparse_views = True

    def reset(self, batch_size, generator=None):
        return CellState(
            torch.zeros(batch_size, dtype=torch.int64), torch.randint(3, (batch_size, 2), generator=generator)
        )

    def observe(self, state):
        shown = torch.nn.functional.one_hot(state.cells, 3).float()  # [B, P, 3]
        planes = torch.stack([shown, shown.flip(1), torch.ones_like(shown)], 2)  # [B, P, C, 3]
        return planes.view(-1, 2, 3, 1, 3)

    def observe_sparse(self, state, board=None):
        floor = torch.arange(6, 9).expand(len(state.cells), 2, 3)
        return torch.cat([state.cells[..., None], state.cells.flip(1)[..., None] + 3, floor], -1).int()

    def step(self, state, actions):
        return CellState(state.time + 1, (state.cells + actions) % 3), torch.zeros(actions.shape)


SMALL_HUNT = {"num_players": 3, "num_stags": 1, "num_hares": 1, "height": 3, "width": 3, "max_steps": 8}
SMALL_SNOW = {"num_players": 2, "num_drifts": 2, "height": 2, "width": 3, "max_steps": 8}


@pytest.mark.parametrize(
    "game",
    [
        StagHunt(**SMALL_HUNT),
        StagHunt(**SMALL_HUNT, prosocial=True),
        Snowdrift(**SMALL_SNOW),
        *(MatrixGame(preset, max_steps=4) for preset in PRESETS),
        MatrixGame(payoff=[1, 2], max_steps=3),
        Purse(),
        Rope(),
        Rope(()),
        Rope((2, 2), np.float64),
        Rope((2, 1, 3)),
        Alone(),
        Values(),
        Cells(),
    ],
    ids=lambda game: game.name,
)
def test_games_that_keep_the_contract_pass(game):
    check_game(game)


@pytest.mark.parametrize("game", [StagHunt(**SMALL_HUNT), Snowdrift(**SMALL_SNOW), MatrixGame("climbing"), Purse()])
def test_rules_run_on_a_device_without_values(game):
    check_device(game, "meta")


def test_the_device_check_names_what_lies_elsewhere():
    check_device(StagHunt(**SMALL_HUNT), "cpu")
    says = "terminated: got a result on the device cpu for a state on meta"
    with pytest.raises(CheckError, match=says):
        check_device(broken(terminated=lambda self, state: torch.zeros(len(state.time), 2, dtype=torch.bool)), "meta")


def test_the_device_check_does_not_change_the_game():
    class Lazy(Purse):
        prices = torch.tensor([0.0, 1.0, 2.0])

        def __init__(self):
            self.prices = Lazy.prices

        def step(self, state, actions):
            self.prices = self.prices.to(actions.device)
            return Purse.step(self, state, actions)[0], self.prices[actions]

    game = Lazy()
    check_game(game)
    check_device(game, "meta")
    assert game.prices.tolist() == [0, 1, 2]


def test_rules_that_need_values_fail_the_strict_device_check_alone():
    check_game(Values())
    with pytest.raises(CheckError, match=r"Values\.step: .*on the device meta: make new tensors with `device="):
        check_device(Values(), "meta")


def test_the_check_leaves_the_global_random_state_alone():
    before = torch.get_rng_state()
    check_game(Purse())
    assert torch.equal(before, torch.get_rng_state())


def test_a_batch_of_one_row_is_refused():
    with pytest.raises(ConfigError, match="batch_size=1: expected a whole number >= 2"):
        check_game(Purse(), batch_size=1)


def broken(base=Purse, **members):
    """A game of `base` with other members, called Broken."""
    return type("Broken", (base,), members)()


def wrong_reset(**fields):
    """A `reset` whose state has other fields."""
    return lambda self, batch_size, generator=None: Purse.reset(self, batch_size, generator)._replace(**fields)


def global_reset(self, batch_size, generator=None):
    return Purse.reset(self, batch_size)


def unsized_reset(self, batch_size, generator=None):
    return Purse.reset(self, 4, generator)


def late_reset(self, batch_size, generator=None):
    state = Purse.reset(self, batch_size, generator)
    return state._replace(time=state.time + 1)


def narrow_reset(self, batch_size, generator=None):
    state = Purse.reset(self, batch_size, generator)
    return state._replace(time=state.time.int())


def dict_reset(self, batch_size, generator=None):
    return Purse.reset(self, batch_size, generator)._asdict()


def listed_reset(self, batch_size, generator=None):
    state = Purse.reset(self, batch_size, generator)
    return state._replace(coins=state.coins.tolist())


class Timeless(NamedTuple):
    coins: Tensor


def timeless_reset(self, batch_size, generator=None):
    return Timeless(Purse.reset(self, batch_size, generator).coins)


def impure_observe(self, state):
    state.coins.clamp_(max=10)
    return Purse.observe(self, state)


def impure_step(self, state, actions):
    state.coins.sub_(1)
    return Purse.step(self, state, actions)


def greedy_step(self, state, actions):
    actions[:] = TAKE
    return Purse.step(self, state, actions)


def chance_step(self, state, actions):
    after, rewards = Purse.step(self, state, actions)
    return after, rewards + torch.rand(rewards.shape)


def timeless_step(self, state, actions):
    after, rewards = Purse.step(self, state, actions)
    return after._replace(time=state.time), rewards


def mixing_step(self, state, actions):
    after, rewards = Purse.step(self, state, actions)
    return after, rewards - rewards.mean()


def retyped_step(self, state, actions):
    after, rewards = Purse.step(self, state, actions)
    return after._replace(coins=after.coins.float()), rewards


def nan_step(self, state, actions):
    after, rewards = Purse.step(self, state, actions)
    return after, rewards / rewards


def careless_step(self, state, actions):
    """Keeps no invariant: takes any action as it is, and moves on after the end."""
    takes = actions != WAIT
    return PurseState(state.time + 1, state.out | (actions == LEAVE), state.coins), takes.float()


def endless_step(self, state, actions):
    return PurseState(state.time + 1, state.out, state.coins), torch.zeros(actions.shape)


def paying_step(self, state, actions):
    after, rewards = Purse.step(self, state, actions)
    return after, torch.where(self.active(state).any(1)[:, None], rewards + 1, 0.0)


def failing_step(self, state, actions):
    return torch.arange(3)[actions + 3], None


def back_again(self, state):
    return (~state.out | (state.time[:, None] == 3)) & (state.time < self.max_steps)[:, None]


def whole_legal(self, state):
    return torch.ones(len(state.time), 2, 3)


def strict_legal(self, state):
    legal = torch.ones(len(state.time), 2, 3, dtype=torch.bool)
    legal[..., WAIT] = False
    return legal


def open_legal(self, state):
    return torch.ones(len(state.time), 2, 3, dtype=torch.bool)


def constant_active(self, state):
    active = Purse.active(self, state)
    return active & torch.ones(2, dtype=torch.bool)


class BadPlayer:
    def reset(self, batch_size, seat, game, generator):
        self.batch_size = batch_size

    def act(self, observation, legal):
        return torch.full((self.batch_size,), 3)


class Unsure(BadPlayer):
    def action_probabilities(self, observation, legal):
        return torch.full(legal.shape, 0.5)


class Dreamer(BadPlayer):
    goals = torch.full((16,), 2)


class Crasher(BadPlayer):
    def act(self, observation, legal):
        return {}["no such key"]


def seat_order(self, state):
    views = Cells.observe(self, state)
    return views[:, :1].expand(-1, 2, -1, -1, -1)


def two_cells(self, state):
    views = Cells.observe(self, state)
    views[:, :, :2] = 1
    return views


def private_floor(self, state):
    views = Cells.observe(self, state)
    views[:, 1, 2] = 0
    return views


def short_sparse(self, state, board=None):
    return Cells.observe_sparse(self, state)[..., 1:]


def far_sparse(self, state, board=None):
    return Cells.observe_sparse(self, state) + 3


def bool_sparse(self, state, board=None):
    return Cells.observe_sparse(self, state).long()


def box(high, dtype):
    return spaces.Box(0, high, (3,), dtype)


def observe_as(change):
    return lambda self, state: change(Purse.observe(self, state).float())


def realised_as(change):
    return lambda self, state, actions: change(Purse.realised(self, state, actions))


A_NAME = "a tuple of 3 different names: set action_names"

BROKEN = {
    "no players": ({"num_players": 0}, "num_players: got 0; expected a whole number >= 1: set num_players"),
    "no number": ({"max_steps": None}, "max_steps: got None; expected a whole number >= 1"),
    "noop out of range": ({"noop": 3}, "noop: got 3; expected the index of an action, 0 to 2: set noop"),
    "prosocial no flag": ({"prosocial": 1}, "prosocial: got 1; expected True or False"),
    "discrete space": (
        {"observation_space": spaces.Discrete(3)},
        "observation_space is Discrete.*: use gymnasium.*flatten_space",
    ),
    "empty space": (
        {"observation_space": spaces.Box(0, 1, (0, 2))},
        r"observation_space has .*\(0, 2\).*one entry: add one",
    ),
    "action names": ({"action_names": ("a", "b")}, rf"action_names: got \('a', 'b'\); expected {A_NAME}"),
    "equal names": ({"action_names": ("a", "a", "b")}, "action_names: .*different names"),
    "agent names": ({"agent_names": ["x", "y"]}, r"agent_names: got \['x', 'y'\]; expected a tuple of 2"),
    "goal names": ({"goal_names": "stag"}, "goal_names: got 'stag'; expected a tuple of different names"),
    "players no mapping": ({"players": ["x"]}, r"players: got \['x'\]; expected a mapping from names: use a dict"),
    "one script": ({"scripts": ("a",)}, "scripts is .*: name two players, the cooperator first"),
    "unknown script": ({"scripts": ("a", "b")}, r"scripts: got \['a', 'b'\]; expected names in players, \[\]: add"),
    "sparse without layout": ({"sparse_views": True}, "sparse_views: got True; expected False without a layout"),
    "global chance": ({"reset": global_reset}, "reset: got two values of `coins` with one seed.*generator=generator"),
    "batch ignored": ({"reset": unsized_reset}, r"reset: got a field `time` of shape \[4\]; expected 16 rows"),
    "late start": ({"reset": late_reset}, r"reset: got the time 1 \(row 0\); expected 0 in every row.*torch.zeros"),
    "narrow time": ({"reset": narrow_reset}, r"reset: got a field `time` int32 \[16\]; expected a field `time`, int64"),
    "no time": (
        {"reset": timeless_reset},
        r"reset: got fields \('coins',\); expected a field `time`.*count the played steps",
    ),
    "dict state": ({"reset": dict_reset}, "reset: got a state of type dict; expected a NamedTuple.*typing.NamedTuple"),
    "list in state": ({"reset": listed_reset}, "reset: got a field `coins` of type list; expected only tensors"),
    "idle at the start": (
        {"active": lambda self, state: Purse.active(self, state) & (state.time > 0)[:, None]},
        r"active: got an inactive seat after reset \(row 0, seat 0\); expected True everywhere",
    ),
    "active of ints": (
        {"active": lambda self, state: Purse.active(self, state).long()},
        r"active: got int64 \[16, 2\]; expected bool \[B, P\] = \[16, 2\]: .*`.to\(torch.bool\)`",
    ),
    "never over": (
        {"active": lambda self, state: ~state.out, "step": endless_step},
        r"active: got an active seat after max_steps=6 steps .*return False where `time >= max_steps`",
    ),
    "seat returns": (
        {"active": back_again, "terminated": Game.terminated},
        "active: got a seat that had left and is back .*keep active False",
    ),
    "legal of floats": ({"legal": whole_legal}, r"legal: got float32 \[16, 2, 3\]; expected bool \[B, P, A\]"),
    "illegal noop": (
        {"legal": strict_legal, "keeps_invariants": True},
        r"legal: got an illegal noop for an inactive seat .*expected only noop .*legal\[..., self.noop\] = True",
    ),
    "nothing legal": (
        {"legal": lambda self, state: strict_legal(self, state) & False, "keeps_invariants": True},
        r"legal: got no legal action \(row 0, seat 0\); expected at least one",
    ),
    "legal after leaving": (
        {"legal": open_legal, "keeps_invariants": True},
        "legal: got for an inactive seat a number of legal actions of 3 .*expected 1, noop: return False",
    ),
    "terminated too early": (
        {"terminated": lambda self, state: torch.ones_like(state.out)},
        r"terminated: got True for an active seat .*`... & ~self.active\(state\)`",
    ),
    "view too short": (
        {"observe": observe_as(lambda view: view[..., 1:])},
        r"observe: got float32 \[16, 2, 2\]; expected a tensor \[B, P, \*observation_space.shape\] = \[16, 2, 3\]",
    ),
    "view of numpy": ({"observe": lambda self, state: state.coins.numpy()}, "observe: got ndarray; expected a tensor"),
    "view too large": (
        {"observe": observe_as(lambda view: view + 1)},
        "observe: got the value [0-9]+ .*expected values of observation_space, 0 to [0-9]+ at index .*bounds",
    ),
    "view of nan": (
        {"observation_space": box(500, np.float32), "observe": observe_as(lambda view: view / 0)},
        r"observe: got the value nan \(row 0, seat 0\)",
    ),
    "view not whole": (
        {"observe": observe_as(lambda view: view / 2)},
        r"observe: got the value [0-9.]+ .*torch.int16, the dtype in which .* stored, holds exactly: round the views",
    ),
    "more than a byte": (
        {"observation_space": box(255, np.uint8)},
        "observe: got the value [0-9]+ .*expected values of observation_space, 0 to 255",
    ),
    "impure observe": (
        {"observe": impure_observe},
        r"observe: got a changed argument \(coins\); .*clone tensors before",
    ),
    "impure step": ({"step": impure_step}, r"step: got a changed argument \(coins\); .*clone tensors before"),
    "actions changed": (
        {"step": greedy_step, "keeps_invariants": True},
        r"step: got a changed argument \(actions\); .*clone tensors before",
    ),
    "chance in step": (
        {"step": chance_step},
        "step: got another value of rewards at a second call.*all random numbers in reset",
    ),
    "time stands still": ({"step": timeless_step}, r"step: got the time 0 \(row 0\); expected one more .*time \+ 1`"),
    "rows mixed": (
        {"step": mixing_step},
        "step: got another value of rewards for the same row in another batch.*within",
    ),
    "dtype changes": ({"step": retyped_step}, r"step: got a field `coins` float32 \[16\]; expected int64 \[16\], as"),
    "no pair": ({"step": lambda self, state, actions: state}, r"step: got PurseState; expected the pair \(next state"),
    "rewards of a row": (
        {"step": lambda self, state, actions: (state, torch.zeros(len(actions)))},
        r"step: got float32 \[16\]; expected rewards as a tensor \[B, P\] = \[16, 2\]",
    ),
    "rewards of ints": (
        {"step": lambda self, state, actions: (state, torch.zeros_like(actions)), "keeps_invariants": True},
        r"step: got int64 \[16, 2\]; expected rewards as float32 \[B, P\]",
    ),
    "reward nan": ({"step": nan_step}, "step: got the reward nan .*expected a finite one: avoid divisions by zero"),
    "step fails": (
        {"step": failing_step},
        r"step: got IndexError \(index .*\); expected the next state .*: correct test_check_game.py, line [0-9]+",
    ),
    "no invariants": (
        {"step": careless_step, "keeps_invariants": True},
        "step: got .*(set keeps_invariants to False|set prosocial to True)",
    ),
    "paid after leaving": (
        {"step": paying_step, "keeps_invariants": True},
        r"step: got for a seat that has left the reward 1 .*expected 0: return 0 there",
    ),
    "goals of int32": (
        {"realised": realised_as(Tensor.int)},
        r"realised: got int32 \[16, 2\]; expected int64 \[B, P\]",
    ),
    "goal out of range": (
        {"realised": realised_as(lambda goals: goals + 3)},
        r"realised: got the goal [2-5] .*expected NO_GOAL \(-1\) or a goal, 0 to 1: .*goal_names",
    ),
    "undeclared goal": ({"goal_names": ()}, "realised: got the goal [01] .*since goal_names is empty"),
    "goal of one who left": (
        {"realised": realised_as(torch.zeros_like), "keeps_invariants": True},
        r"realised: got for an inactive seat the goal 0 .*expected NO_GOAL \(-1\)",
    ),
    "constant on the CPU": (
        {"terminated": lambda self, state: torch.zeros(len(state.time), 2, dtype=torch.bool)},
        r"terminated: got a result on the device cpu for a state on meta; .*`device=state.time.device`",
    ),
    "player acts out of range": (
        {"players": {"x": BadPlayer}},
        r"players\['x'\].act: BadPlayer.act returned .*outside 0..2: see",
    ),
    "player is none": (
        {"players": {"x": object}},
        r"players\['x'\]: got an object of type object; expected a player: give it the meth",
    ),
    "player is not sure": ({"players": {"x": Unsure}}, r"players\['x'\].action_prob.* sum of 1.5 .*sum to 1: multiply"),
    "player has other goals": ({"players": {"x": Dreamer}}, r"players\['x'\].goals: Dreamer.goals must be indices in"),
    "player crashes": ({"players": {"x": Crasher}}, r"players\['x'\].act: got KeyError .*test_check_game.py, line"),
    "player of another game": ({"players": {"x": TitForTat}}, r"players\['x'\].reset: TitForTat replies .*: choose"),
}
BROKEN_GRIDS = {
    "other shape": ({"layout": GridLayout(("self", "other"), 1, 3, 2)}, r"layout: got \(2, 1, 3\); expected .*\(3, 1"),
    "real numbers": ({"observation_space": spaces.Box(0, 1, (3, 1, 3))}, "observation_space: .*expected bits"),
    "too few planes": ({"layout": GridLayout(("a", "a", "b"), 1, 3, 2)}, "layout.plane_names: .*different names"),
    "other players": ({"layout": GridLayout(("a", "c", "b"), 1, 3, 3)}, "layout.num_players: got 3; expected num_pl"),
    "goal planes": (
        {"layout": GridLayout(("a", "c", "b"), 1, 3, 2, goal_planes=(1,))},
        r"layout.goal_planes: got \(1,\); expected no planes, or \d+, each from 2 to 2",
    ),
    "walls": ({"layout": GridLayout(("a", "c", "b"), 1, 3, 2, walls=1)}, "layout.walls: got 1; expected None, or 2 to"),
    "seat order": ({"observe": seat_order}, "observe: got in plane 1 of seat 0 .*expected players in ego order"),
    "two cells": ({"observe": two_cells}, "observe: got in plane 0 of seat 0 a number of cells of 3 .*mark the player"),
    "private floor": ({"observe": private_floor}, "observe: got planes after those of the players that differ"),
    "sparse forgets": ({"observe_sparse": short_sparse}, "observe_sparse: got other ones than in observe .*agree"),
    "sparse index": ({"observe_sparse": far_sparse}, "observe_sparse: got the index 1[01] .*or 9 for none"),
    "sparse dtype": ({"observe_sparse": bool_sparse}, "observe_sparse: got int64 .*expected int32"),
}


@pytest.mark.parametrize(
    ("base", "members", "says"),
    [
        *((Purse, *case) for case in BROKEN.values()),
        *((Cells, *case) for case in BROKEN_GRIDS.values()),
    ],
    ids=[*BROKEN, *(f"grid, {name}" for name in BROKEN_GRIDS)],
)
def test_a_broken_game_is_refused_in_one_sentence_with_the_cure(base, members, says):
    with pytest.raises(CheckError, match=says) as caught:
        check_game(broken(base, **members))
    sentence = str(caught.value)
    assert sentence.startswith("Broken.")
    assert "\n" not in sentence
    assert ": " in sentence


def test_an_error_names_the_missing_attribute():
    class Sizeless(Purse):
        @property
        def max_steps(self):
            raise AttributeError("max_steps")

    with pytest.raises(CheckError, match=r"Sizeless.max_steps: got AttributeError .*: set max_steps in __init__"):
        check_game(Sizeless())


def test_a_class_and_an_instance_of_another_type_are_refused():
    with pytest.raises(CheckError, match=r"the class Purse; expected a game: call it, as Purse\(...\)"):
        check_game(Purse)
    with pytest.raises(CheckError, match=r"an instance of dict; expected an instance of a subclass of .*games.Game"):
        check_game({})


def test_the_error_of_a_game_stays_attached():
    with pytest.raises(CheckError) as caught:
        check_game(broken(step=failing_step))
    assert isinstance(caught.value.__cause__, IndexError)
