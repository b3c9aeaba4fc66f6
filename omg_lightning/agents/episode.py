"""One episode as one seat observes it, with the memory of its actor."""

from typing import Any, NamedTuple

import torch
from torch import Tensor

from omg_lightning.actors import Choice, ModelActor, Scene
from omg_lightning.actors.modelled import of_present
from omg_lightning.agents.record import EpisodeRecord
from omg_lightning.agents.tables import Table
from omg_lightning.envs.base import Step
from omg_lightning.games.base import replace_illegal
from omg_lightning.spaces import dtype_of, is_binary
from omg_lightning.types import ConfigError, View


class RootSearch(NamedTuple):
    """Results of the last search at its root. In a batch all have leading B; names are `agent.spec.action_names`."""

    visits: Tensor  # float [A] simulations that began with each action, mean over the trees; 0 where illegal
    values: Tensor  # float [A] discounted return expected of each action, mean over the trees; 0 where illegal
    policy: Tensor  # float [A] probability of each action in training; a greedy agent takes the argmax
    value: Tensor  # float [] of the state under this policy


class Episode:
    """Follows an episode of B copies step by step.

    Args:
        actor: the player of the seat.
        table: the environment from this seat's perspective.
        seat: index of the seat.
        prior: of the opponent model, from earlier episodes.
        random: all randomness.
        greedy: take the best action.

    Attributes:
        view: of the current step, or of the last one that is known; None before the first.
        steps: number of steps played.
        acted: whether `act` was called at the current step.
    """

    def __init__(
        self, actor: ModelActor, table: Table, seat: int, prior: Tensor, random: torch.Generator, greedy: bool
    ) -> None:
        self.actor, self.table, self.seat, self.prior = actor, table, seat, prior
        self.random, self.greedy = random, greedy
        self.view: View | None = None
        self.steps, self.acted = 0, False
        self._fresh = False  # whether `view` is that of the current step
        self._record = EpisodeRecord()
        self._memory: Any = None
        self._trail: list[tuple[Any, Tensor]] = []  # memory and random state after 0, 1, ... steps
        self._scene: Scene

    def look(self, given: Any, legal: Any) -> None:
        """Read the current step from the user's arguments."""
        self.catch_up()
        self._see(self.table.look(given, legal, self.seat))

    def act(self) -> tuple[Tensor, RootSearch | None]:
        """Return the own action at the current step, int64 `[B]`, and what the search found."""
        self.acted = True
        choice = self.actor.act(self._memory, self._scene)
        action = torch.where(choice.mine, choice.action, self.table.env.noop)[:, self.seat]
        return action, self._root(choice)

    def observe(self, joint: Tensor, found: Any) -> None:
        """Record the joint actions of the current step, int64 `[B, P]`; `found` is the outcome as the user knows it."""
        view = self.view
        if view is None or not self._fresh:
            raise ConfigError("observe got actions of a step that the agent has not observed: call act or look first")
        if joint.shape != view.active.shape:
            raise ConfigError(
                f"observe got actions of shape {list(joint.shape)}; expected {list(view.active.shape)}: one for each "
                "copy and seat"
            )
        actions = replace_illegal(joint, view.legal, self.table.env.noop)
        goal = self.goals()
        after = self.table.after(actions, found)
        if self.table.whole:
            self._record.add(self._stored, view, self.seat, actions, goal, after)
        self._memory, _ = self.actor.observe(self._memory, self._scene, actions, after)
        self.steps, self.acted, self._fresh = self.steps + 1, False, False
        self._trail.append((self._memory, self.random.get_state()))
        if self.table.shows_after:
            self._see(after)

    def skip(self) -> None:
        """Count a step with unknown actions; opponent models with goals need them."""
        if self.actor.goal_size:
            raise ConfigError(
                "the opponent model needs the actions of all seats: call agent.observe(actions) after each "
                "env.step(actions)"
            )
        self.steps, self.acted = self.steps + 1, False

    def catch_up(self) -> None:
        """Process the steps that the environment has recorded since the last one."""
        for moved in self.table.missed(self.steps):
            self._see(self.table.env.put(moved.state))  # type: ignore[attr-defined]
            self.observe(moved.actions.to(self.random.device), None)

    def rewind(self, steps: int) -> None:
        """Restore the memory after a number of steps."""
        if not 0 <= steps < len(self._trail):
            raise ConfigError(f"rewind got {steps}: expected 0 to {len(self._trail) - 1}, the steps of this episode")
        self._memory, random = self._trail[steps]
        self.random.set_state(random)
        self._trail = self._trail[: steps + 1]
        self._record.cut(steps)
        self.table.restart()
        self.steps, self.view, self.acted = steps, None, False

    def carried(self) -> Tensor:
        """Return the prior of the opponent model after this episode."""
        self.catch_up()
        if not self._record:
            return self.prior
        prior = self.actor.carry(self.prior, self._record.episodes())
        assert prior is not None
        return prior

    def goals(self) -> Tensor:
        """Return the inferred goals of all seats, float `[B, P, D]`."""
        assert self.view is not None
        estimate = self.actor.opponent.infer(self._memory.opponent, self.view)
        return of_present(estimate, self.view.active).point

    def seen_goals(self) -> Tensor:
        """Return the goals of all seats from the own seat's perspective, float `[B, P, D]`."""
        goals = self.goals()
        ego = torch.full((len(goals),), self.seat, device=goals.device)
        return self.actor.opponent.as_seen(goals, ego)

    def _root(self, choice: Choice) -> RootSearch | None:
        """Return the search results at the roots of the own seat."""
        if choice.searched is None:
            return None
        rows = choice.mine.nonzero()[:, 0]
        found = []
        for each in (choice.searched.visits, choice.searched.q):  # [M*K, A]
            whole = torch.zeros(len(choice.mine), each.shape[-1], device=each.device)
            whole[rows] = each.view(len(rows), -1, each.shape[-1]).float().mean(1)
            found.append(whole)
        policy, value = (choice.extras[name][:, self.seat] for name in ("root_policy", "root_value"))
        parts = [part.clone() for part in (*found, policy, value)]
        return RootSearch(*(part[0] for part in parts) if self.table.single else parts)

    def _see(self, step: Step) -> None:
        """Set the current step."""
        env = self.table.env
        if not self.table.whole and self.actor.goal_size:
            raise ConfigError(
                "the opponent model needs the observations of all agents: pass the dict of all observations to act, "
                "not only this agent's own"
            )
        if self._memory is None:
            mine = torch.zeros_like(step.active)
            mine[:, self.seat] = True
            self._memory = self.actor.start(env, mine, self.prior, self.random)
            self._trail = [(self._memory, self.random.get_state())]
        self._stored = step.observation.to(dtype_of(env.observation_space))
        seen = self._stored.float() if is_binary(env.observation_space) else self._stored
        played = torch.full((len(seen),), self.steps, device=seen.device) if env.game is None else env.state.time
        self.view = View(seen, step.legal, played / env.max_steps, step.active, step.reward)
        self._fresh = True
        self._scene = Scene(env, self.view, self.random, self.greedy)
