"""Measure how far goal codes move during training."""

import torch
from lightning import Callback, LightningModule, Trainer
from torch import Tensor

from omg_lightning import ranks
from omg_lightning.training import Agent
from omg_lightning.types import ConfigError


class CodeDrift(Callback):
    """Codes the same views again after every epoch, and logs how much has changed since the epoch before.

    With `Subgoal`, `goal/code_drift` is the mean distance that the code of a view has moved, over the mean
    distance of codes from their centre. With `Codebook`, `goal/code_stability` is the share of events whose
    code is still the same. The views are those of the first round, offline as a rule. Must stand after `BufferRefresh`.

    Args:
        views: the number of views, at most.
    """

    def __init__(self, views: int = 512) -> None:
        if views < 2:
            raise ConfigError(f"CodeDrift(views={views}): at least 2 are needed")
        self.count = views
        self._views: Tensor | None = None
        self._last: Tensor | None = None

    @torch.no_grad()
    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Codes the views, and logs the change."""
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
    """Mean distance between codes `[M, D]` of the same views, over the mean distance of `before` from its centre."""
    spread = (before - before.mean(0)).norm(dim=-1).mean()
    return (now - before).norm(dim=-1).mean() / spread.clamp(min=1e-9)


def stability(before: Tensor, now: Tensor) -> Tensor:
    """Share of the codes, int64 `[M]`, that are the same."""
    return (now == before).float().mean()
