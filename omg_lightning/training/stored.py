"""Trained agents as files: read from a checkpoint or an exported folder, and exported."""

import hashlib
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from omg_lightning.files import replace_text, replacing
from omg_lightning.sources import DESCRIPTION, WEIGHTS, find_agent
from omg_lightning.training.checkpoint import read_checkpoint
from omg_lightning.training.packed import pack, unpack
from omg_lightning.types import ConfigError

FORMAT = 2  # of an exported folder, 1 without packed weights; a reader refuses higher numbers


class StoredAgent(NamedTuple):
    """A stored agent."""

    settings: Mapping[str, Any]  # hyperparameters of `Agent`, plain values; `spec` describes the game
    weights: Mapping[str, Tensor]
    made: Mapping[str, Any]  # how the agent was made; empty for a checkpoint


def read_agent(source: str | os.PathLike[str]) -> StoredAgent:
    """Read an agent, without running code from its files.

    Args:
        source: see `find_agent`.

    Raises:
        ConfigError: the agent does not exist, or its files are damaged or of another kind.
    """
    path = find_agent(source)
    if path.is_dir():
        return _read_folder(path)
    checkpoint = read_checkpoint(path)
    return StoredAgent(checkpoint["hyper_parameters"], checkpoint["state_dict"], {})


def write_agent(stored: StoredAgent, folder: Path, small: bool = False) -> None:
    """Write an agent as `agent.json` and `weights.safetensors` into an empty or a new folder.

    Args:
        stored: the agent.
        folder: to create.
        small: round matrices to 8 bits, see `pack`.

    Raises:
        ConfigError: the folder already has files, or a setting is not a plain value.
        OSError: the folder cannot be written.
    """
    from safetensors.torch import save

    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise ConfigError(f"{folder} already exists: choose another folder with --out, or remove it")
    weights = save(
        {
            name: value.detach().cpu().clone(memory_format=torch.contiguous_format)
            for name, value in (pack(stored.weights) if small else stored.weights).items()
        }
    )
    about = {
        "format": FORMAT if small else 1,
        "made": dict(stored.made),
        "settings": dict(stored.settings),
        "sha256": _digest(weights),
    }
    try:
        text = json.dumps(about, indent=1)
    except TypeError as error:
        raise ConfigError(f"a setting of the agent cannot be written as JSON ({error}): use plain values") from error
    with replacing(folder / WEIGHTS) as file:
        file.write(weights)
    replace_text(folder / DESCRIPTION, text + "\n")  # last: a folder without it holds no agent


def _read_folder(folder: Path) -> StoredAgent:
    """Read a folder that `write_agent` wrote."""
    about = read_description(folder)
    file = folder / WEIGHTS
    if not file.is_file():
        raise ConfigError(f"{folder} has no {WEIGHTS}: copy the whole folder that `export` wrote")
    from safetensors import SafetensorError
    from safetensors.torch import load

    data = file.read_bytes()
    if _digest(data) != about["sha256"]:
        raise ConfigError(f"{file} is damaged, or of another agent: copy the whole folder of `export` again")
    try:
        weights = unpack(load(data))
    except (SafetensorError, RuntimeError) as error:
        raise ConfigError(f"{file} has no valid weights ({error}): export the agent again") from error
    return StoredAgent(about["settings"], weights, about["made"])


def read_description(folder: Path) -> dict[str, Any]:
    """Return the description of an exported agent: `settings`, `made`, `sha256`.

    Raises:
        ConfigError: the file is damaged, of a newer version, or not a description.
    """
    file = folder / DESCRIPTION
    try:
        about = json.loads(file.read_text())
    except (OSError, ValueError) as error:
        raise ConfigError(
            f"{file} is not the description of an agent, or is damaged: export the agent again"
        ) from error
    form = about.get("format") if isinstance(about, dict) else None
    if isinstance(form, int) and form > FORMAT:
        raise ConfigError(f"{file} has format {form}, but this version reads up to {FORMAT}: update omg_lightning")
    kinds = {"settings": dict, "made": dict, "sha256": str}
    wrong = form is None or any(not isinstance(about.get(name), kind) for name, kind in kinds.items())
    if wrong or not isinstance(about["settings"].get("spec"), dict):
        raise ConfigError(f"{file} is JSON, but not the description of an agent: give a folder that `export` wrote")
    return about


def _digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()
