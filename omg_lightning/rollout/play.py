"""Play whole episodes in many environments at once."""

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any, NamedTuple

import torch
from torch import Tensor

from omg_lightning import interrupts
from omg_lightning.actors import LEARNER, Actor, Scene, Seating
from omg_lightning.envs.base import VectorEnv
from omg_lightning.games.base import replace_illegal
from omg_lightning.rollout.workers import at_once, generators
from omg_lightning.spaces import dtype_of, is_binary
from omg_lightning.types import NO_GOAL, ConfigError, Episodes, Record, View, put, take

Prior = dict[str, Tensor]  # for each learner, leading B: what it carries to the next episode of these environments


class Played(NamedTuple):
    """Result of a rollout."""

    episodes: Episodes
    prior: Prior
    env_steps: int  # steps of environments, summed over environments
    notes: dict[str, float]  # means of what actors noted, such as the entropy of root policies


@torch.no_grad()
def play(
    env: VectorEnv,
    seating: Seating,
    learners: Mapping[str, Actor],
    generator: torch.Generator,
    prior: Prior | None = None,
    greedy: bool = False,
    measure: bool = False,
    workers: int = 1,
) -> Played:
    """Play one episode in each of B environments, from start to end.

    Environments that are over are dropped from the batch at once, so the cost follows those still running. Games,
    players and networks run in PyTorch's inference mode; the returned tensors can be trained on, unless the caller is
    in that mode itself.

    Args:
        env: what is played.
        seating: who sits where, for each environment.
        learners: actors with networks by name. The one called `learner` is in training: the goals it infers and its
            `records` are recorded; the others (checkpoints) only act.
        generator: all randomness; its device is where everything runs.
        prior: what the learners carry from the previous episode, as an earlier call returned it.
        greedy: take the best action instead of drawing one.
        measure: record the scripts' largest action probability as `script_best`, to judge predictions by.
        workers: processes that share the environments. The random numbers depend on this number. What players
            keep to themselves from one episode to the next is lost with more than one.

    Returns:
        The episodes, with T the length of the longest.

    Raises:
        ConfigError: more than one worker, where there is an accelerator or processes cannot be forked.
    """
    if (workers := min(workers, len(seating.who))) > 1:
        return _play_apart(workers, env, seating, learners, generator, prior, greedy, measure)
    with torch.inference_mode():  # many small operations, each of which then costs less
        state = RolloutState(env, seating, learners, generator, prior, greedy, measure)
        while len(state.live):
            state.step()
            state.drop(state.over())
    return state.result()


def _play_apart(
    workers: int,
    env: VectorEnv,
    seating: Seating,
    learners: Mapping[str, Actor],
    generator: torch.Generator,
    prior: Prior | None,
    greedy: bool,
    measure: bool,
) -> Played:
    """Give each of so many processes its share of the environments, and a generator of its own."""
    shares = torch.arange(len(seating.who)).tensor_split(workers)
    jobs = []
    for random, rows in zip(generators(workers, generator), shares, strict=True):
        carried = prior and {name: values[rows] for name, values in prior.items()}
        jobs.append(partial(play, env, seating.keep(rows), learners, random, carried, greedy, measure))
    return _join(env, learners, measure, shares, at_once(jobs))


def _join(
    env: VectorEnv, learners: Mapping[str, Actor], measure: bool, shares: Sequence[Tensor], parts: Sequence[Played]
) -> Played:
    """Put together what was played in these shares of the environments."""
    length = max(len(part.episodes.reward) for part in parts)
    device = parts[0].episodes.reward.device
    record = _empty(env, sum(len(rows) for rows in shares), learners, measure, device)
    episodes = record.map(lambda field: field[:length])
    for rows, part in zip(shares, parts, strict=True):
        own = part.episodes.tensors()
        for name, field in episodes.tensors().items():
            field[: len(own[name]), rows] = own[name]
    prior = {name: torch.cat([part.prior[name] for part in parts]) for name in parts[0].prior}
    notes = {}
    for key in dict.fromkeys(key for part in parts for key in part.notes):
        known = [part for part in parts if key in part.notes]
        notes[key] = sum(part.notes[key] * part.env_steps for part in known) / sum(part.env_steps for part in known)
    return Played(episodes, prior, sum(part.env_steps for part in parts), notes)


class RolloutState:
    """Episodes in progress in B environments.

    A caller plays them step by step, and drops the environments whose episodes are over or, if `restarts`, restarts
    them. Each episode has its own time, and the others go on. Call `result` and `finish` outside of PyTorch's inference
    mode, and all other methods within it.

    Attributes:
        live: int64 `[L]` the environments that play, in rising order.
        restarts: whether the environment and all actors can restart some of the episodes.
    """

    def __init__(
        self,
        env: VectorEnv,
        seating: Seating,
        learners: Mapping[str, Actor],
        generator: torch.Generator,
        prior: Prior | None,
        greedy: bool,
        measure: bool,
    ) -> None:
        self.env, self.generator, self.greedy, self.measure = env, generator, greedy, measure
        self.learners, self.seating = learners, seating
        batch, device = len(seating.who), generator.device
        self.now = env.reset(batch, generator)
        self.live = torch.arange(batch, device=device)
        with torch.inference_mode(False):  # networks learn from it
            self.record = _empty(env, batch, learners, measure, device)
        self.actors: dict[str, Actor] = {**seating.scripted, **learners}
        if empty := [name for name in seating.names if name not in self.actors]:
            raise ConfigError(f"no actor plays the seat {empty[0]!r}: pass an actor of this name, or change the seat")
        self.prior: dict[str, Tensor | None] = {}
        self.memory: dict[str, Any] = {}
        for name, actor in self.actors.items():
            carried = None if prior is None else prior.get(name)
            self.prior[name] = actor.prior(batch) if carried is None else carried
            self.memory[name] = actor.start(env, seating.held_by(name), self.prior[name], generator)
        self.time = torch.zeros(batch, dtype=torch.int64, device=device)  # [B] steps of each episode so far
        self.env_steps = 0
        self.restarts = env.restarts and all(actor.restarts for actor in self.actors.values())
        self.binary = is_binary(env.observation_space)
        self.notes: dict[str, list[float]] = {}

    def step(self) -> None:
        """Play one step in all live environments, of which none is over."""
        interrupts.check()
        live, record, env, now = self.live, self.record, self.env, self.now
        t = self.time[live]
        observation = now.observation.to(record.observation.dtype)
        record.observation[t, live] = observation
        record.legal[t, live], record.active[t, live] = now.legal, now.active
        observation = observation.float() if self.binary else observation
        view = View(observation, now.legal, t / env.max_steps, now.active, now.reward)
        scene = Scene(env, view, self.generator, self.greedy, self.measure)
        true_goal = self._true_goals(t, view)
        actions = torch.full(now.active.shape, env.noop, device=live.device)
        for name, actor in self.actors.items():
            if actor.needs_true_goal:
                carried = self.prior[name]
                rows = None if carried is None else carried[live]
                self.memory[name] = actor.with_true_goal(self.memory[name], rows, true_goal)
            choice = actor.act(self.memory[name], scene)
            actions = torch.where(choice.mine, choice.action, actions)
            for key, value in choice.notes.items():
                self.notes.setdefault(key, []).append(value)
            if name == LEARNER:
                record.learner[t, live] = choice.mine
                if choice.goal is not None:
                    record.goal[t, live] = choice.goal
            self._write(t, name, choice.extras, choice.mine)
        actions = replace_illegal(actions, now.legal, env.noop)  # what is really played
        record.action[t, live] = actions
        self.now = env.step(actions)
        record.reward[t, live], record.achieved_goal[t, live] = self.now.reward, self.now.achieved
        record.terminated[t, live], record.truncated[t, live] = self.now.terminated, self.now.truncated
        for name, actor in self.actors.items():
            self.memory[name], extras = actor.observe(self.memory[name], scene, actions, self.now)
            self._write(t, name, extras, now.active)
        self.time[live] += 1
        self.env_steps += len(live)

    def over(self) -> Tensor:
        """Return which of the live environments are over: int64 `[R]`, places in `live`."""
        over = ~self.now.active.any(-1) | (self.time[self.live] >= self.env.max_steps)
        return over.nonzero()[:, 0]

    def drop(self, places: Tensor) -> None:
        """Drop environments from the batch."""
        if len(places):
            index = torch.ones_like(self.live, dtype=torch.bool).index_fill(0, places, False).nonzero()[:, 0]
            self.live, self.now = self.live[index], take(self.now, index)
            self.env.keep(index)
            self.memory = {name: actor.keep(self.memory[name], index) for name, actor in self.actors.items()}

    def restart(self, places: Tensor, who: Tensor, prior: Prior) -> None:
        """Start new episodes in some of the live environments.

        Args:
            places: int64 `[R]` in `live`; these episodes are over, and were returned by `finish`.
            who: int64 `[R, P]` who plays them, as in `Seating.who`.
            prior: what the learners know before them, leading R.
        """
        if not len(places):
            return
        rows, live = self.live[places], self.live
        self.seating.who[rows], self.time[rows] = who, 0
        blank = _empty(self.env, 1, self.learners, self.measure, rows.device).tensors()
        for name, field in self.record.tensors().items():
            field[:, rows] = blank[name]
        self.now = put(self.now, places, self.env.restart(places, self.generator))
        for name, actor in self.actors.items():
            carried = self.prior[name]
            if carried is not None and name in prior:
                carried[rows] = prior[name]
            known = None if carried is None else carried[live]
            mine = self.seating.held_by(name)[live]
            self.memory[name] = actor.restart(self.memory[name], places, self.env, mine, known, self.generator)

    def finish(self, places: Tensor) -> Played:
        """Return the episodes of live environments that are over: R of them, cut to the longest."""
        rows = self.live[places]
        length = self.time[rows]
        episodes = self.record.map(lambda field: field[: int(length.max()), rows])
        return Played(episodes, self._carried(episodes, rows), int(length.sum()), {})

    def result(self) -> Played:
        """Return all episodes, cut to the longest."""
        episodes = self.record.map(lambda field: field[: int(self.time.max())])
        notes = {key: sum(values) / len(values) for key, values in self.notes.items()}
        return Played(episodes, self._carried(episodes, slice(None)), self.env_steps, notes)

    def _carried(self, episodes: Episodes, rows: Tensor | slice) -> Prior:
        """Return what the learners carry on from these environments after their episodes."""
        prior = {}
        for name, actor in self.learners.items():
            before = self.prior[name]
            after = actor.carry(None if before is None else before[rows].clone(), episodes)  # inference mode is over
            if after is not None:
                prior[name] = after
        return prior

    def _write(self, t: Tensor, name: str, extras: Mapping[str, Tensor], mine: Tensor) -> None:
        """Record extras `[L, P, ...]` of the learner in training, and what is measured of scripts."""
        for key, values in extras.items():
            if key == "script_best":
                old = self.record.extras[key][t, self.live]
                self.record.extras[key][t, self.live] = torch.where(mine, values, old)
            elif name == LEARNER:
                self.record.extras[key][t, self.live] = values

    def _true_goals(self, t: Tensor, view: View) -> Tensor:
        """Record the goals that scripts pursue with their next actions, int64 `[L, P]`."""
        found = torch.full_like(self.now.active, NO_GOAL, dtype=torch.int64)
        for name, actor in self.actors.items():
            pursued = actor.true_goal(self.env, self.memory[name], view)
            if pursued is not None:
                found = torch.where(pursued == NO_GOAL, found, pursued)
        self.record.true_goal[t, self.live] = found
        return found


def _empty(env: VectorEnv, batch: int, learners: Mapping[str, Actor], measure: bool, device: torch.device) -> Episodes:
    """Allocate storage for `batch` episodes of the greatest length."""
    lead = (env.max_steps, batch, env.num_players)

    def zeros(*shape: int, dtype: torch.dtype = torch.float32) -> Tensor:
        return torch.zeros(*lead, *shape, dtype=dtype, device=device)

    learner = learners.get(LEARNER)
    records = dict(learner.records) if learner is not None else {}
    if measure:
        records["script_best"] = Record()
    shape = env.observation_space.shape or ()
    legal = zeros(env.num_actions, dtype=torch.bool)
    legal[..., env.noop] = True
    return Episodes(
        observation=zeros(*shape, dtype=dtype_of(env.observation_space)),
        legal=legal,
        action=zeros(dtype=torch.int64),
        reward=zeros(),
        active=zeros(dtype=torch.bool),
        terminated=zeros(dtype=torch.bool),
        truncated=zeros(dtype=torch.bool),
        learner=zeros(dtype=torch.bool),
        goal=zeros(learner.goal_size if learner is not None else 0),
        achieved_goal=torch.full(lead, NO_GOAL, device=device),
        true_goal=torch.full(lead, NO_GOAL, device=device),
        extras={name: zeros(*record.shape, dtype=record.dtype) for name, record in records.items()},
    )
