"""Measure how far goal codes move during training."""

import torch
from lightning import Callback, LightningModule, Trainer
from torch import Tensor

from omg_lightning import ranks
from omg_lightning.training import Agent
from omg_lightning.types import ConfigError


class CodeDrift(Callback):
    """Encodes the same views after every epoch, and logs how much the codes have changed since the last epoch.

    With `Subgoal`, `goal/code_drift` is the mean distance that the code of a view has moved, over the mean
    distance of codes from their centre. With `Codebook`, `goal/code_stability` is the share of events whose
    code is unchanged. The views are those of the first round, usually an offline one. Must come after `BufferRefresh`.

    Args:
        views: largest number of views.
    """

    def __init__(self, views: int = 512) -> None:
        if views < 2:
            raise ConfigError(f"CodeDrift(views={views}): expected at least 2")
        self.count = views
        self._views: Tensor | None = None
        self._last: Tensor | None = None

    @torch.no_grad()
    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Encode the views, and log the change."""
        played = trainer.datamodule.latest  # type: ignore[attr-defined]
        if not isinstance(pl_module, Agent) or played is None:
            return
        opponent, views = pl_module.opponent, self._views
        if views is None:
            views = ranks.first(opponent.coded(played.episodes)[: self.count].float())
        codes = opponent.codes(views)
        if codes is None:
            return
        self._views = views
        if self._last is not None and len(codes):
            name, change = ("code_drift", drift) if codes.is_floating_point() else ("code_stability", stability)
            pl_module.log(f"goal/{name}", change(self._last, codes), on_step=False, on_epoch=True, batch_size=1)
        self._last = codes

    def state_dict(self) -> dict[str, Tensor | None]:
        """Return the observations and their last codes, for a resumed run."""
        return {"views": self._views, "last": self._last}

    def load_state_dict(self, state_dict: dict[str, Tensor | None]) -> None:
        """Restore them."""
        self._views, self._last = state_dict["views"], state_dict["last"]


def drift(before: Tensor, now: Tensor) -> Tensor:
    """Return the mean distance between codes `[M, D]` of the same views, over that of `before` from its centre."""
    spread = (before - before.mean(0)).norm(dim=-1).mean()
    return (now - before).norm(dim=-1).mean() / spread.clamp(min=1e-9)


def stability(before: Tensor, now: Tensor) -> Tensor:
    """Return the share of equal codes, int64 `[M]`."""
    return (now == before).float().mean()
