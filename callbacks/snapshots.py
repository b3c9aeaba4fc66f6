"""Keeps copies of the learner at shares of its training."""

from collections.abc import Mapping

from lightning import Callback, LightningModule, Trainer
from torch import Tensor

from omg_lightning.types import ConfigError


class Snapshots(Callback):
    """Keeps copies of the weights in memory, by name, each taken after a share of the rounds.

    Args:
        shares: name -> share of `trainer.max_epochs`, 0 to 1; rounded down to whole rounds.

    Attributes:
        weights: name -> the weights then; empty before it is due.
    """

    def __init__(self, shares: Mapping[str, float] = {"start": 0.0, "half": 0.5, "end": 1.0}) -> None:
        if not all(0 <= share <= 1 for share in shares.values()):
            raise ConfigError(f"Snapshots shares are {dict(shares)}: they must lie between 0 and 1")
        self.shares = dict(shares)
        self.weights: dict[str, dict[str, Tensor]] = {}

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Keeps the untrained weights.

        Raises:
            ConfigError: it is not known how long the run will be, or it is too short for different snapshots.
        """
        rounds = trainer.max_epochs
        least = len(set(self.shares.values())) - 1
        if not rounds or rounds < max(least, 1):
            raise ConfigError(
                f"trainer.max_epochs is {rounds}: it must be at least {max(least, 1)} for snapshots after the shares "
                f"{list(self.shares.values())} of a run"
            )
        self._keep(trainer, pl_module, 0)

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Keeps the weights that are due after this round."""
        self._keep(trainer, pl_module, trainer.current_epoch + 1)

    def _keep(self, trainer: Trainer, pl_module: LightningModule, rounds: int) -> None:
        """Copies the weights for each share that is reached after so many rounds."""
        assert trainer.max_epochs is not None
        for name, share in self.shares.items():
            if name not in self.weights and rounds >= int(share * trainer.max_epochs):
                self.weights[name] = {key: value.detach().clone() for key, value in pl_module.state_dict().items()}
