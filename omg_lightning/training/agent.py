"""The agent: composes goal VAE, subgoal predictor and policy; one optimiser, one training step; it logs."""

from collections.abc import Mapping
from typing import Any

import torch
from lightning import LightningModule
from lightning.pytorch.utilities.types import OptimizerLRScheduler
from torch import Tensor

from omg_lightning.opponents import BeliefConfig, Codebook, GoalKind, own_frame
from omg_lightning.losses import masked_logits
from omg_lightning.metrics import PredictionMetrics, ReturnMetrics
from omg_lightning.training.adapter import Adapter
from omg_lightning.training.checks import (
    GAME_KEYS,
    NETWORK_KEYS,
    check_fit,
    check_goals,
    check_match,
    check_positive,
    check_weights,
    plain,
    settings,
)
from omg_lightning.opponents.goal_vae import GoalVAE, load_vae
from omg_lightning.opponents.targets import watched
from omg_lightning.opponents.labels import Labels
from omg_lightning.algorithms.objective import Objective, weigh
from omg_lightning.training.parts import Parts, adam, goal_source
from omg_lightning.algorithms.policy import PolicyModule
from omg_lightning.training.settings import LossWeights, SelectorConfig, VAEConfig
from omg_lightning.opponents.subgoal_predictor import SubgoalPredictor
from omg_lightning.encoders.networks import Sharing
from omg_lightning.training.runs import read_checkpoint
from omg_lightning.encoders.trunk import TrunkKind
from omg_lightning.types import Batch, ConfigError, Episodes, GoalSource, Lap, Learner, PlannerConfig


class Agent(LightningModule):
    """Infers co-players' goals, predicts their actions, plans a best response, and learns all of it.

    Sizes (`game` to `num_goals`) are the data module's; the command line fills them in.

    Args:
        goals: where goals come from: `none`, `declared`, `subgoal`, `codebook` or `oracle`.
        goal_dim: D, size of a subgoal code.
        num_codes: G, the largest number of learned discrete goals of `codebook`.
        ending_codes: of `codebook`: to end an episode with nothing is a goal, with a code of its own. Wanted where
            some players are after nothing, such as defectors in Snowdrift.
        trees: K, search trees for each decision, each with its own sampled goals.
        simulations: N, for each tree.
        planner: settings of the search.
        selector: settings of the hindsight selector.
        belief: settings of the explicit belief.
        vae: settings of the state VAE.
        losses: weight of each loss.
        vae_checkpoint: a run's checkpoint whose state VAE a `fit` starts from; its game and sizes must be this run's.
        offline_value: train the value in the offline phase already, on the returns of the scripts.
        vae_online: go on training the VAE in the online phase; False freezes it after the offline phase.
        coplayer_online: go on training the co-player model in the online phase; False keeps what it learned of the
            scripts, so that learners reason about each other as about these.
        hidden: width of all networks.
        trunk: `mlp`, `centred`, `paths` or `conv`, see `Trunk`.
        sharing: of networks among seats. `shared`: all seats are alike to them, whoever sits there; `roles`: they are
            told which seat they stand for, so that learners in different seats may settle on roles; `separate`: each
            seat has a policy network, and a co-player model of it, of its own.
        learning_rate: of Adam; 5e-4 as published.
        anneal: lower the learning rate linearly, to a twentieth in the last of `trainer.max_epochs`.
        seed: of the noise in the losses.
        game: name of the game; a checkpoint of another game is refused.
        observation_shape: `(C, h, w)`.
        num_players: P.
        num_actions: A.
        max_steps: the longest episode.
        num_goals: G, how many goals the game declares.
        goal_action: where they are places: the action by which a player realises the one where it stands.
        walls: the plane of cells that nobody can walk on, if there is one.

    Raises:
        ConfigError: a setting is out of range, or the game declares no goals and `goals` needs them.
    """

    def __init__(
        self,
        goals: GoalKind = "subgoal",
        goal_dim: int = 16,
        num_codes: int = 8,
        ending_codes: bool = False,
        trees: int = 5,
        simulations: int = 32,
        planner: PlannerConfig = PlannerConfig(),
        selector: SelectorConfig = SelectorConfig(),
        belief: BeliefConfig = BeliefConfig(),
        vae: VAEConfig = VAEConfig(),
        losses: LossWeights = LossWeights(),
        vae_online: bool = True,
        vae_checkpoint: str | None = None,
        offline_value: bool = True,
        coplayer_online: bool = True,
        hidden: int = 128,
        trunk: TrunkKind = "mlp",
        sharing: Sharing = "shared",
        learning_rate: float = 5e-4,
        anneal: bool = False,
        seed: int = 0,
        game: str = "",
        observation_shape: tuple[int, int, int] = (0, 0, 0),
        num_players: int = 0,
        num_actions: int = 0,
        max_steps: int = 0,
        num_goals: int = 0,
        goal_action: int | None = None,
        walls: int | None = None,
    ) -> None:
        super().__init__()
        check_positive(
            locals(), ("goal_dim", "trees", "simulations", "hidden", "num_players", "num_actions", "max_steps")
        )
        planner, selector = settings(PlannerConfig, planner), settings(SelectorConfig, selector)
        belief, losses = settings(BeliefConfig, belief), settings(LossWeights, losses)
        vae = settings(VAEConfig, vae)
        self.save_hyperparameters()
        for name, value in self.hparams.items():
            self.hparams[name] = plain(value)
        check_goals(goals, num_goals, game, vae_checkpoint)
        self.goals, self.trees, self.simulations = goals, trees, simulations
        self.ending_codes = ending_codes
        self.planner, self.selector, self.belief, self.weights = planner, selector, belief, losses
        self.paths = trunk == "paths"
        self.learning_rate, self.anneal, self.vae_checkpoint = learning_rate, anneal, vae_checkpoint
        self.num_goals, self.num_players, self.max_steps, self.seed = num_goals, num_players, max_steps, seed
        planes, height, width = observation_shape
        self.places = None if goal_action is None or goals != "declared" else (num_goals, goal_action)
        sizes = {"none": 0, "declared": num_goals, "oracle": num_goals, "subgoal": goal_dim, "codebook": num_codes}
        size = sizes[goals] if self.places is None else height * width + 1
        shape, latents = (planes, height, width), goals == "subgoal"
        self.vae = GoalVAE(shape, num_players, num_actions, goal_dim, hidden, trunk, vae) if latents else None
        around = own_frame(torch.zeros(1, *shape), num_players).shape[-1]
        self.codebook = Codebook(num_codes, around) if goals == "codebook" else None
        self.predictor = SubgoalPredictor(
            shape, num_players, num_actions, size, latents, hidden, trunk, selector.alpha, sharing, walls
        )
        self.policy = PolicyModule(shape, num_players, num_actions, size, hidden, trunk, sharing, walls)
        self.parts = Parts(self.vae, self.codebook, self.predictor, self.policy)
        label = Labels(
            goals,
            self.parts,
            selector,
            losses.subgoal > 0,
            ending_codes,
            bool(self.places),
            belief.labels,
        )
        self.objective = Objective(
            self.parts, label, losses, selector, max_steps, vae_online, coplayer_online, offline_value
        )
        self.returns = ReturnMetrics()
        self.predictions = PredictionMetrics(num_actions)
        self.env_steps = 0  # of the newest batch: the x axis of everything that is logged
        self.trained_seed = seed  # of the run that the weights come from: what counts as a seed in statistics
        self._found: list[dict[str, Tensor]] = []  # losses of the batches of this epoch
        self._noise: torch.Generator | None = None
        self._adapter: Adapter | None = None  # what learns in `test`, where it is asked to

    def setup(self, stage: str) -> None:
        """Hands the data module the callables that it plays with: the only arrow back, and it is a value."""
        datamodule = getattr(self.trainer, "datamodule", None)
        if datamodule is not None and hasattr(datamodule, "attach"):
            datamodule.attach(self.learner, self.load_learner, self.copy_weights)
        if stage == "fit" and self.vae_checkpoint and not self.trainer.ckpt_path:  # a resumed run has its own by now
            assert self.vae is not None
            load_vae(self.vae, self.vae_checkpoint, self.hparams)

    # What a rollout needs -------------------------------------------------------------------------------------------

    def learner(self) -> Learner:
        """The callables and numbers that a rollout plays with: always the current weights."""
        coplayer = self.predictor.coplayer
        return Learner(
            source=self.source(),
            policy=self.policy,
            policy_condition=self.policy.condition,
            coplayer=coplayer,
            coplayer_condition=coplayer.condition,
            trees=self.trees,
            simulations=self.simulations,
            planner=self.planner,
            sparse=True,
            paths=self.paths,
        )

    def source(self) -> GoalSource:
        """The goal source that `goals` names."""
        return goal_source(self.goals, self.parts, self.belief, self.encode, self.ending_codes, self.places)

    def load_learner(self, source: str | dict[str, Tensor]) -> Learner:
        """The callables of a checkpoint's agent, or of this one with other weights.

        Args:
            source: the checkpoint's path, which may have other settings but must know this game; or weights.

        Raises:
            ConfigError: there is no such checkpoint, or it is of another game or size.
        """
        if isinstance(source, str):
            agent = load_agent(source, self.device)
            check_match(agent.hparams, self.hparams, GAME_KEYS)
        else:
            agent = _restore(self.hparams, source, self.device)
        return agent.learner()

    def copy_weights(self) -> dict[str, Tensor]:
        """A copy of all weights as they are now, for `load_learner`."""
        return {name: value.detach().clone() for name, value in self.state_dict().items()}

    def encode(self, observation: Tensor) -> Tensor:
        """Learned code, int64 `[M]`, of what lies around each viewer of `observation` `[M, C, h, w]`."""
        assert self.codebook is not None
        return self.codebook(own_frame(observation, self.num_players))

    # Training -------------------------------------------------------------------------------------------------------

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor | None:
        """All losses on one batch of whole episodes; logged by name, their weighted sum is returned.

        Returns:
            None where nothing is to be trained: the offline phase of a run that trains the policy alone.
        """
        losses = self.losses(batch)
        loss = self.weigh(losses)
        if loss is None:
            return None
        named = {f"loss/{name}": value for name, value in losses.items() if not name.endswith("top1")}
        named |= {f"goal/{name}": value for name, value in losses.items() if name.endswith("top1")}
        self._found.append({name: value.detach() for name, value in named.items()})
        self.env_steps = batch.env_steps
        return loss

    def on_train_epoch_start(self) -> None:
        """Forgets the losses of an epoch that was broken off."""
        self._found.clear()

    def on_train_epoch_end(self) -> None:
        """Logs the means of the losses over the batches: once, for to log at every batch costs as much as to learn."""
        if self._found:
            names = dict.fromkeys(name for found in self._found for name in found)
            parts = {name: torch.stack([found[name] for found in self._found if name in found]) for name in names}
            self.log_dict({**{name: part.mean() for name, part in parts.items()}, "step": float(self.env_steps)})

    def on_train_batch_end(self, outputs: Any, batch: Batch, batch_idx: int) -> None:
        """Moves the codes of goals: at once while everything is learned offline, slowly once others rely on them."""
        if self.vae is not None:
            self.vae.track(0.0 if batch.offline else self.vae.config.slowness)

    def losses(self, batch: Batch) -> dict[str, Tensor]:
        """Every loss that has a positive weight, and parts of them for the log, by name."""
        return self.objective.losses(batch, self.global_step, self.noise)

    def weigh(self, losses: dict[str, Tensor]) -> Tensor | None:
        """The weighted sum of what `losses` gave, or None where nothing is to be trained."""
        return weigh(losses, self.weights)

    def optimizer(self) -> torch.optim.Optimizer:
        """One Adam with a parameter group for each module."""
        return adam(self.parts, self.learning_rate)

    def configure_optimizers(self) -> OptimizerLRScheduler:
        """The optimiser and, to `anneal`, its schedule.

        Raises:
            ConfigError: it is not known how long the run will be.
        """
        optimizer = self.optimizer()
        if not self.anneal:
            return optimizer
        rounds = self.trainer.max_epochs
        if rounds == 1:  # there is nothing to lower it over
            return optimizer
        if not rounds or rounds < 1:
            raise ConfigError(f"model.anneal needs the length of the run, but trainer.max_epochs is {rounds}")
        schedule = torch.optim.lr_scheduler.LinearLR(optimizer, 1.0, 0.05, rounds - 1)  # one step for each epoch
        return {"optimizer": optimizer, "lr_scheduler": schedule}

    # Evaluation -----------------------------------------------------------------------------------------------------

    def validation_step(self, episodes: Episodes, batch_idx: int) -> None:
        """Adds episodes that were played for evaluation to the metrics."""
        self.returns.update(episodes)
        who = watched(episodes) & episodes.active
        t, _, seat = who.nonzero(as_tuple=True)
        view, time = episodes.observation[who].float(), t / self.max_steps
        goal, legal = episodes.goal[who], episodes.legal[who]
        head = self.predictor.coplayer
        if self.goals in ("declared", "codebook"):
            log_policy = self.predictor.mixture(view, time, seat, legal, goal)
        else:
            log_policy = masked_logits(head(view, time, head.condition(goal, seat)), legal)
        self.predictions.update(log_policy, episodes.action[who], episodes.script_best[who])

    def on_validation_epoch_end(self) -> None:
        """Logs the metrics of all evaluation episodes."""
        for metric in (self.returns, self.predictions):
            self.log_dict(metric.compute())
            metric.reset()
        self.log("step", float(self.env_steps))

    def test_step(self, lap: Lap, batch_idx: int) -> None:
        """Learns from the episodes just played, where the networks are to adapt; after the last lap it forgets it."""
        if lap.batches:
            self._adapter = self._adapter or Adapter(self)
            self._adapter.learn(lap.batches)
        if lap.last and self._adapter is not None:
            self._adapter.forget()
            self._adapter = None

    def predict_step(self, episodes: Episodes, batch_idx: int) -> Episodes:
        """Hands on the episodes to the callback that writes replays."""
        return episodes

    # State ----------------------------------------------------------------------------------------------------------

    @property
    def noise(self) -> torch.Generator:
        """The generator of all noise in the losses, on the module's device; its state is in the checkpoint."""
        if self._noise is None:
            self._noise = torch.Generator(self.device).manual_seed(self.seed)
        return self._noise

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Adds the generator's state and the count of environment steps."""
        check_weights(self.named_parameters())
        checkpoint["noise"] = self.noise.get_state()
        checkpoint["env_steps"] = self.env_steps

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Refuses a checkpoint of another game or another version; restores the generator."""
        check_match(checkpoint["hyper_parameters"], self.hparams, (*GAME_KEYS, *NETWORK_KEYS))
        check_fit(checkpoint["state_dict"], self.state_dict())
        if "noise" in checkpoint:
            self.noise.set_state(checkpoint["noise"].cpu())
            self.trained_seed = checkpoint["hyper_parameters"]["seed"]
            self.env_steps = checkpoint["env_steps"]


def load_agent(path: str, device: torch.device | str = "cpu") -> Agent:
    """Loads an agent, ready to play, from a checkpoint file.

    Raises:
        ConfigError: there is no such file, or it is not a checkpoint of an agent.
    """
    checkpoint = read_checkpoint(path)
    return _restore(checkpoint["hyper_parameters"], checkpoint["state_dict"], device)


def _restore(settings: Mapping[str, Any], weights: Mapping[str, Tensor], device: torch.device | str) -> Agent:
    """An agent of these hyperparameters and weights, ready to play and not to be trained."""
    agent = Agent(**{key: value for key, value in settings.items() if not key.startswith("_")})
    check_fit(weights, agent.state_dict())
    agent.load_state_dict(weights)
    return agent.to(device).eval().requires_grad_(False)
