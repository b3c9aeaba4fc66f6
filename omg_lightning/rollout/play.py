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
from omg_lightning.rollout.workers import at_once
from omg_lightning.spaces import dtype_of, is_binary
from omg_lightning.types import NO_GOAL, ConfigError, Episodes, Record, View

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
        for t in range(env.max_steps):
            if not state.step(t):
                break
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
    if generator.device.type != "cpu":
        raise ConfigError(
            f"data.workers is {workers}, but the device is {generator.device}: with an accelerator set data.workers 1"
        )
    seeds = torch.randint(2**62, (workers,), generator=generator).tolist()
    shares = torch.arange(len(seating.who)).tensor_split(workers)
    jobs = []
    for seed, rows in zip(seeds, shares, strict=True):
        random = torch.Generator().manual_seed(seed)
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
    """The state of a rollout: one object for one call of `play`."""

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
        self.learners = learners
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
        self.length, self.env_steps = 0, 0
        self.binary = is_binary(env.observation_space)
        self.notes: dict[str, list[float]] = {}

    def step(self, t: int) -> bool:
        """Play step t everywhere; False when no environment is left."""
        interrupts.check()
        self._drop_finished()
        live, record, env = self.live, self.record, self.env
        if len(live) == 0:
            return False
        now = self.now
        observation = now.observation.to(record.observation.dtype)
        record.observation[t, live] = observation
        record.legal[t, live], record.active[t, live] = now.legal, now.active
        observation = observation.float() if self.binary else observation
        time = torch.full((len(live),), t, device=live.device) / env.max_steps
        view = View(observation, now.legal, time, now.active, now.reward)
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
        self.length, self.env_steps = t + 1, self.env_steps + len(live)
        return True

    def result(self) -> Played:
        """Cut the record to the longest episode."""
        episodes = self.record.map(lambda field: field[: self.length])
        prior = {}
        for name, actor in self.learners.items():
            before = self.prior[name]
            after = actor.carry(None if before is None else before.clone(), episodes)  # inference mode is over
            if after is not None:
                prior[name] = after
        notes = {key: sum(values) / len(values) for key, values in self.notes.items()}
        return Played(episodes, prior, self.env_steps, notes)

    def _write(self, t: int, name: str, extras: Mapping[str, Tensor], mine: Tensor) -> None:
        """Record extras `[L, P, ...]` of the learner in training, and what is measured of scripts."""
        for key, values in extras.items():
            if key == "script_best":
                old = self.record.extras[key][t, self.live]
                self.record.extras[key][t, self.live] = torch.where(mine, values, old)
            elif name == LEARNER:
                self.record.extras[key][t, self.live] = values

    def _true_goals(self, t: int, view: View) -> Tensor:
        """Record the goals that scripts pursue with their next actions, int64 `[L, P]`."""
        found = torch.full_like(self.now.active, NO_GOAL, dtype=torch.int64)
        for name, actor in self.actors.items():
            pursued = actor.true_goal(self.env, self.memory[name], view)
            if pursued is not None:
                found = torch.where(pursued == NO_GOAL, found, pursued)
        self.record.true_goal[t, self.live] = found
        return found

    def _drop_finished(self) -> None:
        """Drop environments that are over from the batch."""
        going = self.now.active.any(-1)
        if not bool(going.all()):
            index = going.nonzero()[:, 0]
            self.live = self.live[index]
            self.now = type(self.now)(*(field[index] for field in self.now))
            self.env.keep(index)
            self.memory = {name: actor.keep(self.memory[name], index) for name, actor in self.actors.items()}


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
