"""The labels of a batch: what the goals of all seats were, each kind of goals in its own way."""

import torch
from torch import Tensor

from omg_lightning.opponents import Codebook, GoalKind, endings, hindsight_goals, own_frame, rewarded, shift
from omg_lightning.opponents.goal_vae import draw_gaussian
from omg_lightning.opponents.targets import Hindsight, complete, declared, explicit, latent, places, watched
from omg_lightning.training.parts import Parts
from omg_lightning.samples import Samples
from omg_lightning.training.settings import SelectorConfig
from omg_lightning.opponents.subgoal_predictor import Inference
from omg_lightning.types import NO_GOAL, Batch, Episodes


class Labels:
    """Finds the goals of all seats in hindsight, and the loss of what infers them.

    Args:
        goals: where goals come from.
        parts: the networks.
        selector: how a subgoal is chosen.
        trains: whether the inference of subgoals is trained; without, there is no loss.
        ending_codes: whether to end with nothing is a goal, see `learn_codes`.
        places: whether declared goals are places.
        believed: label by the belief what has no goal in hindsight, see `complete`.
    """

    def __init__(
        self,
        goals: GoalKind,
        parts: Parts,
        selector: SelectorConfig,
        trains: bool,
        ending_codes: bool = False,
        places: bool = False,
        believed: bool = False,
    ) -> None:
        self.goals, self.parts, self.selector, self.trains = goals, parts, selector, trains
        self.ending_codes, self.places, self.believed = ending_codes, places, believed

    def __call__(self, batch: Batch, samples: Samples, noise: torch.Generator) -> tuple[Hindsight, dict[str, Tensor]]:
        """The goals of all seats, and the losses of what infers them."""
        episodes, parts = batch.episodes, self.parts
        if self.goals == "declared":
            return (places(episodes, noise) if self.places else declared(episodes, noise, self.believed)), {}
        if self.goals == "oracle":
            return explicit(episodes, episodes.truth, noise), {}
        if parts.codebook is not None:
            code = learn_codes(parts.codebook, episodes, self.ending_codes, noise)
            return explicit(episodes, complete(episodes, code, noise) if self.believed else code, noise), {}
        if parts.vae is None:
            empty = episodes.goal[..., :0]
            return Hindsight(empty, empty, episodes.active), {}
        with torch.no_grad():  # the codes are targets, and where the inference starts from
            codes = parts.vae.codes(samples.observation)
        who = watched(episodes)  # nobody asks for the subgoals of a seat that is the only learner
        inference = parts.predictor.infer_episodes(episodes, samples, codes[0], who)
        hindsight, (mean, log_var) = self._select(codes, batch, samples, inference, noise)
        if not self.trains:
            return hindsight, {}
        asked = who[samples.mask]
        inference = Inference(*(field[asked] for field in inference))
        return hindsight, parts.predictor.subgoal_loss(
            inference, samples.observation[asked], (mean[asked], log_var[asked]), noise
        )

    @torch.no_grad()  # nothing leaks from the value head through the selector
    def _select(
        self,
        codes: tuple[Tensor, Tensor],
        batch: Batch,
        samples: Samples,
        inference: Inference,
        noise: torch.Generator,
    ) -> tuple[Hindsight, tuple[Tensor, Tensor]]:
        """Subgoals in hindsight: goals, and mean and log variance `[n, D]` of the selected ones among `codes`."""
        mean, log_var = (samples.spread(part) for part in codes)
        inferred = samples.spread(draw_gaussian(inference.mean, inference.log_var, noise))
        values, rule = None if batch.offline else self.parts.policy.goal_values, self.selector
        hindsight, ahead = latent(
            batch.episodes,
            samples,
            mean,
            inferred,
            values,
            rule.rule,
            rule.horizon,
            noise,
            rule.offset,
            rule.temperature,
        )
        return hindsight, (hindsight.label[samples.mask], shift(log_var, ahead)[samples.mask])


@torch.no_grad()
def learn_codes(codebook: Codebook, episodes: Episodes, ending_codes: bool, noise: torch.Generator) -> Tensor:
    """Moves the codebook by what lies around seats at events; the code of each seat's next event, `[T, B, P]`.

    Args:
        codebook: is changed.
        episodes: `[T, B, P, ...]`.
        ending_codes: each seat's last step counts as an event, too, so that to end with nothing is a goal; without,
            those who end with nothing have none.
        noise: for the codebook.

    Returns:
        int64 `[T, B, P]`; NO_GOAL where nothing is realised any more, and for padding.
    """
    event = rewarded(episodes)
    if ending_codes:
        event = endings(event, episodes.active)
    around = own_frame(episodes.observation[event].float(), episodes.active.shape[-1])
    codebook.update(around, noise)
    realised = torch.full_like(episodes.realised, NO_GOAL)
    realised[event] = codebook(around)
    return hindsight_goals(realised, episodes.active)
