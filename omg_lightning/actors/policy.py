"""The actor that plays a policy network without search."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from omg_lightning.actors.base import Scene
from omg_lightning.actors.modelled import Decision, Memory, ModelActor, of_present
from omg_lightning.envs.base import Step
from omg_lightning.losses import masked_logits
from omg_lightning.types import Estimate, Record, View, ego_order


@dataclass(frozen=True)
class PolicyActor(ModelActor):
    """Samples actions from a policy given the inferred goals of the co-players; if greedy, takes the most probable one.

    Args:
        opponent: infers goals.
        policy: `(observation, time, condition) -> logits, value`.
        num_actions: A, to also record the probabilities of all actions, which some rewards need; 0 to omit them.
    """

    policy: Any
    num_actions: int = 0

    @property
    def records(self) -> Mapping[str, Record]:  # type: ignore[override]
        """Log probability of the action, values of the view and of the last view after a time limit; goals' extras."""
        known = {**self.opponent.records, "log_probability": Record(), "value": Record(), "bootstrap": Record()}
        return {**known, "policy": Record((self.num_actions,), per_action=True)} if self.num_actions else known

    def decide(self, memory: Memory, scene: Scene, estimate: Estimate, rows: Tensor, ego: Tensor) -> Decision:
        """Draw the actions of M egos."""
        logits, value = self._ask(scene.view, estimate.point, rows, ego)
        log_policy = masked_logits(logits, scene.view.legal[rows, ego]).log_softmax(-1)
        if scene.greedy:
            action = log_policy.argmax(-1)  # the first of equally probable actions
        else:
            action = torch.multinomial(log_policy.exp(), 1, generator=scene.generator)[:, 0]
        chosen = log_policy.gather(-1, action[:, None])[:, 0]
        policy = log_policy.exp()
        entropy = float(-(policy * log_policy).sum(-1).mean())
        extras = {"log_probability": chosen, "value": value, **({"policy": policy} if self.num_actions else {})}
        return Decision(action, extras, {"policy/entropy": entropy})

    def observe(self, memory: Memory, scene: Scene, actions: Tensor, step: Step) -> tuple[Memory, Mapping[str, Tensor]]:
        """Update the opponent model; evaluate the last views of own seats that a time limit cut off."""
        memory, _ = super().observe(memory, scene, actions, step)
        cut = step.truncated & memory.mine
        if not bool(cut.any()):
            return memory, {}
        clock = scene.view.time + 1 / scene.env.max_steps
        view = View(step.observation, step.legal, clock, step.active | step.truncated, step.reward)
        estimate = of_present(self.opponent.infer(memory.opponent, view), view.active)
        rows, ego = cut.nonzero(as_tuple=True)
        bootstrap = torch.zeros_like(step.reward)
        bootstrap[rows, ego] = self._ask(view, estimate.point, rows, ego)[1]
        return memory, {"bootstrap": bootstrap}

    def _ask(self, view: View, goal: Tensor, rows: Tensor, ego: Tensor) -> tuple[Tensor, Tensor]:
        """Return logits `[M, A]` and values `[M]` of the egos' views, given the goals `[L, P, D]` of all seats."""
        others = ego_order(self.opponent.as_seen(goal[rows], ego), ego)[:, 1:]
        condition = self.policy.condition(others, ego)
        logits, value = self.policy(view.observation[rows, ego], view.time[rows], condition)
        return logits, value
