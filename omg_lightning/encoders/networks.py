"""Goal-conditioned networks over an encoder, for all seats or for each."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from omg_lightning.encoders.base import Encoder
from omg_lightning.encoders.decoders import Decoder, make_decoder
from omg_lightning.encoders.mlp import MLP
from omg_lightning.games.grid.layout import GridLayout
from omg_lightning.spaces import Space
from omg_lightning.spec import GameSpec, class_of
from omg_lightning.types import ConfigError

Sharing = Literal["shared", "roles", "separate"]
EncoderFactory = Callable[[Space, GridLayout | None, int], Encoder]


class GoalNet(nn.Module):
    """A network of a view, conditioned on a goal vector by feature-wise modulation (FiLM, arXiv 1709.07871).

    Modulation keeps a small goal vector from drowning in the wide features of the view. It depends on the goal
    alone, so a search, in which goals are fixed for each tree, computes `condition` once and not at every node.

    Args:
        encoder: reads the view.
        goal_size: D, length of the goal vector; 0 for an unconditioned network.
        outputs: number of outputs.
        hidden: width.
        seats: P where the network is given its seat as an input, so that seats can take on roles of their own; 0
            where it is not.
    """

    def __init__(self, encoder: Encoder, goal_size: int, outputs: int, hidden: int, seats: int = 0) -> None:
        super().__init__()
        self.encoder, self.seats = encoder, seats
        self.film = nn.Linear(goal_size + seats, 2 * hidden) if goal_size + seats else None
        self.mix = nn.Linear(hidden, hidden)
        self.out = nn.Linear(hidden, outputs)

    def condition(self, goal: Tensor, seat: Tensor) -> Tensor:
        """Return scale and shift `[M, 2 * hidden]` for goals `[M, D]` and seats `[M]`; `[M, 0]` if unconditioned."""
        if self.seats:
            goal = torch.cat([goal, F.one_hot(seat, self.seats).to(goal.dtype)], -1)
        return goal if self.film is None else self.film(goal)

    def modulate(self, features: Tensor, condition: Tensor) -> Tensor:
        """Return outputs `[..., outputs]` of features `[..., hidden]` under `condition` `[..., 2 * hidden]`."""
        if condition.shape[-1]:
            scale, shift = condition.chunk(2, dim=-1)
            features = torch.addcmul(features + shift, features, scale)
        return self.out(self.mix(features).relu_())

    def forward(self, observation: Tensor, time: Tensor, condition: Tensor) -> Tensor:
        """Return outputs `[M, outputs]` for views `[M, *shape]` at `time` `[M]` under `condition` `[M, 2 * hidden]`."""
        return self.modulate(self.encoder(observation, time), condition)

    def prepare(self, observation: Tensor) -> Tensor:
        """Return views in the form that is read fastest, see `Encoder.prepare`."""
        return self.encoder.prepare(observation)

    def under(self, observation: Tensor, time: Tensor, conditions: Tensor) -> Tensor:
        """Return outputs `[M, K, outputs]` under each of `conditions` `[M, K, ...]`; a view is read once."""
        out = self.modulate(self.encoder(observation, time)[:, None], conditions)
        return out.expand(-1, conditions.shape[1], -1)  # without conditions there was one for all K


class SeatNets(nn.Module):
    """A `GoalNet` of its own for each seat, behind the same calls: which one is asked is a part of the condition.

    Args:
        seats: P.
        make: makes the network of a seat.
    """

    def __init__(self, seats: int, make: Callable[[], GoalNet]) -> None:
        super().__init__()
        self.nets = nn.ModuleList([make() for _ in range(seats)])

    @property
    def encoder(self) -> Encoder:
        """The encoder of the first seat; all are alike but for their weights."""
        return self.nets[0].encoder  # type: ignore[return-value]

    def condition(self, goal: Tensor, seat: Tensor) -> Tensor:
        """Return conditions `[M, ... + 1]` for goals `[M, D]` and seats, int64 `[M]`; the last entry is the seat."""
        parts = self._each(seat, lambda net, rows: net.condition(goal[rows], seat[rows]))
        return torch.cat([parts, seat[:, None].to(parts.dtype)], -1)

    def forward(self, observation: Tensor, time: Tensor, condition: Tensor) -> Tensor:
        """Return outputs `[M, outputs]`, see `GoalNet.forward`."""
        own, seat = condition[:, :-1], condition[:, -1]
        return self._each(seat, lambda net, rows: net(observation[rows], time[rows], own[rows]))

    def prepare(self, observation: Tensor) -> Tensor:
        """Return views in the form that is read fastest: all seats' encoders are alike."""
        return self.encoder.prepare(observation)

    def under(self, observation: Tensor, time: Tensor, conditions: Tensor) -> Tensor:
        """Return outputs `[M, K, outputs]`, see `GoalNet.under`; the conditions of a view are all of one seat."""
        own, seat = conditions[..., :-1], conditions[:, 0, -1]
        return self._each(seat, lambda net, rows: net.under(observation[rows], time[rows], own[rows]))

    def _each(self, seat: Tensor, ask: Callable[[GoalNet, Tensor], Tensor]) -> Tensor:
        """Ask each seat's network about the rows of that seat `[M]`, and put the answers back in order."""
        order = [(seat == k).nonzero()[:, 0] for k in range(len(self.nets))]
        pairs = [(net, rows) for net, rows in zip(self.nets, order, strict=True) if len(rows)]
        pairs = pairs or [(self.nets[0], order[0])]  # without rows an answer still has its width
        answers = [ask(net, rows) for net, rows in pairs]  # type: ignore[arg-type]
        return torch.cat(answers)[torch.cat([rows for _, rows in pairs]).argsort()]


@dataclass(frozen=True)
class ModelSpec:
    """What parts of a model are built from: the game, and the networks that the user chose.

    Args:
        game: names and sizes.
        encoder: makes the encoder of a network.
        hidden: width of all networks.
        sharing: of networks among seats. `shared`: all seats are alike to them; `roles`: they are given the seat, so
            that learners in different seats may settle on roles; `separate`: each seat has a network of its own.
    """

    game: GameSpec
    encoder: EncoderFactory = MLP
    hidden: int = 128
    sharing: Sharing = "shared"

    def __post_init__(self) -> None:
        if self.hidden < 1:
            raise ConfigError(f"model.hidden is {self.hidden}: it must be at least 1")

    def make_encoder(self) -> Encoder:
        """Make an encoder of views, relative to the viewer if the user chose so."""
        return self.encoder(self.game.observation_space, self.game.layout, self.hidden)

    def make_state_encoder(self) -> Encoder:
        """Make an encoder of whole states, which must tell where things are."""
        kind = class_of(self.encoder).state_encoder  # type: ignore[attr-defined]
        return (kind or self.encoder)(self.game.observation_space, self.game.layout, self.hidden)

    def make_goal_net(self, goal_size: int, outputs: int, shared: bool = False) -> GoalNet | SeatNets:
        """Make a goal-conditioned network: one for all seats, one that is given the seat, or one for each.

        Args:
            goal_size: D.
            outputs: number of outputs.
            shared: one for all seats, whatever `sharing` says.
        """
        seats = self.game.num_players if self.sharing == "roles" and not shared else 0

        def make() -> GoalNet:
            return GoalNet(self.make_encoder(), goal_size, outputs, self.hidden, seats)

        return SeatNets(self.game.num_players, make) if self.sharing == "separate" and not shared else make()

    def make_decoder(self, size: int) -> Decoder:
        """Make a decoder of vectors of this length into views."""
        return make_decoder(size, self.game.observation_space, self.game.layout, self.hidden)
