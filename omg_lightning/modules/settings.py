"""Groups of settings of the agent; each is a key of the command line, such as `--model.selector.rule`."""

from dataclasses import asdict, dataclass
from typing import Literal

from omg_lightning.goals import SelectorRule
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
    """How the state VAE is trained.

    Args:
        objective: `planes` is the likelihood of the planes, `mse` the published squared error.
        kl_weight: weight of KL(q || prior), 0.001 as published.
        free_bits: nats for each dimension below which the KL is not pressed further.
    """

    objective: Literal["planes", "mse"] = "planes"
    kl_weight: float = 0.001
    free_bits: float = 0.0

    def __post_init__(self) -> None:
        if self.kl_weight < 0 or self.free_bits < 0:
            raise ConfigError(
                f"vae.kl_weight is {self.kl_weight} and free_bits {self.free_bits}: both must be at least 0"
            )


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
