"""Toys for the tests of the core: a game in which everything is recognisable, learners made of plain functions."""

from functools import partial
from typing import NamedTuple

import torch
from gymnasium import spaces
from torch import Tensor

from omg_lightning.actors import PlannerConfig, SearchActor, arrange
from omg_lightning.data import EpisodeDataModule, EvaluationConfig, OfflineConfig, TrainingConfig
from omg_lightning.encoders import ModelSpec
from omg_lightning.envs import RulesEnv
from omg_lightning.games import Game, StagHunt
from omg_lightning.games.grid.layout import GridLayout
from omg_lightning.losses import td_lambda
from omg_lightning.opponents import Direct
from omg_lightning.rollout import play
from omg_lightning.samples import TrainingBatch
from omg_lightning.spec import GameSpec
from omg_lightning.training import Agent, NetworkConfig
from omg_lightning.types import NO_GOAL, Batch, Episodes, ego_order

SURE = 1e4  # a logit that leaves no doubt, whatever the noise


class TokenState(NamedTuple):
    time: Tensor  # int64 [B]
    last: Tensor  # int64 [B, P] every seat's last action
    leaves: Tensor  # int64 [B, P] the time at which a seat leaves


class TokenGame(Game):
    """Every seat shows its last action as its place on a 1 x A board, and leaves at a time drawn at the start.

    All roles are alike. The reward tells the joint action: digit k (from the right) of seat i's reward is what seat
    i + k did. Actions 0 and 1 realise goals 0 and 1.
    """

    goal_names = ("zero", "one")

    def __init__(self, num_players: int = 3, num_actions: int = 5, max_steps: int = 6, ragged: bool = True) -> None:
        self.num_players, self.num_actions, self.max_steps, self.ragged = num_players, num_actions, max_steps, ragged
        self.noop = num_actions - 1
        names = ("self", *(f"other_{k}" for k in range(1, num_players)), "board")
        self.layout = GridLayout(names, 1, num_actions, num_players)
        self.observation_space = spaces.MultiBinary(self.layout.shape)
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


class Fixed(RulesEnv):
    """A game that starts in the given states, in every reset."""

    def __init__(self, game, state) -> None:
        super().__init__(game)
        self._start = state

    def reset(self, batch_size, generator):
        assert batch_size == len(self._start.time)
        step = super().reset(batch_size, generator)
        self._state = self._start
        return step._replace(
            observation=self.game.observe(self._start),
            legal=self.game.legal(self._start),
            active=self.game.active(self._start),
        )


def discounted_returns(reward: Tensor, discount: float) -> Tensor:
    """`G_t = r_t + discount * G_{t+1}` of `[T, ...]`."""
    return td_lambda(reward, reward, torch.zeros_like(reward, dtype=torch.bool), discount, 1.0)


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


class PlainOpponent:
    """An opponent model of plain functions: no goals, and the co-player policy given (uniform by default).

    Goals are those of `source`, an opponent model, where one is given.
    """

    def __init__(self, game, coplayer=None, source=None) -> None:
        actions = game.num_actions
        self.source = source or Direct(model_spec(game))
        self.size, self.needs_true_goal = self.source.size, self.source.needs_true_goal
        self.goals_change, self.goals_are_cells = self.source.goals_change, self.source.goals_are_cells
        self.predict = coplayer or (lambda view, time, condition: torch.zeros(len(view), actions))

    def condition(self, goals, seat):
        return goals

    def __getattr__(self, name):
        return getattr(self.source, name)


class PlainPolicy:
    """A flat prior and value 0."""

    def __init__(self, actions: int) -> None:
        self.actions = actions

    def condition(self, goals, seat):
        return goals.flatten(1)

    def __call__(self, view, time, condition):
        return torch.zeros(len(view), self.actions), torch.zeros(len(view))


def plain_learner(game, coplayer=None, source=None, trees=1, simulations=4, **planner) -> SearchActor:
    """A learner of plain functions, see `PlainOpponent` and `PlainPolicy`."""
    opponent, policy = PlainOpponent(game, coplayer, source), PlainPolicy(game.num_actions)
    return SearchActor(opponent, policy, trees, simulations, PlannerConfig(**planner), game.num_actions)


def model_spec(game, encoder=None, hidden: int = 16, sharing: str = "shared") -> ModelSpec:
    """What parts of a model of `game`, a `Game` or a `VectorEnv`, are built from."""
    env = RulesEnv(game) if isinstance(game, Game) else game
    more = {} if encoder is None else {"encoder": encoder}
    return ModelSpec(GameSpec.of(env), hidden=hidden, sharing=sharing, **more)


def tiny_agent(game, opponent="Subgoal", seed: int = 0, hidden: int = 16, sharing: str = "shared", **settings) -> Agent:
    """A small agent for `game`, a `Game` or a `VectorEnv`, with weights drawn from `seed`.

    `opponent` is the name of a class of the project, or a factory; settings of the opponent model come as
    `opponent_args`, those of the search as `search_args`, the rest goes to `Agent`.
    """
    from omg_lightning import opponents
    from omg_lightning.algorithms import BestResponseSearch

    torch.manual_seed(seed)
    kind = getattr(opponents, opponent) if isinstance(opponent, str) else opponent
    small = {"goal_dim": 3} if kind is opponents.Subgoal else {}
    factory = partial(kind, **{**small, **settings.pop("opponent_args", {})})
    search = partial(BestResponseSearch, **{"trees": 1, "simulations": 2, **settings.pop("search_args", {})})
    env = RulesEnv(game) if isinstance(game, Game) else game
    return Agent(
        factory,
        **{"algorithm": search, **settings},
        networks=NetworkConfig(hidden, sharing),
        spec=GameSpec.of(env).plain(),
        seed=seed,
    )


def play_with(agent: Agent, game, lineup, batch: int = 6, seed: int = 0) -> Episodes:
    """Episodes of `lineup`, with `agent` in the seats called learner (it infers goals even if there are none)."""
    env = RulesEnv(game) if isinstance(game, Game) else game
    seating = arrange([lineup], batch, env, torch.Generator().device)
    return play(env, seating, {"learner": agent.actor()}, torch.Generator().manual_seed(seed)).episodes


def training_batch(agent: Agent, episodes: Episodes, offline: bool = False, seed: int = 0) -> TrainingBatch:
    """What the losses of `agent` on these episodes are computed from."""
    return agent.training_batch(as_batch(episodes, offline), torch.Generator().manual_seed(seed))


def inferred(agent: Agent, episodes: Episodes):
    """What an agent with subgoals infers at every sample of whole episodes."""
    batch = training_batch(agent, episodes)
    codes, _ = agent.opponent.vae.codes(batch.samples.observation)
    return agent.opponent.inference.infer_episodes(batch, codes, episodes.active)


def as_batch(episodes: Episodes, offline: bool = False, env_steps: int = 0) -> Batch:
    return Batch(episodes, env_steps, offline)


def spoil(episodes: Episodes, seed: int = 0, fields: tuple[str, ...] = Episodes._fields) -> Episodes:
    """The same episodes with the worst that can be in the padding: NaN, or wild values where there is no NaN."""
    generator = torch.Generator().manual_seed(seed)
    spoiled = {}
    for name in fields:
        if name in ("active", "learner", "extras"):
            continue
        field = getattr(episodes, name)
        if field.is_floating_point():
            junk = torch.full_like(field, float("nan"))
        else:
            high = {torch.bool: 2, torch.uint8: 256}.get(field.dtype, 2)  # a legal number of an action and of a goal
            junk = torch.randint(high, field.shape, generator=generator).to(field.dtype)
        here = episodes.active.view(*episodes.active.shape, *[1] * (field.dim() - 3))
        spoiled[name] = torch.where(here, field, junk)
    here = episodes.active
    extras = {
        name: torch.where(here.view(*here.shape, *[1] * (field.dim() - 3)), field, float("nan"))
        for name, field in episodes.extras.items()
    }
    return episodes._replace(**spoiled, extras=extras if "extras" in fields else episodes.extras)


def rolled(episodes: Episodes) -> Episodes:
    """The same episodes with every player one seat further on (views are ego first, so they go along)."""
    return episodes.map(lambda field: field.roll(1, dims=2))


def snapshot(record):
    """A deep copy of nested tuples and dicts of tensors, to see later whether anything was changed in place."""
    if isinstance(record, Tensor):
        return record.clone()
    if isinstance(record, dict):
        return {name: snapshot(field) for name, field in record.items()}
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
    """A data module of a small Stag-Hunt: 4 environments, 2 offline rounds.

    Settings of the groups `training`, `offline` and `evaluation` are dicts over those given here.
    """
    groups = {
        "training": (TrainingConfig, {"batch_size": 3, "steps_per_epoch": 2, "capacity": 16}),
        "offline": (OfflineConfig, {"rounds": 2}),
        "evaluation": (EvaluationConfig, {"episodes": 5, "val_episodes": 3}),
    }
    for name, (kind, small) in groups.items():
        settings[name] = kind(**{**small, **settings.get(name, {})})
    options = {"game": StagHunt("2h1s_4x4", max_steps=8), "seats": ["learner", "nearest_stag"], "num_envs": 4}
    return EpisodeDataModule(**{**options, **settings})


def attached(data: EpisodeDataModule, opponent: str = "Declared", **settings) -> EpisodeDataModule:
    """The data module with a small agent that plays in it."""
    agent = tiny_agent(data.env, opponent, **settings)
    data.attach(agent.actor, agent.load_actor, agent.copy_weights, agent.algorithm.on_policy)
    return data
