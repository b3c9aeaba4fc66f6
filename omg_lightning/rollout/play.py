"""Plays whole episodes in many environments at once."""

from collections.abc import Sequence
from functools import partial
from typing import Any, NamedTuple

import torch
from torch import Tensor

from omg_lightning.games.base import Game
from omg_lightning.losses import traced_returns
from omg_lightning.actors import actions_of, best_chance
from omg_lightning.actors.search import plan
from omg_lightning.actors.seating import LEARNER, Seats
from omg_lightning.actors.simulator import wants_board
from omg_lightning.rollout.workers import at_once
from omg_lightning.types import NO_GOAL, ConfigError, Episodes, Estimate, Learner, PlannerConfig, View, take


class Played(NamedTuple):
    """What a rollout gives back."""

    episodes: Episodes
    prior: dict[str, Tensor]  # for each learner, float [B, P, G]: carried to the next episode of these environments
    env_steps: int  # steps of environments, summed over environments
    search: dict[str, float]  # means over searches, such as the visit share of the best action


@torch.no_grad()
def play(
    game: Game,
    seats: Seats,
    learners: dict[str, Learner],
    generator: torch.Generator,
    prior: dict[str, Tensor] | None = None,
    greedy: bool = False,
    measure: bool = False,
    workers: int = 1,
) -> Played:
    """Plays one episode in each of B environments, from start to end.

    Environments that are over are dropped from the batch at once, so the cost follows those still running. Games,
    players and networks are asked in PyTorch's inference mode; what is returned may be learned from, unless the
    caller is in that mode itself.

    Args:
        game: the rules.
        seats: who sits where, for each environment.
        learners: planners by name. The one called `learner` is in training: its goals, root policies and returns are
            recorded as targets; the others (checkpoints) only act.
        generator: all randomness; its device is where everything runs.
        prior: what the learners believe before the episode, as an earlier call returned it.
        greedy: take the best action instead of drawing from the root policy.
        measure: ask scripts for their own action distributions, too, to judge predictions by.
        workers: processes that share the environments. Chance falls differently with each number of them. What players
            of your own keep to themselves from one episode to the next is lost with more than one.

    Returns:
        The episodes, with T the length of the longest.

    Raises:
        ConfigError: more than one worker, where there is an accelerator or processes cannot be forked.
    """
    if (workers := min(workers, len(seats.who))) > 1:
        return _play_apart(workers, game, seats, learners, generator, prior, greedy, measure)
    with torch.inference_mode():  # many small operations, each of which then costs less
        table = _Table(game, seats, learners, generator, prior, greedy, measure)
        for t in range(game.max_steps):
            if not table.step(t):
                break
    return table.result()


def _play_apart(
    workers: int,
    game: Game,
    seats: Seats,
    learners: dict[str, Learner],
    generator: torch.Generator,
    prior: dict[str, Tensor] | None,
    *how: bool,
) -> Played:
    """Gives each of so many processes its share of the environments, and a generator of its own."""
    if generator.device.type != "cpu":
        raise ConfigError(
            f"data.workers is {workers}, but the device is {generator.device}: with an accelerator set data.workers 1"
        )
    seeds = torch.randint(2**62, (workers,), generator=generator).tolist()
    shares = torch.arange(len(seats.who)).tensor_split(workers)
    jobs = []
    for seed, rows in zip(seeds, shares, strict=True):
        random = torch.Generator().manual_seed(seed)
        believed = prior and {name: belief[rows] for name, belief in prior.items()}
        jobs.append(partial(play, game, seats.keep(rows), learners, random, believed, *how))
    return _join(game, shares, at_once(jobs))


def _join(game: Game, shares: Sequence[Tensor], parts: Sequence[Played]) -> Played:
    """Puts together what was played in these shares of the environments."""
    length = max(len(part.episodes.reward) for part in parts)
    goal = parts[0].episodes.goal
    record = _empty(game, sum(len(rows) for rows in shares), goal.shape[-1], goal.device)
    episodes = Episodes(*(field[:length] for field in record))
    for rows, part in zip(shares, parts, strict=True):
        for field, own in zip(episodes, part.episodes, strict=True):
            field[: len(own), rows] = own
    prior = {name: torch.cat([part.prior[name] for part in parts]) for name in parts[0].prior}
    search = {}
    for key in dict.fromkeys(key for part in parts for key in part.search):
        known = [part for part in parts if key in part.search]
        search[key] = sum(part.search[key] * part.env_steps for part in known) / sum(part.env_steps for part in known)
    return Played(episodes, prior, sum(part.env_steps for part in parts), search)


class _Table:
    """The state of a rollout: one object for one call of `play`."""

    def __init__(
        self,
        game: Game,
        seats: Seats,
        learners: dict[str, Learner],
        generator: torch.Generator,
        prior: dict[str, Tensor] | None,
        greedy: bool,
        measure: bool,
    ) -> None:
        self.game, self.seats, self.learners, self.generator, self.greedy = game, seats, learners, generator, greedy
        self.measure = measure
        batch, device = seats.who.shape[0], generator.device
        self.state = game.reset(batch, generator)
        self.live = torch.arange(batch, device=device)
        truth = seats.start(game, generator)
        size = learners[LEARNER].source.size if LEARNER in learners else 0
        with torch.inference_mode(False):  # networks learn from it
            self.record = _empty(game, batch, size, device)
        self.prior = {
            name: prior[name] if prior else learner.source.prior(batch, game.num_players, device)
            for name, learner in learners.items()
        }
        self.memory = {name: learner.source.start(self.prior[name], truth) for name, learner in learners.items()}
        self.board: Any = None  # what does not change in these episodes, if a learner wants to know
        self.length, self.env_steps = 0, 0
        self.search: dict[str, list[float]] = {}

    def step(self, t: int) -> bool:
        """Plays step t everywhere; False when no environment is left."""
        active = self._drop_finished()
        if len(self.live) == 0:
            return False
        observation, legal = self.game.observe(self.state), self.game.legal(self.state)
        view = View(observation, legal, self.state.time / self.game.max_steps, active)
        record, live = self.record, self.live
        record.observation[t, live] = observation.to(torch.uint8)
        record.legal[t, live], record.active[t, live] = legal, active
        record.truth[t] = self.seats.truth(self.game)
        for name, learner in self.learners.items():
            if getattr(learner.source, "told", False):  # anew: a goal may change within an episode
                self.memory[name] = learner.source.start(self.prior[name][live], record.truth[t, live])
        actions = torch.full_like(record.action[t, live], self.game.noop)
        self._ask_players(t, actions)
        for name, learner in self.learners.items():
            self._ask_learner(t, name, learner, view, actions)
        # What was really played: an illegal choice counts as doing nothing.
        actions = torch.where(legal.gather(-1, actions[..., None])[..., 0], actions, self.game.noop)
        record.action[t, live] = actions
        record.realised[t, live] = self.game.realised(self.state, actions)
        self.state, rewards = self.game.step(self.state, actions)
        record.reward[t, live] = rewards
        for name, learner in self.learners.items():
            self.memory[name] = learner.source.update(self.memory[name], view, actions)
        self.length, self.env_steps = t + 1, self.env_steps + len(live)
        return True

    def result(self) -> Played:
        """Cuts the record to the longest episode and adds the value targets."""
        cut = Episodes(*(field[: self.length] for field in self.record))
        planner = self.learners[LEARNER].planner if LEARNER in self.learners else PlannerConfig(discount=1.0)
        trace = 1.0 if self.greedy else planner.trace  # an evaluation tells what was earned
        # `value` holds the root values until here
        cut = cut._replace(value=traced_returns(cut.reward, cut.value, cut.planned, planner.discount, trace))
        sources = {name: learner.source for name, learner in self.learners.items()}
        kept = {name: belief.clone() for name, belief in self.prior.items()}  # as inference mode is over
        prior = {name: source.carry(kept[name], source.realised(cut)) for name, source in sources.items()}
        means = {key: sum(values) / len(values) for key, values in self.search.items()}
        return Played(cut, prior, self.env_steps, means)

    def _drop_finished(self) -> Tensor:
        """Drops environments that are over from the batch; says who is active in the rest, bool `[L, P]`."""
        active = self.game.active(self.state)
        going = active.any(-1)
        if not going.all():
            index = going.nonzero()[:, 0]
            self.live, active = self.live[index], active[index]
            self.state, self.board = take(self.state, index), take(self.board, index)
            self.memory = {name: take(memory, index) for name, memory in self.memory.items()}
        return active

    def _ask_players(self, t: int, actions: Tensor) -> None:
        """Writes the players' choices into `actions` `[L, P]`. A player always sees all of its environments."""
        for player, seat, rows in self.seats.seated:
            view, legal = self.record.observation[t, rows, seat].float(), self.record.legal[t, rows, seat]
            if self.measure:
                self.record.script_best[t, rows, seat] = best_chance(player, view, legal)
            choice = actions_of(player, view, legal)
            chosen = torch.full((len(self.record.action[t]),), self.game.noop, device=actions.device)
            chosen[rows] = choice.to(chosen)
            mine = torch.zeros_like(chosen, dtype=torch.bool)
            mine[rows] = True
            actions[:, seat] = torch.where(mine[self.live], chosen[self.live], actions[:, seat])

    def _ask_learner(self, t: int, name: str, learner: Learner, view: View, actions: Tensor) -> None:
        """Searches for all seats that the learner `name` holds and that are still playing."""
        estimate = _of_present(learner.source.infer(self.memory[name], view), view.active)
        mine = self.seats.held_by(name)[self.live] & view.active
        rows, ego = mine.nonzero(as_tuple=True)
        policy, action = torch.zeros_like(view.legal, dtype=torch.float32), actions
        value = torch.zeros_like(policy[..., 0])
        if len(rows):
            if self.board is None and wants_board(self.game, learner):
                self.board = self.game.board(self.state)  # type: ignore[attr-defined]
            chance = (self.generator, self.greedy)
            found = plan(self.game, learner, self.state, estimate, rows, ego, *chance, self.board)
            policy[rows, ego], action[rows, ego], value[rows, ego] = found
            self._note("search/policy_entropy", -(found.policy * found.policy.clamp(min=1e-9).log()).sum(-1).mean())
        if name == LEARNER:
            self.record.goal[t, self.live] = estimate.point
            self.record.policy[t, self.live], self.record.planned[t, self.live] = policy, mine
            self.record.value[t, self.live] = value

    def _note(self, key: str, value: Tensor | float) -> None:
        self.search.setdefault(key, []).append(float(value))


def _of_present(estimate: Estimate, active: Tensor) -> Estimate:
    """The same, with goals of 0 for those who have left, as in training; active is bool `[L, P]`."""

    def draw(trees: int, generator: torch.Generator) -> Tensor:
        return torch.where(active[:, None, :, None], estimate.draw(trees, generator), 0.0)

    return Estimate(torch.where(active[..., None], estimate.point, 0.0), draw)


def _empty(game: Game, batch: int, goal_size: int, device: torch.device) -> Episodes:
    """Storage for `batch` episodes of the greatest length."""
    lead = (game.max_steps, batch, game.num_players)

    def zeros(*shape: int, dtype: torch.dtype = torch.float32) -> Tensor:
        return torch.zeros(*lead, *shape, dtype=dtype, device=device)

    legal = zeros(game.num_actions, dtype=torch.bool)
    legal[..., game.noop] = True  # players go on being asked where the episode is over
    return Episodes(
        observation=zeros(*game.observation_shape, dtype=torch.uint8),
        legal=legal,
        action=zeros(dtype=torch.int64),
        reward=zeros(),
        active=zeros(dtype=torch.bool),
        planned=zeros(dtype=torch.bool),
        policy=zeros(game.num_actions),
        value=zeros(),
        goal=zeros(goal_size),
        realised=torch.full(lead, NO_GOAL, device=device),
        truth=torch.full(lead, NO_GOAL, device=device),
        script_best=zeros(),
    )
