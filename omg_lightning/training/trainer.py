"""Checks of trainer settings that Lightning accepts silently, or rejects late or unclearly."""

import math
import re
from collections.abc import Callable, Mapping
from typing import Any

from omg_lightning.types import ConfigError


def _at_least(least: int, *others: Any) -> Callable[[Any], bool]:
    """Return a check of a number: at least `least`, or one of `others`."""
    return lambda value: value in others or (isinstance(value, int | float) and least <= value < math.inf)


def _some_devices(value: Any) -> bool:
    """Return whether `value` is not a number, which Lightning checks, or a valid number of processes."""
    return not str(value).lstrip("-").isdigit() or int(value) >= 1 or int(value) == -1


PRECISIONS = ("32-true", "32", 32, "bf16-mixed")
RULES: dict[str, tuple[Callable[[Any], object], str]] = {
    "max_epochs": (_at_least(1, -1), "at least 1, the number of rounds, or -1 for no limit"),
    "min_epochs": (_at_least(0), "at least 0"),
    "max_steps": (_at_least(1, -1), "at least 1, or -1 for no limit"),
    "min_steps": (_at_least(0), "at least 0"),
    "check_val_every_n_epoch": (_at_least(1), "at least 1, the number of rounds between evaluations"),
    "val_check_interval": (lambda value: not isinstance(value, int | float) or value > 0, "above 0"),
    "max_time": (lambda value: not isinstance(value, str) or re.fullmatch(r"\d+(:\d\d){3}", value), "DD:HH:MM:SS"),
    "limit_train_batches": (lambda value: value > 0, "above 0, since 0 trains nothing"),
    "accumulate_grad_batches": (_at_least(1), "at least 1"),
    "gradient_clip_val": (_at_least(0), "at least 0 and finite; 0 turns clipping off"),
    "log_every_n_steps": (_at_least(0), "at least 0"),
    "num_sanity_val_steps": (_at_least(-1), "at least 0, or -1 for all"),
    "num_nodes": (_at_least(1), "at least 1"),
    "devices": (_some_devices, "at least 1, the number of processes on this machine, or -1 for all GPUs"),
    "precision": (lambda value: value in PRECISIONS, "32-true or bf16-mixed: games, players and search need 32 bits"),
    "barebones": (
        lambda value: not value,
        "false: a run needs its callbacks; --trainer.fast_dev_run true is a dry run",
    ),
}


def check_trainer(settings: Mapping[str, Any], val_batches: int = 1) -> None:
    """Raise ConfigError if a setting of the trainer is out of range.

    Args:
        settings: of the trainer by name; null stands for the default.
        val_batches: number of batches in an evaluation.
    """
    share = settings.get("limit_val_batches")
    if isinstance(share, float) and 0 < share * val_batches < 1:
        raise ConfigError(
            f"--trainer.limit_val_batches is {share}, less than one of {val_batches} batches of an evaluation: "
            "give a larger share or a whole number, or lower data.num_envs"
        )
    for name, (fits, expected) in RULES.items():
        value = settings.get(name)
        if value is not None and not fits(value):
            raise ConfigError(f"--trainer.{name} is {value}: expected {expected}")


def check_resume(checkpoint: Mapping[str, Any], path: str, settings: Mapping[str, Any]) -> None:
    """Raise ConfigError if a `fit` that resumes from `checkpoint` has no training left.

    Args:
        checkpoint: see `read_checkpoint`.
        path: of its file.
        settings: of the trainer.
    """
    if not {"loops", "optimizer_states"} <= set(checkpoint):
        raise ConfigError(f"{path} has only weights, so `fit` cannot resume from it: give a last.ckpt")
    rounds = checkpoint["loops"]["fit_loop"]["epoch_progress"]["current"]["processed"]
    for name, done in (("max_epochs", rounds), ("max_steps", checkpoint["global_step"])):
        limit = settings.get(name)
        if limit not in (None, -1) and done >= limit:
            raise ConfigError(
                f"no training is left: {path} has {done} of --trainer.{name} {limit}; set a larger one, or "
                "evaluate the checkpoint with `validate`"
            )
