"""The opponent model without goals: it predicts actions from observations alone."""

from torch import Tensor

from omg_lightning.encoders import ModelSpec
from omg_lightning.opponents.base import OpponentModel, Targets
from omg_lightning.samples import TrainingBatch
from omg_lightning.types import Estimate, View


class Direct(OpponentModel):
    """Predicts actions from observations, without goals: goal vectors have length 0.

    Args:
        spec: description of the game, and the networks.
        online: train the co-player policies in the online phase, too.
    """

    def __init__(self, spec: ModelSpec, online: bool = True) -> None:
        super().__init__(spec, 0, online)

    def infer(self, memory: Tensor, view: View) -> Estimate:
        """Return empty goals; the memory is the empty prior, `[L, P, 0]`."""
        return Estimate(memory, lambda trees, generator: memory[:, None].expand(-1, trees, -1, -1))

    def targets(self, batch: TrainingBatch) -> Targets:
        """Return empty goals, known at every active step."""
        empty = batch.episodes.goal[..., :0]
        return Targets(empty, empty, batch.episodes.active)
