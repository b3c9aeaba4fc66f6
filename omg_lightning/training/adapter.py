"""Training during a test, which is undone afterwards."""

from collections.abc import Sequence
from typing import Any, Protocol

import torch
from torch import Tensor

from omg_lightning.types import Batch


class Adaptable(Protocol):
    """The part of `Agent` that an adapter uses."""

    def losses(self, batch: Batch) -> dict[str, Tensor]:
        """Return every loss by name."""

    def weigh(self, losses: dict[str, Tensor]) -> Tensor | None:
        """Return the weighted sum of the losses."""

    def optimizer(self) -> torch.optim.Optimizer:
        """Return a new optimiser."""

    def on_train_batch_end(self, outputs: Any, batch: Batch, batch_idx: int) -> None:
        """Update moving averages after each training step."""

    def state_dict(self) -> dict[str, Any]:
        """Return the weights, without a copy."""

    def load_state_dict(self, state_dict: dict[str, Any]) -> Any:
        """Set the weights."""


class Adapter:
    """Trains an agent from its current weights, with a new optimiser, outside of Lightning's training loop.

    Args:
        agent: the agent to train; `forget` restores its current weights.
    """

    def __init__(self, agent: Adaptable) -> None:
        self.agent = agent
        self._saved = {name: value.detach().clone() for name, value in agent.state_dict().items()}
        self._optimizer = agent.optimizer()

    def learn(self, batches: Sequence[Batch]) -> None:
        """Take one training step on each of `batches`."""
        with torch.inference_mode(False), torch.enable_grad():
            for batch in batches:
                # Tensors made in inference mode cannot have gradients; their copies can.
                batch = batch._replace(episodes=batch.episodes.map(torch.clone))
                loss = self.agent.weigh(self.agent.losses(batch))
                if loss is None:
                    return
                self._optimizer.zero_grad()
                loss.backward()
                self._optimizer.step()
                self.agent.on_train_batch_end(None, batch, 0)

    def forget(self) -> None:
        """Restore the weights."""
        self.agent.load_state_dict(self._saved)
