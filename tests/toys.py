"""Toys for the tests of the core: a game in which everything is recognisable, learners made of plain functions."""

from typing import NamedTuple

import torch
from torch import Tensor

from omg_lightning.data import EpisodeDataModule, GameConfig
from omg_lightning.games import StagHunt
from omg_lightning.opponents import NoGoals
from omg_lightning.losses import traced_returns
from omg_lightning.training import Agent
from omg_lightning.samples import Samples
from omg_lightning.opponents.subgoal_predictor import Inference
from omg_lightning.rollout import arrange, play
from omg_lightning.types import NO_GOAL, Batch, Episodes, Learner, PlannerConfig, ego_order

SURE = 1e4  # a logit that leaves no doubt, whatever the noise


class TokenState(NamedTuple):
    time: Tensor  # int64 [B]
    last: Tensor  # int64 [B, P] every seat's last action
    leaves: Tensor  # int64 [B, P] the time at which a seat leaves


class TokenGame:
    """Every seat shows its last action as its place on a 1 x A board, and leaves at a time drawn at the start.

    All roles are alike. The reward tells the joint action: digit k (from the right) of seat i's reward is what seat
    i + k did. Actions 0 and 1 realise goals 0 and 1.
    """

    goal_names = ("zero", "one")
    agent_name = "token"

    def __init__(self, num_players: int = 3, num_actions: int = 5, max_steps: int = 6, ragged: bool = True) -> None:
        self.num_players, self.num_actions, self.max_steps, self.ragged = num_players, num_actions, max_steps, ragged
        self.noop = num_actions - 1
        self.observation_shape = (num_players + 1, 1, num_actions)
        self.plane_names = ("self", *(f"other_{k}" for k in range(1, num_players)), "board")
        self.action_names = tuple(f"say_{a}" for a in range(num_actions))

    def reset(self, batch_size: int, generator: torch.Generator | None = None) -> TokenState:
        size = (batch_size, self.num_players)
        last = torch.randint(self.num_actions, size, generator=generator)
        leaves = torch.randint(1, self.max_steps + 1, size, generator=generator)
        leaves = leaves if self.ragged else torch.full_like(leaves, self.max_steps)
        return TokenState(torch.zeros(batch_size, dtype=torch.int64), last, leaves)

    def active(self, state: TokenState) -> Tensor:
        return state.time[:, None] < state.leaves

    def legal(self, state: TokenState) -> Tensor:
        legal = self.active(state)[..., None].repeat(1, 1, self.num_actions)
        legal[..., self.noop] = True
        return legal

    def observe(self, state: TokenState) -> Tensor:
        shown = torch.nn.functional.one_hot(state.last, self.num_actions).float() * self.active(state)[..., None]
        batch, players, _ = shown.shape
        ego = torch.arange(players).repeat(batch)
        views = ego_order(shown.repeat_interleave(players, 0), ego)  # [B * P, P, A]
        views = torch.cat([views, torch.ones_like(views[:, :1])], 1)
        return views.view(batch, players, *self.observation_shape)

    def step(self, state: TokenState, actions: Tensor) -> tuple[TokenState, Tensor]:
        active = self.active(state)
        played = torch.where(active, actions, self.noop)
        place = 10 ** torch.arange(self.num_players)
        rewards = torch.stack([(played.roll(-i, 1) * place).sum(-1) for i in range(self.num_players)], -1)
        last = torch.where(active, played, state.last)
        return TokenState(state.time + active.any(-1), last, state.leaves), (rewards * active).float()

    def realised(self, state: TokenState, actions: Tensor) -> Tensor:
        return torch.where(self.active(state) & (actions < 2), actions, NO_GOAL)


class Counter:
    """A token player that says what comes after what it said last."""

    def reset(self, batch_size, seat, game, generator):
        pass

    def act(self, observation, legal):
        return (observation[:, 0, 0].argmax(-1) + 1) % legal.shape[-1]


class Fixed:
    """A game that starts in the given states, in every reset."""

    def __init__(self, game, state) -> None:
        self._game, self._state = game, state

    def __getattr__(self, name):
        return getattr(self._game, name)

    def reset(self, batch_size, generator=None):
        assert batch_size == len(self._state.time)
        return self._state


def discounted_returns(reward: Tensor, discount: float) -> Tensor:
    """`G_t = r_t + discount * G_{t+1}` of `[T, ...]`."""
    return traced_returns(reward, reward, torch.zeros_like(reward, dtype=torch.bool), discount, trace=1.0)


def stag_hunt(num_players: int = 2, **options) -> StagHunt:
    """A small Stag-Hunt: 4 x 4, one stag, two hares, 8 steps."""
    sizes = {"num_stags": 1, "num_hares": 2, "height": 4, "width": 4, "max_steps": 8}
    return StagHunt(**{"num_players": num_players, **sizes, **options})


def repeat_last(observation: Tensor, time: Tensor, condition: Tensor) -> Tensor:
    """A model of token players: they surely say what they said last, plus the goal `condition` `[M, 1]`, modulo A."""
    last = observation[:, 0, 0].argmax(-1)
    said = (last + condition[:, 0].long()) % observation.shape[-1]
    return SURE * torch.nn.functional.one_hot(said, observation.shape[-1]).float()


def always(action: int, num_actions: int):
    """A model of players that surely play `action` whenever they can."""

    def logits(observation, time, condition):
        out = torch.zeros(len(observation), num_actions)
        out[:, action] = SURE
        return out

    return logits


def plain_learner(game, coplayer=None, source=None, trees=1, simulations=4, **planner) -> Learner:
    """A learner of plain functions: a flat prior, value 0, and the co-player model given (uniform by default)."""
    actions = game.num_actions
    return Learner(
        source=source or NoGoals(),
        policy=lambda view, time, condition: (torch.zeros(len(view), actions), torch.zeros(len(view))),
        policy_condition=lambda goals, seat: goals.flatten(1),
        coplayer=coplayer or (lambda view, time, condition: torch.zeros(len(view), actions)),
        coplayer_condition=lambda goals, seat: goals,
        trees=trees,
        simulations=simulations,
        planner=PlannerConfig(**planner),
    )


def tiny_agent(game, goals: str = "subgoal", seed: int = 0, **settings) -> Agent:
    """A small agent for `game`, with weights drawn from `seed`."""
    torch.manual_seed(seed)
    sizes = {"goal_dim": 3, "trees": 1, "simulations": 2, "hidden": 16, "game": type(game).__name__}
    return Agent(
        goals,
        observation_shape=game.observation_shape,
        num_players=game.num_players,
        num_actions=game.num_actions,
        max_steps=game.max_steps,
        num_goals=len(game.goal_names),
        **{**sizes, **settings},
    )


def play_with(agent: Agent, game, lineup, batch: int = 6, seed: int = 0) -> Episodes:
    """Episodes of `lineup`, with `agent` in the seats called learner (it watches even if there are none)."""
    seats = arrange([lineup], batch, game, torch.device("cpu"))
    return play(game, seats, {"learner": agent.learner()}, torch.Generator().manual_seed(seed)).episodes


def inferred(agent: Agent, episodes: Episodes, samples: Samples) -> Inference:
    """What an agent infers at every sample of whole episodes."""
    codes, _ = agent.vae.codes(samples.observation)
    return agent.predictor.infer_episodes(episodes, samples, codes, episodes.active)


def as_batch(episodes: Episodes, offline: bool = False, env_steps: int = 0) -> Batch:
    return Batch(episodes, env_steps, offline)


def spoil(episodes: Episodes, seed: int = 0, fields: tuple[str, ...] = Episodes._fields) -> Episodes:
    """The same episodes with the worst that can be in the padding: NaN, or wild values where there is no NaN."""
    generator = torch.Generator().manual_seed(seed)
    spoiled = {}
    for name in fields:
        field = getattr(episodes, name)
        if name in ("active", "planned"):
            continue
        if field.is_floating_point():
            junk = torch.full_like(field, float("nan"))
        else:
            high = {torch.bool: 2, torch.uint8: 256}.get(field.dtype, 2)  # a legal number of an action and of a goal
            junk = torch.randint(high, field.shape, generator=generator).to(field.dtype)
        here = episodes.active.view(*episodes.active.shape, *[1] * (field.dim() - 3))
        spoiled[name] = torch.where(here, field, junk)
    return episodes._replace(**spoiled)


def rolled(episodes: Episodes) -> Episodes:
    """The same episodes with every player one seat further on (views are ego first, so they go along)."""
    return Episodes(*(field.roll(1, dims=2) for field in episodes))


def snapshot(record):
    """A deep copy of nested tuples of tensors, to see later whether anything was changed in place."""
    if isinstance(record, Tensor):
        return record.clone()
    return tuple(snapshot(field) for field in record)


def same(one, other) -> bool:
    """Whether nested tuples, lists or dicts of tensors and numbers are equal bit by bit."""
    if isinstance(one, Tensor):
        return one.dtype == other.dtype and torch.equal(one, other)
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(same(one[key], other[key]) for key in one)
    if isinstance(one, (tuple, list)):
        return len(one) == len(other) and all(map(same, one, other))
    return bool(one == other)


def gradients(module, loss: Tensor) -> dict[str, Tensor]:
    """Gradients of `loss` by parameter name; parameters that it does not reach are left out."""
    module.zero_grad(set_to_none=True)
    loss.backward()
    return {name: p.grad.clone() for name, p in module.named_parameters() if p.grad is not None and p.grad.any()}


def tiny_data(**settings) -> EpisodeDataModule:
    """A data module of a small Stag-Hunt: 4 environments, 2 offline rounds."""
    options = {"num_envs": 4, "batch_size": 3, "steps_per_epoch": 2, "capacity": 16, "offline_rounds": 2}
    game = GameConfig(preset="2h1s_4x4", options={"max_steps": 8})
    return EpisodeDataModule(**{"game": game, "eval_episodes": 5, "val_episodes": 3, **options, **settings})


def attached(data: EpisodeDataModule, goals: str = "declared", **settings) -> EpisodeDataModule:
    """The data module with a small agent that plays in it."""
    agent = tiny_agent(data.game, goals, **settings)
    data.attach(agent.learner, agent.load_learner)
    return data
