"""The agent: composes goal VAE, subgoal predictor and policy; one optimiser, one training step; it logs."""

from collections.abc import Mapping
from dataclasses import asdict, is_dataclass
from typing import Any

import torch
from lightning import LightningModule
from lightning.pytorch.utilities.types import OptimizerLRScheduler
from torch import Tensor

from omg_lightning.goals import (
    BeliefConfig,
    Codebook,
    CodebookGoals,
    DeclaredGoals,
    GoalKind,
    NoGoals,
    OracleGoals,
    Subgoals,
    endings,
    event_labels,
    own_frame,
    rewarded,
    shift,
)
from omg_lightning.losses import masked_logits
from omg_lightning.metrics import PredictionMetrics, ReturnMetrics
from omg_lightning.modules.adapter import Adapter
from omg_lightning.modules.checks import GAME_KEYS, NETWORK_KEYS, check_match, check_positive, settings
from omg_lightning.modules.goal_vae import GoalVAE, draw_gaussian
from omg_lightning.modules.hindsight import Hindsight, declared, explicit, latent, watched
from omg_lightning.modules.policy import PolicyModule
from omg_lightning.modules.samples import Samples, flatten, futures
from omg_lightning.modules.settings import LossWeights, SelectorConfig, VAEConfig
from omg_lightning.modules.subgoal_predictor import Inference, SubgoalPredictor
from omg_lightning.networks import TrunkKind
from omg_lightning.runs import read_checkpoint
from omg_lightning.types import (
    NO_GOAL,
    Batch,
    ConfigError,
    Episodes,
    GoalSource,
    Lap,
    Learner,
    PlannerConfig,
    ego_order,
)


class Agent(LightningModule):
    """Infers co-players' goals, predicts their actions, plans a best response, and learns all of it.

    Sizes (`game` to `num_goals`) are the data module's; the command line fills them in.

    Args:
        goals: where goals come from: `none`, `declared`, `subgoal`, `codebook` or `oracle`.
        goal_dim: D, size of a subgoal code.
        num_codes: G, the largest number of learned discrete goals of `codebook`.
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
        trunk: `mlp`, `centred` or `conv`, see `Trunk`.
        roles: tell the networks which seat they stand for, so that learners in different seats may settle on roles of
            their own; without it all seats are alike, whoever sits there.
        learning_rate: of Adam; 5e-4 as published.
        anneal: lower the learning rate linearly, to a twentieth in the last of `trainer.max_epochs`.
        seed: of the noise in the losses.
        game: name of the game; a checkpoint of another game is refused.
        observation_shape: `(C, h, w)`.
        num_players: P.
        num_actions: A.
        max_steps: the longest episode.
        num_goals: G, how many goals the game declares.

    Raises:
        ConfigError: a setting is out of range, or the game declares no goals and `goals` needs them.
    """

    def __init__(
        self,
        goals: GoalKind = "subgoal",
        goal_dim: int = 16,
        num_codes: int = 8,
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
        roles: bool = False,
        learning_rate: float = 5e-4,
        anneal: bool = False,
        seed: int = 0,
        game: str = "",
        observation_shape: tuple[int, int, int] = (0, 0, 0),
        num_players: int = 0,
        num_actions: int = 0,
        max_steps: int = 0,
        num_goals: int = 0,
    ) -> None:
        super().__init__()
        check_positive(
            locals(), ("goal_dim", "trees", "simulations", "hidden", "num_players", "num_actions", "max_steps")
        )
        planner, selector = settings(PlannerConfig, planner), settings(SelectorConfig, selector)
        belief, losses = settings(BeliefConfig, belief), settings(LossWeights, losses)
        vae = settings(VAEConfig, vae)
        self.save_hyperparameters()
        for name, value in self.hparams.items():  # plain values: a checkpoint must load without running code
            self.hparams[name] = asdict(value) if is_dataclass(value) and not isinstance(value, type) else value
        self.goals, self.trees, self.simulations = goals, trees, simulations
        self.planner, self.selector, self.belief, self.weights = planner, selector, belief, losses
        self.vae_online, self.learning_rate, self.max_steps = vae_online, learning_rate, max_steps
        self.anneal, self.coplayer_online = anneal, coplayer_online
        self.offline_value, self.vae_checkpoint = offline_value, vae_checkpoint
        if vae_checkpoint and goals != "subgoal":
            raise ConfigError(f"vae_checkpoint is given, but goals is {goals!r}: only subgoal has a state VAE")
        self.num_goals, self.num_players, self.seed = num_goals, num_players, seed
        if goals in ("declared", "oracle") and not num_goals:
            raise ConfigError(f"goals is {goals!r}, but {game} declares no goals: use none or subgoal")
        sizes = {"none": 0, "declared": num_goals, "oracle": num_goals, "subgoal": goal_dim, "codebook": num_codes}
        size = sizes[goals]
        planes, height, width = observation_shape
        shape, latents = (planes, height, width), goals == "subgoal"
        self.vae = GoalVAE(shape, num_players, num_actions, goal_dim, hidden, trunk, vae) if latents else None
        around = own_frame(torch.zeros(1, *shape), num_players).shape[-1]
        self.codebook = Codebook(num_codes, around) if goals == "codebook" else None
        self.predictor = SubgoalPredictor(
            shape, num_players, num_actions, size, latents, hidden, trunk, selector.alpha, roles
        )
        self.policy = PolicyModule(shape, num_players, num_actions, size, hidden, trunk, roles)
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
            self._load_vae(self.vae_checkpoint)

    def _load_vae(self, path: str) -> None:
        """Starts from the state VAE of another run; an actor that it lacks stays untrained.

        Raises:
            ConfigError: there is no such checkpoint, it has no VAE, or it is of another game or size.
        """
        checkpoint = read_checkpoint(path)
        saved = checkpoint["hyper_parameters"]
        check_match(saved, self.hparams, (*GAME_KEYS, *NETWORK_KEYS))
        assert self.vae is not None
        weights = {key[4:]: value for key, value in checkpoint["state_dict"].items() if key.startswith("vae.")}
        own = self.vae.state_dict()
        if any(own[key].shape != value.shape for key, value in weights.items() if key in own):
            raise ConfigError(f"the VAE of {path} predicts other actions: set model.vae.next_steps as it was there")
        self.vae.load_state_dict({**own, **{key: value for key, value in weights.items() if key in own}})

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
        )

    def source(self) -> GoalSource:
        """The goal source that `goals` names."""
        if self.goals == "declared":
            return DeclaredGoals(self.num_goals, self.predictor.likelihood, self.belief)
        if self.goals == "oracle":
            return OracleGoals(self.num_goals)
        if self.codebook is not None:
            book, likelihood = self.codebook, self.predictor.likelihood
            return CodebookGoals(len(book.codes), likelihood, self.belief, self.encode, book.count > 0)
        if self.goals == "subgoal":
            predictor = self.predictor
            size = int(self.hparams["goal_dim"])
            return Subgoals(size, predictor.start, predictor.infer, predictor.advance)
        return NoGoals()

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

    def weigh(self, losses: dict[str, Tensor]) -> Tensor | None:
        """The weighted sum of what `losses` gave, or None where nothing is to be trained.

        Raises:
            ConfigError: it is not finite.
        """
        due = [weight * losses[name] for name, weight in asdict(self.weights).items() if name in losses]
        if not due:
            return None
        loss = torch.stack(due).sum()
        if not torch.isfinite(loss):
            values = ", ".join(f"{name} {float(value):.3g}" for name, value in losses.items())
            raise ConfigError(f"a loss is not finite ({values}): lower model.learning_rate")
        return loss

    def losses(self, batch: Batch) -> dict[str, Tensor]:
        """Every loss that has a positive weight, and parts of them for the log, by name."""
        episodes, samples = batch.episodes, flatten(batch.episodes, self.max_steps)
        losses: dict[str, Tensor] = {}
        if self.vae is not None and self.weights.vae and (batch.offline or self.vae_online):
            losses |= self._vae_loss(self.vae, episodes, samples)
        if not any(weight for name, weight in asdict(self.weights).items() if name != "vae"):
            return losses
        hindsight, parts = self._hindsight(batch, samples)
        losses |= parts
        share = self.mixture(batch.env_steps)
        # The goals of those who have left are 0, here as in the search.
        present = torch.where(episodes.active[..., None], hindsight.inferred, 0.0)
        hindsight = hindsight._replace(inferred=present)
        chosen = torch.rand(hindsight.known.shape, generator=self.noise, device=self.device) < share
        known = hindsight.known & episodes.active
        mixed = torch.where((chosen & known)[..., None], hindsight.label, hindsight.inferred)
        if self.weights.coplayer and (batch.offline or self.coplayer_online):
            # Explicit beliefs need the likelihood of an action under each pure goal; latent goals are met as inferred.
            goal = mixed if self.goals == "subgoal" else hindsight.label
            losses |= self._coplayer_loss(episodes, goal, known)
        if batch.offline and self.offline_value and self.weights.value:
            losses |= self._offline_value_loss(episodes, mixed)
        if not batch.offline and (self.weights.policy or self.weights.value):
            losses |= self._policy_loss(episodes, mixed)
        return losses

    def _vae_loss(self, vae: GoalVAE, episodes: Episodes, samples: Samples) -> dict[str, Tensor]:
        """The losses of the state VAE, with the share of the KL that is due by now."""
        config, later = vae.config, None
        if config.acts:
            later = futures(episodes, samples, config.horizon, config.next_steps, self.noise)
        warmth = min(1.0, self.global_step / config.kl_warmup) if config.kl_warmup else 1.0
        return vae.loss(samples, self.noise, later, warmth)

    def mixture(self, env_steps: int) -> float:
        """Probability of training on the selected goal, falling linearly to 0 (OMG: 0.5 to 0 over 50,000 steps)."""
        return self.selector.mixture * max(0.0, 1 - env_steps / self.selector.mixture_steps)

    def _hindsight(self, batch: Batch, samples: Samples) -> tuple[Hindsight, dict[str, Tensor]]:
        """The goals of all seats, and the losses of what infers them."""
        episodes = batch.episodes
        if self.goals == "declared":
            return declared(episodes, self.noise), {}
        if self.goals == "oracle":
            return explicit(episodes, episodes.truth, self.noise), {}
        if self.codebook is not None:
            return explicit(episodes, self._codes(episodes, samples), self.noise), {}
        if self.vae is None:
            empty = episodes.goal[..., :0]
            return Hindsight(empty, empty, episodes.active), {}
        inference = self.predictor.infer_episodes(episodes, samples)
        hindsight, label = self._subgoals(batch, samples, inference)
        if not self.weights.subgoal:
            return hindsight, {}
        who = watched(episodes)[samples.mask]  # nobody asks for the subgoals of a seat that is the only learner
        part = samples._replace(observation=samples.observation[who], time=samples.time[who])
        mean, log_var = label
        asked = Inference(*(field[who] for field in inference))
        return hindsight, self.predictor.subgoal_loss(asked, part, (mean[who], log_var[who]), self.noise)

    @torch.no_grad()
    def _codes(self, episodes: Episodes, samples: Samples) -> Tensor:
        """Moves the codebook by what lies around seats at events and ends; each seat's next code, `[T, B, P]`."""
        assert self.codebook is not None
        event = rewarded(episodes)
        ends = endings(event, episodes.active)
        self.codebook.update(own_frame(episodes.observation[ends].float(), self.num_players), self.noise)
        codes = event_labels(samples.spread(self.encode(samples.observation)), event, episodes.active)
        return torch.where(episodes.active, codes, NO_GOAL)

    @torch.no_grad()  # the codes are targets, and nothing leaks from the value head through the selector
    def _subgoals(
        self, batch: Batch, samples: Samples, inference: Inference
    ) -> tuple[Hindsight, tuple[Tensor, Tensor]]:
        """Subgoals in hindsight: goals, and mean and log variance `[n, D]` of the selected codes."""
        assert self.vae is not None
        mean, log_var = (samples.spread(part) for part in self.vae.codes(samples.observation))
        inferred = samples.spread(draw_gaussian(inference.mean, inference.log_var, self.noise))
        rule = self.selector
        hindsight, ahead = latent(
            batch.episodes,
            mean,
            inferred,
            None if batch.offline else self.values,
            rule.rule,
            rule.horizon,
            self.max_steps,
            self.noise,
            rule.offset,
            rule.temperature,
        )
        return hindsight, (hindsight.label[samples.mask], shift(log_var, ahead)[samples.mask])

    def values(self, observation: Tensor, time: Tensor, goals: Tensor, seat: Tensor) -> Tensor:
        """Values `[H, m]` of views from seats `[m]` under goals `[H, m, P-1, D]`."""
        conditions = self.policy.condition(goals.flatten(0, 1), seat.repeat(len(goals)))
        conditions = conditions.unflatten(0, goals.shape[:2])
        return self.policy.values(observation, time, conditions)

    def _coplayer_loss(self, episodes: Episodes, goal: Tensor, known: Tensor) -> dict[str, Tensor]:
        """Trains the action head on those whom a learner has to predict."""
        who = watched(episodes) & known
        t, _, seat = who.nonzero(as_tuple=True)
        view, time = episodes.observation[who].float(), t / self.max_steps
        return self.predictor.coplayer_loss(view, time, goal[who], seat, episodes.legal[who], episodes.action[who])

    def _offline_value_loss(self, episodes: Episodes, goal: Tensor) -> dict[str, Tensor]:
        """Trains the value alone, on what the scripts earned: there is no root policy to learn from yet."""
        t, b, ego = episodes.active.nonzero(as_tuple=True)
        others = ego_order(goal[t, b], ego)[:, 1:]
        view = episodes.observation[t, b, ego].float()
        return self.policy.value_loss(view, t / self.max_steps, others, ego, episodes.value[t, b, ego])

    def _policy_loss(self, episodes: Episodes, goal: Tensor) -> dict[str, Tensor]:
        """Trains the policy on every planned step."""
        t, b, ego = episodes.planned.nonzero(as_tuple=True)
        others = ego_order(goal[t, b], ego)[:, 1:]
        view, where = episodes.observation[t, b, ego].float(), (t, b, ego)
        return self.policy.loss(
            view, t / self.max_steps, others, ego, episodes.legal[where], episodes.policy[where], episodes.value[where]
        )

    def optimizer(self) -> torch.optim.Optimizer:
        """One Adam with a parameter group for each module: `global_step` then counts batches."""
        parts = {"vae": self.vae, "predictor": self.predictor, "policy": self.policy}
        groups: list[dict[str, Any]] = [
            {"params": [weight for weight in part.parameters() if weight.requires_grad], "name": name}
            for name, part in parts.items()
            if part is not None
        ]
        return torch.optim.Adam(groups, lr=self.learning_rate)

    def configure_optimizers(self) -> OptimizerLRScheduler:
        """The optimiser and, to `anneal`, its schedule.

        Raises:
            ConfigError: it is not known how long the run will be.
        """
        optimizer = self.optimizer()
        if not self.anneal:
            return optimizer
        rounds = self.trainer.max_epochs
        if not rounds or rounds < 2:
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
        broken = [name for name, weight in self.named_parameters() if not weight.isfinite().all()]
        if broken:
            raise ConfigError(f"weights are not finite ({broken[0]}), so they are not saved: lower model.learning_rate")
        checkpoint["noise"] = self.noise.get_state()
        checkpoint["env_steps"] = self.env_steps

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Refuses another game's checkpoint; restores the generator."""
        check_match(checkpoint["hyper_parameters"], self.hparams, (*GAME_KEYS, *NETWORK_KEYS))
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
    agent.load_state_dict(weights)
    return agent.to(device).eval().requires_grad_(False)
