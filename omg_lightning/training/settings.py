"""Groups of settings of the agent; each is a key of the command line, such as `--model.selector.rule`."""

from dataclasses import asdict, dataclass
from typing import Literal

from omg_lightning.opponents import SelectorRule
from omg_lightning.types import ConfigError


@dataclass(frozen=True)
class LossWeights:
    """Weight of each loss; 0 leaves the part untrained.

    Args:
        vae: state VAE.
        subgoal: inference of subgoals.
        coplayer: action head of the co-player model.
        policy: cross entropy to the search's policy.
        value: squared error to the return.
    """

    vae: float = 1.0
    subgoal: float = 1.0
    coplayer: float = 1.0
    policy: float = 0.5
    value: float = 0.5

    def __post_init__(self) -> None:
        weights = asdict(self).values()
        if min(weights) < 0 or max(weights) <= 0:
            raise ConfigError(f"losses are {asdict(self)}: weights must be at least 0, and one of them positive")


@dataclass(frozen=True)
class VAEConfig:
    """What the code of a state has to keep, each with its weight, and how it is trained.

    Args:
        reconstruction: weight of the view itself.
        action: weight of the seat's action, given its view and the code of a view it came to within `horizon` steps.
        next_actions: weight of its next `next_steps` actions, given the same.
        error: of the reconstruction: `planes` is the likelihood of the planes, `mse` the published squared error.
        next_steps: how many actions `next_actions` predicts.
        horizon: how many steps ahead the view lies at most whose code leads the actions.
        kl_weight: weight of KL(q || prior), 0.001 as published.
        kl_warmup: training batches over which that weight rises from 0.
        free_bits: nats for each dimension below which the KL is not pressed further.
        slowness: of the codes that subgoals are labelled with, once the VAE is adjusted online: they come from a
            moving average of the encoder, which keeps this share of itself in each batch; 0 for the encoder itself.
    """

    reconstruction: float = 1.0
    action: float = 0.0
    next_actions: float = 0.0
    error: Literal["planes", "mse"] = "planes"
    next_steps: int = 5
    horizon: int = 5
    kl_weight: float = 0.001
    kl_warmup: int = 0
    free_bits: float = 0.0
    slowness: float = 0.99

    def __post_init__(self) -> None:
        if not 0 <= self.slowness < 1:
            raise ConfigError(f"vae.slowness is {self.slowness}: it must be at least 0 and less than 1")
        weights = (self.reconstruction, self.action, self.next_actions)
        if min(weights) < 0 or max(weights) <= 0:
            raise ConfigError(
                f"vae.reconstruction, action and next_actions are {weights}: weights must be at least 0, and one of "
                "them positive"
            )
        if min(self.kl_weight, self.free_bits, self.kl_warmup) < 0:
            raise ConfigError(
                f"vae.kl_weight is {self.kl_weight}, kl_warmup {self.kl_warmup} and free_bits {self.free_bits}: all "
                "must be at least 0"
            )
        if min(self.next_steps, self.horizon) < 1:
            raise ConfigError(
                f"vae.next_steps is {self.next_steps} and horizon {self.horizon}: both must be at least 1"
            )

    @property
    def acts(self) -> bool:
        """Whether actions are predicted from codes."""
        return self.action > 0 or self.next_actions > 0


@dataclass(frozen=True)
class SelectorConfig:
    """How the subgoal is chosen in hindsight, and who is trained on it.

    Args:
        rule: `optimistic` (cooperative games), `conservative` (general-sum), `random` or `offset`.
        horizon: H, how many steps ahead to look.
        offset: steps ahead, for the rule `offset`.
        temperature: of Gumbel noise on the scores.
        mixture: probability, at first, of training on the selected instead of the inferred goal.
        mixture_steps: environment steps over which that falls to 0.
        alpha: weight of KL(inferred || code of the selected subgoal), 0.001 as published.
    """

    rule: SelectorRule = "optimistic"
    horizon: int = 5
    offset: int = 1
    temperature: float = 0.0
    mixture: float = 0.5
    mixture_steps: int = 50_000
    alpha: float = 0.001

    def __post_init__(self) -> None:
        if self.horizon < 1 or not 1 <= self.offset <= self.horizon:
            raise ConfigError(
                f"selector.horizon is {self.horizon} and offset {self.offset}: expected horizon >= offset >= 1"
            )
        if self.alpha < 0:
            raise ConfigError(f"selector.alpha is {self.alpha}: it must be at least 0")
        if not 0 <= self.mixture <= 1 or self.mixture_steps < 1 or self.temperature < 0:
            raise ConfigError(
                f"selector.mixture is {self.mixture}, mixture_steps {self.mixture_steps} and temperature "
                f"{self.temperature}: expected a probability, at least 1, and at least 0"
            )

    def share(self, env_steps: int) -> float:
        """Probability of training on the selected goal, falling linearly to 0 (OMG: 0.5 to 0 over 50,000 steps)."""
        return self.mixture * max(0.0, 1 - env_steps / self.mixture_steps)
