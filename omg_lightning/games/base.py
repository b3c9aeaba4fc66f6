"""The contract between a game and everything else: pure functions on a batch of states."""

from typing import Any, Protocol, runtime_checkable

import torch
from torch import Tensor


@runtime_checkable
class Game(Protocol):
    """Rules of a simultaneous-move game, batched and pure.

    A state is a NamedTuple of tensors with leading B. Every function returns new tensors and leaves its inputs
    as they were, runs on the device of its inputs, and treats the rows of a batch independently of each other.
    A state has a field `time`, int64 `[B]`: the number of steps played.

    Attributes:
        num_players: P, the number of seats.
        num_actions: A, the same for every seat.
        max_steps: every episode is over after this many steps at the latest.
        observation_shape: `(C, h, w)` of one seat's view. The first P planes are players: self, then seats
            i+1, i+2, ... (mod P); a player that has left has an empty plane.
        plane_names: C names, one for each plane, such as `("self", "other_1", "blocks", "stags", "hares")`.
        goal_names: the declared goals of a player, such as `("stag", "hare")`; empty where the game declares none.
            Pictures show what is taken where a name is that of a plane without its plural s, perhaps with a number,
            such as `drift_2` for the plane `drifts`.
        action_names: A names.
        noop: the action that stands in for an illegal one, always legal.
        agent_name: what a player is called, such as `"hunter"`.

    A game may have an attribute `scripts`, too: the names of two scripted players that know how to play it, the one
    who cooperates first, such as `("nearest_stag", "nearest_hare")` (see `omg_lightning.players` for names). By
    default the offline phase mixes the two, and tests play beside them; without `scripts` they are left to `random`.

    Four more are optional: `prosocial`, True where everyone is paid the mean reward, those who have left too;
    `sparse_views`, True where `observe(state, sparse=True)` gives the places of the ones instead of the planes;
    `board(state)`, which gives what does not change in an episode, so that `observe(state, True, board)` tells walking
    distances, too (see `omg_lightning.paths.Facts`; without, networks that want them read planes, more slowly); and
    `goal_action`, where the declared goals are things on the board: the number of the action, legal only on one of
    them, by which a player realises the goal that it stands on. A belief is then over places, see `PlaceGoals`.
    """

    num_players: int
    num_actions: int
    max_steps: int
    observation_shape: tuple[int, int, int]
    plane_names: tuple[str, ...]
    goal_names: tuple[str, ...]
    action_names: tuple[str, ...]
    noop: int
    agent_name: str

    def reset(self, batch_size: int, generator: torch.Generator | None = None) -> Any:
        """Draws `batch_size` initial states on the generator's device."""

    def legal(self, state: Any) -> Tensor:
        """Says which actions are legal: bool `[B, P, A]`. A seat that has left may only do nothing (`noop`)."""

    def observe(self, state: Any) -> Tensor:
        """Returns every seat's own view: float32 `[B, P, C, h, w]`, ego first."""

    def step(self, state: Any, actions: Tensor) -> tuple[Any, Tensor]:
        """Plays joint actions, int64 `[B, P]` in seat order: the next state and rewards, float32 `[B, P]`.

        Illegal actions count as `noop`. Rows whose episode is over, and seats that have left, change nothing
        and earn nothing (unless the game is `prosocial`).
        """

    def active(self, state: Any) -> Tensor:
        """Says who is still playing: bool `[B, P]`; all False once the episode is over."""

    def realised(self, state: Any, actions: Tensor) -> Tensor:
        """Returns the declared goal each seat realises by these actions: int64 `[B, P]`, NO_GOAL (-1) for none."""
