"""Metrics of an explicit belief against the true goals of scripted co-players."""

import torch
from torch import Tensor
from torchmetrics import Metric
from torchmetrics.functional.classification import multiclass_calibration_error
from torchmetrics.utilities import dim_zero_cat

from omg_lightning.metrics.information import informative, normalised_information
from omg_lightning.types import Episodes

AFTER = 3  # steps after a change of goals
SURE = 0.9  # probability from which a belief counts as sure of a goal


class BeliefMetrics(Metric):
    """Accuracy of a belief about the true goals of scripted co-players, by the number n of observed steps.

    For n = 1, 3, 5, 10 and `all`, `compute` returns

    - `goal/belief_nmi_<n>`: the mutual information of the true goal and a goal drawn from the belief, over the mean of
      their entropies; it does not depend on the names of goals, so it suits learned codes as well;
    - `goal/belief_true_<n>`: the mean probability of the true goal;
    - `goal/belief_accuracy_<n>`: how often the most probable goal is the true one;
    - `goal/belief_calibration_<n>`: the expected calibration error, the difference between the probability of the most
      probable goal and its accuracy (15 bins; Guo et al. 2017, arXiv 1706.04599);
    - `goal/belief_exact_<n>`, if the scripts' own probabilities are known: that of the true goal by exact Bayes;
    - `goal/belief_decidable_<n>` and `goal/belief_decided_<n>`, likewise: the share of episodes in which exact Bayes
      has the true goal at 0.9 or more, and among those the share in which the belief has it, too. While the scripts act
      alike, no observer can know the goal.

    If goals change within episodes, `goal/belief_true_after_3` and `goal/belief_exact_after_3` are these means three
    steps after a change.

    Over all steps it returns `goal/belief_reached_90`, the share of goals whose belief reached 0.9 while they
    were pursued, and for these goals `goal/belief_steps_to_90` and `goal/belief_steps_to_90_median`: the number of
    steps observed until then. A goal that changes within an episode counts as a new one from the change on.

    Learned codes have no names. For them, the probability of a goal is that of all codes matched to it, and a code is
    matched to the true goal with which it has most of its belief at the end of episodes. The match uses the same
    episodes; if all of them have the same goal, only the mutual information is returned, because any match would fit.

    The true goal is that of step n. Episodes that end earlier count with their last belief. The result is empty
    if no script declares a goal.

    Args:
        num_goals: number of goals that the game declares.
        size: G, number of goals in the belief.
        same: whether the belief is over the declared goals.
        max_steps: the longest episode.
    """

    beliefs: list[Tensor]
    truths: list[Tensor]
    lengths: list[Tensor]
    exacts: list[Tensor]
    full_state_update = False
    steps = (1, 3, 5, 10, None)

    def __init__(self, num_goals: int, size: int, same: bool, max_steps: int) -> None:
        super().__init__()
        self.num_goals, self.size, self.same, self.max_steps = num_goals, size, same, max_steps
        for name in ("beliefs", "truths", "lengths", "exacts"):
            self.add_state(name, default=[], dist_reduce_fx="cat")

    def update(self, episodes: Episodes, who: Tensor, exact: Tensor | None = None) -> None:
        """Add whole episodes; entry t of a belief, `Episodes.goal`, is the belief before action t was observed.

        Args:
            episodes: `[T, B, P, ...]`.
            who: bool `[T, B, P]` the seats to evaluate, while they are active.
            exact: float `[T, B, P, num_goals]` the belief of exact Bayes; `None` if it is unknown.
        """
        belief, truth = episodes.goal, episodes.true_goal
        known = (truth >= 0) | ~who  # [T, B, P]
        b, p = (who.any(0) & known.all(0)).nonzero(as_tuple=True)
        self.beliefs.append(self._rows(belief, b, p))
        self.truths.append(self._rows(truth.clamp(min=0), b, p))  # NO_GOAL remains only after an episode's end
        self.lengths.append(who[:, b, p].sum(0))
        if exact is not None:
            self.exacts.append(self._rows(exact, b, p))

    def compute(self) -> dict[str, Tensor]:
        """Return scalars by flat name; none before the first script with a goal."""
        if len(self.lengths) == 0:  # a list of batches or, gathered from several processes, one tensor
            return {}
        belief, truth, length = (dim_zero_cat(state) for state in (self.beliefs, self.truths, self.lengths))
        if len(length) == 0:
            return {}
        exact = dim_zero_cat(self.exacts) if len(self.exacts) else None
        found: dict[str, Tensor] = {}
        joint = self._joint(belief, truth, length - 1)
        varies = informative(joint)
        named = belief if self.same else belief @ match_codes(joint)  # [N, T, num_goals]
        for step in self.steps:
            name, at = ("all", length - 1) if step is None else (str(step), (length - 1).clamp(max=step))
            joint = self._joint(belief, truth, at)
            if informative(joint):
                found[f"goal/belief_nmi_{name}"] = normalised_information(joint / joint.sum())
            if self.same or varies:
                found |= {f"goal/belief_{key}_{name}": x for key, x in self._at(named, truth, exact, at).items()}
        if self.same or varies:
            found |= waiting(true_probability(named, truth), truth, length)
            found |= self._after_a_change(named, truth, exact, length)
        return found

    def _after_a_change(self, named: Tensor, truth: Tensor, exact: Tensor | None, length: Tensor) -> dict[str, Tensor]:
        """Return the mean probability of true goals that changed `AFTER` steps ago; empty if there are none."""
        since, number = ages(truth)
        late = (since == AFTER) & (number > 0) & (torch.arange(truth.shape[1], device=truth.device) < length[:, None])
        beliefs = {"true": named} | ({} if exact is None else {"exact": exact})
        return {
            f"goal/belief_{name}_after_{AFTER}": true_probability(belief, truth)[late].mean()
            for name, belief in beliefs.items()
            if late.any()
        }

    def _at(self, named: Tensor, truth: Tensor, exact: Tensor | None, at: Tensor) -> dict[str, Tensor]:
        """Return the measures of one step, `at` `[N]`, of beliefs in declared goals, `[N, T, num_goals]`."""
        rows = torch.arange(len(at), device=at.device)
        belief, true = named[rows, at], truth[rows, at]
        probability = true_probability(belief, true)
        found = {"true": probability.mean(), "accuracy": (belief.argmax(-1) == true).float().mean()}
        if self.num_goals > 1:
            found["calibration"] = multiclass_calibration_error(belief, true, num_classes=self.num_goals)
        if exact is not None:
            certain = true_probability(exact[rows, at], true)
            decidable = certain >= SURE
            found["exact"] = certain.mean()
            found["decidable"] = decidable.float().mean()
            if decidable.any():
                found["decided"] = (probability[decidable] >= SURE).float().mean()
        return found

    def _joint(self, belief: Tensor, truth: Tensor, at: Tensor) -> Tensor:
        """Sum beliefs at steps `at` `[N]` by true goal: `[num_goals, G]`."""
        rows = torch.arange(len(at), device=at.device)
        table = belief.new_zeros(self.num_goals, self.size)
        return table.index_add_(0, truth[rows, at], belief[rows, at])

    def _rows(self, x: Tensor, b: Tensor, p: Tensor) -> Tensor:
        """Take seats out of `x` `[T, B, P, ...]`: `[N, max_steps, ...]`, with zeros after the end."""
        rows = x.new_zeros(len(b), self.max_steps, *x.shape[3:])
        rows[:, : len(x)] = x[:, b, p].transpose(0, 1)
        return rows


def match_codes(joint: Tensor) -> Tensor:
    """Match each code to the true goal with which it has most of its belief.

    Args:
        joint: `[num_goals, G]` summed beliefs.

    Returns:
        float `[G, num_goals]` one-hot.
    """
    return torch.nn.functional.one_hot(joint.argmax(0), len(joint)).to(joint.dtype)


def true_probability(belief: Tensor, truth: Tensor) -> Tensor:
    """Return the probability `[...]` of the true goal `[...]` in beliefs `[..., num_goals]`."""
    return belief.gather(-1, truth[..., None])[..., 0]


def ages(truth: Tensor) -> tuple[Tensor, Tensor]:
    """Return how many steps of the current goal were observed, and its number in the episode: int64 `[N, T]` each.

    Args:
        truth: int64 `[N, T]` goals.
    """
    time = torch.arange(truth.shape[1], device=truth.device).expand_as(truth)
    changed = torch.zeros_like(truth, dtype=torch.bool)
    changed[:, 1:] = truth[:, 1:] != truth[:, :-1]
    return time - torch.where(changed, time, 0).cummax(1).values, changed.cumsum(1)


def waiting(probability: Tensor, truth: Tensor, length: Tensor) -> dict[str, Tensor]:
    """Return the number of steps until the true goal has probability 0.9, from the start or the goal's last change.

    Args:
        probability: float `[N, T]` of the true goal.
        truth: int64 `[N, T]`.
        length: int64 `[N]` steps of each.
    """
    count, steps = truth.shape
    since, number = ages(truth)
    goal = number + steps * torch.arange(count, device=truth.device)[:, None]  # its number, over all rows
    there = torch.arange(steps, device=truth.device) < length[:, None]
    sure = there & (probability >= SURE)
    first = torch.full((count * steps,), steps, device=truth.device)
    first = first.scatter_reduce(0, goal[sure], since[sure], "amin")[goal[there].unique()]
    reached = first[first < steps].float()
    found = {"goal/belief_reached_90": probability.new_tensor(len(reached) / len(first))}
    if len(reached):
        found["goal/belief_steps_to_90"] = reached.mean()
        found["goal/belief_steps_to_90_median"] = reached.quantile(0.5)
    return found
