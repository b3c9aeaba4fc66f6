"""Write a trained agent as weights (safetensors) and a description (JSON), without pickle.

    python -m omg_lightning export lightning_logs/version_3 --out my_agent
    python -c "from omg_lightning import load_agent; print(load_agent('my_agent').spec)"

AGENT is a run folder of `fit` (export uses its last.ckpt) or a checkpoint file. The new folder holds `agent.json`
(settings, the game, how it was made, returns and times), `weights.safetensors` and, for a run folder, `config.yaml`,
with which `fit` trains the agent again. Loading the folder runs no code from it: it only imports the classes that
`agent.json` names, and only classes of agents.
"""

import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from omg_lightning import __version__
from omg_lightning.commands.parser import CommandParser
from omg_lightning.files import replace_text, unwritable
from omg_lightning.sources import WEIGHTS, ZOO_FOLDER, find_agent
from omg_lightning.training import read_agent, restore, write_agent
from omg_lightning.training.folders import COMMIT, CONFIG
from omg_lightning.types import ConfigError

KEPT = ("return/", "goal/action_share", "buffer/env_steps", "time/fit_s")  # metrics copied from metrics.json


def main(args: Sequence[str]) -> None:
    """Run the command.

    Raises:
        ConfigError: an argument is invalid.
    """
    parser = CommandParser("export", __doc__)
    parser.add_argument("agent", metavar="AGENT", help="a run folder of fit, or a checkpoint file")
    place = parser.add_mutually_exclusive_group(required=True)
    place.add_argument("--out", help="folder to create")
    place.add_argument("--zoo", metavar="NAME", help="write to the zoo of this checkout instead, as zoo:NAME")
    parser.add_argument("--command", help="command that trained it, to record; default: fit with the run's config.yaml")
    parser.add_argument("--commit", help="commit of the training, to record; default: as the run recorded it")
    parser.add_argument(
        "--small", action="store_true", help="round matrices to 8 bits: a quarter of the space, nearly equal play"
    )
    own = parser.parse_args(args)
    if own.zoo is not None and not own.zoo.replace("_", "").replace("-", "").isalnum():
        raise ConfigError(f"--zoo is {own.zoo!r}: expected letters, digits, _ and -")
    folder = ZOO_FOLDER / own.zoo if own.out is None else Path(own.out)
    try:
        size = export(own.agent, folder, own.command, own.commit, own.small)
    except OSError as error:
        raise unwritable(folder, error) from error
    print(f"written to {folder} ({size / 2**20:.2f} MiB); load it with load_agent({_name(own.zoo, folder)!r})")


def export(
    source: str, folder: Path, command: str | None = None, commit: str | None = None, small: bool = False
) -> int:
    """Write the agent at `source` into a new folder; return the size of its weights in bytes.

    Args:
        source: see `find_agent`.
        folder: folder to create.
        command: command that trained the agent, to record.
        commit: commit of the training, to record.
        small: round matrices to 8 bits, see `pack`.

    Raises:
        ConfigError: the agent does not exist or does not fit this version, or the folder exists.
        OSError: the folder cannot be written.
    """
    stored = read_agent(source)
    restore(stored)  # do not export an agent that cannot be loaded
    path = find_agent(source)
    config = _config((path if path.is_dir() else path.parent) / CONFIG)
    made = dict(stored.made) or _made(stored.settings, path.parent, config)
    made |= {name: value for name, value in (("command", command), ("commit", commit)) if value is not None}
    write_agent(stored._replace(made=made), folder, small)
    if config is not None:
        replace_text(folder / CONFIG, yaml.safe_dump(config, sort_keys=False))
    return (folder / WEIGHTS).stat().st_size


def _made(settings: Mapping[str, Any], run: Path, config: dict[str, Any] | None) -> dict[str, Any]:
    """Return how an agent was made, as far as its run folder records it."""
    made: dict[str, Any] = {"seed": settings.get("seed"), "version": __version__}
    if config is None:
        return made
    made["commit"] = commit_in(run)
    made["command"] = f"python -m omg_lightning fit --config {CONFIG}"
    game = config["data"]["game"]
    options = {name: value for name, value in (game.get("init_args") or {}).items() if value is not None}
    made["game"] = f"{game['class_path'].rpartition('.')[2]} {options.get('preset', '')}".strip()
    made["seats"] = config["data"]["seats"]
    metrics = run / "metrics.json"
    if metrics.is_file():
        numbers = json.loads(metrics.read_text())
        made["metrics"] = {name: value for name, value in numbers.items() if name.startswith(KEPT)}
    return made


def _config(path: Path) -> dict[str, Any] | None:
    """Return the configuration of a run without machine-specific settings; None if there is none."""
    if not path.is_file():
        return None
    config = yaml.safe_load(path.read_text())
    config["trainer"]["default_root_dir"] = config["ckpt_path"] = None
    return config


def commit_in(run: Path) -> str | None:
    """Return the commit that a run folder records; None for a run of an installation, or of an earlier version."""
    found = re.search(f"^{COMMIT}(\\S+)$", (run / CONFIG).read_text(), re.MULTILINE)
    return found[1] if found else None


def _name(zoo: str | None, folder: Path) -> str:
    return str(folder) if zoo is None else f"zoo:{zoo}"
