"""The agent: an opponent model, an algorithm, one optimiser, one training step, and logging."""

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from typing import Any

import torch
from lightning import LightningModule
from lightning.pytorch.utilities.types import OptimizerLRScheduler
from torch import Tensor, nn

from omg_lightning import ranks
from omg_lightning.actors import Actor
from omg_lightning.algorithms import Algorithm, BestResponseSearch
from omg_lightning.encoders import MLP, Encoder, EncoderFactory, ModelSpec, Sharing
from omg_lightning.events import watched, watchers
from omg_lightning.metrics import PredictionMetrics, ReturnMetrics
from omg_lightning.opponents import Direct, OpponentModel
from omg_lightning.rewards import GameReward, Reward
from omg_lightning.samples import TrainingBatch
from omg_lightning.seeds import generator_of
from omg_lightning.spec import Factory, GameSpec, part_of, plain_part
from omg_lightning.training.adapter import Adapter
from omg_lightning.training.checks import (
    check_finite,
    check_fit,
    check_match,
    check_parts,
    differing,
    loss_weights,
    parameter_groups,
    weigh,
)
from omg_lightning.training.stored import StoredAgent, read_agent
from omg_lightning.types import AdaptationSegment, Batch, ConfigError, Episodes


@dataclass(frozen=True)
class NetworkConfig:
    """Settings of all networks.

    Args:
        hidden: width.
        sharing: among seats. `shared`: a network treats all seats alike; `roles`: it gets the seat as an input, so that
            learners in different seats can specialise; `separate`: each seat has a policy network, and a
            co-player model of its own.
    """

    hidden: int = 128
    sharing: Sharing = "shared"

    def __post_init__(self) -> None:
        if self.hidden < 1:
            raise ConfigError(f"model.networks.hidden is {self.hidden}: it must be at least 1")


class Agent(LightningModule):
    """Composes an opponent model and an algorithm, takes the training step, and logs.

    Args:
        opponent: the model of the co-players: `Direct`, `Declared` (HOP), `Locations`, `Codebook`, `Subgoal` (OMG,
            HOP+), `LIAM`, `MeLIBA`, `Recurrent`, `Oracle`, or a class of yours.
        algorithm: how the learner acts, and its losses: `BestResponseSearch`, `PPO`, `LOLA`, or a class of
            yours.
        encoder: the first layers of every network: `MLP`, `Centred`, `Paths`, `Conv`, or a class of yours.
        reward: the training reward: `GameReward`, `GoalBonus`, `Prosocial`, `SVO`, `SocialInfluence`, or a class of
            yours.
        networks: width of all networks, and sharing among seats.
        losses: weights of losses by name, such as `{vae: 0.5}`; they override the defaults.
        learning_rate: of Adam; 5e-4 as published.
        learning_rate_decay: lower the learning rate linearly, to a twentieth in the last of `trainer.max_epochs`.
        seed: of the noise in the losses; `--seed_everything` on the command line.
        spec: names and sizes of the game, see `GameSpec.plain`; the command line fills it in.

    Raises:
        ConfigError: a setting is out of range, or the chosen classes do not fit together.
    """

    def __init__(
        self,
        opponent: Callable[[ModelSpec], OpponentModel] = Direct,
        algorithm: Callable[[ModelSpec, int], Algorithm] = BestResponseSearch,
        encoder: EncoderFactory = MLP,
        reward: Callable[[], Reward] = GameReward,
        networks: NetworkConfig = NetworkConfig(),
        losses: dict[str, float] = {},  # noqa: B006  read, never written to
        learning_rate: float = 5e-4,
        learning_rate_decay: bool = False,
        seed: int = 0,
        spec: dict[str, Any] | None = None,
    ) -> None:
        super().__init__()
        if not spec:
            raise ConfigError("the agent got no spec of its game: pass GameSpec.of(env).plain()")
        if not 0 < learning_rate < float("inf"):
            raise ConfigError(f"model.learning_rate is {learning_rate}: it must be above 0 and finite")
        networks = NetworkConfig(**networks) if isinstance(networks, Mapping) else networks
        parts: dict[str, Factory] = {
            "opponent": opponent,
            "algorithm": algorithm,
            "encoder": encoder,
            "reward": reward,
        }
        plain = {name: plain_part(part) for name, part in parts.items()}
        settings = {"learning_rate": learning_rate, "learning_rate_decay": learning_rate_decay, "seed": seed}
        self.save_hyperparameters(
            {**plain, "networks": asdict(networks), "losses": dict(losses), **settings, "spec": dict(spec)}
        )
        self.game = GameSpec.from_plain(spec)
        model = ModelSpec(self.game, part_of(encoder, Encoder), networks.hidden, networks.sharing)
        self.opponent: OpponentModel = part_of(opponent, OpponentModel)(model)
        self.algorithm: Algorithm = part_of(algorithm, Algorithm)(model, self.opponent.size)
        self.reward: Reward = part_of(reward, Reward)()
        self.reward.build(model)
        check_parts(self.game, self.algorithm, self.reward)
        own = {type(part).__name__: part.weights for part in (self.opponent, self.algorithm)}
        own[type(self.reward).__name__] = self.reward.loss_weights
        self.loss_weights = loss_weights(own, losses)
        self.opponent.weights = self.algorithm.weights = self.loss_weights
        self.learning_rate, self.learning_rate_decay, self.seed = learning_rate, learning_rate_decay, seed
        self.returns = ReturnMetrics(self.algorithm.discount)
        self.predictions = PredictionMetrics(self.game.num_actions)
        self.env_steps = 0  # of the newest batch: the x axis of all logged values
        self.trained_seed = seed  # seed of the run that trained the weights: the unit of statistics over seeds
        self._logged: list[dict[str, Tensor]] = []  # losses of the batches of this epoch
        self._noise: torch.Generator | None = None
        self.other_rules = False  # whether to accept checkpoints of a game with other rules; `--other_rules`
        self._adapter: Adapter | None = None  # trains the networks in `test`, if configured

    def setup(self, stage: str) -> None:
        """Give the data module the actor for its rollouts: the only data flow from the agent to the data module."""
        datamodule = getattr(self.trainer, "datamodule", None)
        if datamodule is not None and hasattr(datamodule, "attach"):
            datamodule.attach(self.actor, self.load_actor, self.copy_weights, self.algorithm.on_policy)
            self.returns.bounds = datamodule.env.team_bounds
        if stage == "fit" and not self.trainer.ckpt_path:  # a resumed run has loaded its own weights already
            self.opponent.before_fit(self._weights_of)

    # For rollouts -------------------------------------------------------------------------------------------------

    def actor(self) -> Actor:
        """Return the learner's actor for rollouts; it uses the current weights."""
        return self.algorithm.actor(self.opponent)

    def load_actor(self, source: str | dict[str, Tensor]) -> Actor:
        """Return the actor of a stored agent, or of this one with other weights.

        Args:
            source: see `omg_lightning.sources.find_agent`; it may have other settings but must know this game. Or
                weights.

        Raises:
            ConfigError: the agent does not exist, or is of another game or size.
        """
        if isinstance(source, str):
            agent = restore(read_agent(source), self.device)
            check_match(agent.hparams, self.hparams, False, self.other_rules)
        else:
            agent = restore(StoredAgent(self.hparams, source, {}), self.device)
        return agent.actor()

    def copy_weights(self) -> dict[str, Tensor]:
        """Return a copy of all current weights, for `load_actor`."""
        return {name: value.detach().clone() for name, value in self.state_dict().items()}

    def _weights_of(self, path: str) -> Mapping[str, Tensor]:
        """Return the weights in another run's checkpoint, which must have this game and these networks."""
        stored = read_agent(path)
        check_match(stored.settings, self.hparams, True, self.other_rules)
        return stored.weights

    # Training -------------------------------------------------------------------------------------------------------

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor | None:
        """Compute all losses on one batch of whole episodes; return their weighted sum.

        Returns:
            None if no loss is due: the offline phase of a run that only trains the policy. With several
            ranks a loss without parameters: another rank may have a loss that is due.
        """
        losses = self.losses(batch)
        loss = self.weigh(losses, batch)
        if loss is None:
            return None if ranks.size() == 1 else torch.zeros((), device=self.device, requires_grad=True)
        named = {f"goal/{name}" if name.endswith("top1") else f"loss/{name}": x for name, x in losses.items()}
        self._logged.append({name: value.detach() for name, value in named.items()})
        self.env_steps = batch.env_steps
        return loss

    def on_train_epoch_start(self) -> None:
        """Drop the losses of an interrupted epoch."""
        self._logged.clear()

    def on_train_epoch_end(self) -> None:
        """Log epoch means: per-batch logging is as slow as the update."""
        names = dict.fromkeys(name for found in self._logged for name in found)
        parts = {name: torch.stack([found[name] for found in self._logged if name in found]) for name in names}
        if means := ranks.mean({name: part.mean() for name, part in parts.items()}):
            self.log_dict({**means, "step": float(self.env_steps)})

    def on_train_batch_end(self, outputs: Any, batch: Batch, batch_idx: int) -> None:
        """Update the opponent model's moving averages after the step."""
        self.opponent.after_step(batch.offline)

    def losses(self, batch: Batch) -> dict[str, Tensor]:
        """Return every loss that is due, and metrics for the log, by name."""
        given = self.training_batch(batch, self.noise)
        return {**self.opponent.losses(given), **self.algorithm.losses(given), **self.reward.losses(given)}

    def training_batch(self, batch: Batch, noise: torch.Generator) -> TrainingBatch:
        """Return the input of all losses; all randomness is from `noise`."""
        return TrainingBatch(
            batch.episodes,
            batch.env_steps,
            batch.offline,
            self.global_step,
            self.game.max_steps,
            noise,
            self.algorithm.prepare,
            self.opponent.targets,
            self.reward.reward(batch.episodes, self.opponent),
            None if batch.offline else self.algorithm.values(),
            self.opponent.as_seen,
        )

    def weigh(self, losses: dict[str, Tensor], batch: Batch | None = None) -> Tensor | None:
        """Return the weighted sum of the losses of `batch`, or None if no loss is due."""
        return weigh(losses, self.loss_weights, None if batch is None else batch.episodes.observation)

    def optimizer(self) -> torch.optim.Optimizer:
        """Return one Adam with a parameter group for each part: `global_step` then counts batches."""
        parts: dict[str, nn.Module] = {"opponent": self.opponent, "algorithm": self.algorithm}
        if isinstance(self.reward, nn.Module):  # most rewards have no parameters
            parts["reward"] = self.reward
        return torch.optim.Adam(parameter_groups(self, parts), lr=self.learning_rate)

    def configure_optimizers(self) -> OptimizerLRScheduler:
        """Return the optimiser and, with `learning_rate_decay`, its schedule.

        Raises:
            ConfigError: the length of the run is unknown.
        """
        optimizer = self.optimizer()
        if not self.learning_rate_decay:
            return optimizer
        rounds = self.trainer.max_epochs
        if rounds == 1:  # a single round has no schedule
            return optimizer
        if not rounds or rounds < 1:
            raise ConfigError(
                f"model.learning_rate_decay needs the length of the run, but trainer.max_epochs is {rounds}"
            )
        schedule = torch.optim.lr_scheduler.LinearLR(optimizer, 1.0, 0.05, rounds - 1)  # one step for each epoch
        return {"optimizer": optimizer, "lr_scheduler": schedule}

    # Evaluation -----------------------------------------------------------------------------------------------------

    def validation_step(self, episodes: Episodes, batch_idx: int) -> None:
        """Add evaluation episodes to the metrics."""
        self.returns.update(episodes)
        who = watched(episodes)
        t, b, seat = who.nonzero(as_tuple=True)
        view, time, legal = episodes.observation[who].float(), t / self.game.max_steps, episodes.legal[who]
        goal = self.opponent.as_seen(episodes.goal[t, b], watchers(episodes)[b, seat])
        log_policy = self.opponent.forecast(view, time, seat, legal, goal[torch.arange(len(seat)), seat])
        self.predictions.update(log_policy, episodes.action[who], episodes.extras["script_best"][who])

    def on_validation_epoch_end(self) -> None:
        """Log the metrics of all evaluation episodes."""
        for metric in (self.returns, self.predictions):
            self.log_dict(metric.compute())
            metric.reset()
        self.log("step", float(self.env_steps))

    def test_step(self, segment: AdaptationSegment, batch_idx: int) -> None:
        """Train on the new episodes if the networks adapt; undo the training after the last segment."""
        if segment.batches:
            self._adapter = self._adapter or Adapter(self)
            self._adapter.learn(segment.batches)
        if segment.last and self._adapter is not None:
            self._adapter.forget()
            self._adapter = None

    def predict_step(self, episodes: Episodes, batch_idx: int) -> Episodes:
        """Return the episodes to the callback that writes replays."""
        return episodes

    # State ----------------------------------------------------------------------------------------------------------

    @property
    def noise(self) -> torch.Generator:
        """The generator of all noise in the losses, on the module's device; its state is in the checkpoint."""
        if self._noise is None:
            self._noise = generator_of(self.seed, "losses", self.device, rank=ranks.stream())
        return self._noise

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Add the state of each rank's generator, and the count of environment steps.

        Raises:
            ConfigError: a weight is not finite, or differs between ranks.
        """
        check_finite(checkpoint)
        if name := ranks.align(self.state_dict()):
            raise ConfigError(
                f"the weight {name} differs between processes: change it only through losses, or without random numbers"
            )
        checkpoint["noise"], *checkpoint["noise_of_others"] = ranks.gather(self.noise.get_state())
        checkpoint["env_steps"] = self.env_steps

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Raise an error for a checkpoint of another game or of other networks; restore the generator."""
        settings = checkpoint["hyper_parameters"]
        check_match(settings, self.hparams, True, self.other_rules)
        check_fit(checkpoint["state_dict"], self.state_dict(), differing(settings, self.hparams))
        if "noise" in checkpoint:
            states = [checkpoint["noise"], *checkpoint.get("noise_of_others", [])]
            self.noise.set_state(states[ranks.rank() % len(states)].cpu())
            self.trained_seed = checkpoint["hyper_parameters"]["seed"]
            self.env_steps = checkpoint["env_steps"]


def restore(stored: StoredAgent, device: torch.device | str = "cpu") -> Agent:
    """Return a stored agent for play, not for training.

    Raises:
        ConfigError: its settings or weights do not fit this version.
    """
    settings = {key: value for key, value in stored.settings.items() if not key.startswith("_")}
    try:
        with torch.random.fork_rng(devices=[]):  # draws initial weights, which are then replaced
            agent = Agent(**settings)
    except ConfigError:
        raise
    except (TypeError, KeyError, AttributeError, ValueError, RuntimeError) as error:
        raise ConfigError(f"the agent's settings do not fit this version ({error}): train a new agent") from error
    check_fit(stored.weights, agent.state_dict())
    agent.load_state_dict(stored.weights)
    return agent.to(device).eval().requires_grad_(False)
