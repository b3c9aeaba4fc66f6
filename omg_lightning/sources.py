"""Where a trained agent is stored: a checkpoint file, a run folder, an exported folder, or the zoo."""

import os
from pathlib import Path

from omg_lightning.types import ConfigError

ZOO = "zoo:"
ZOO_FOLDER = Path(__file__).parent / "zoo"  # exported agents, which come with the package
DESCRIPTION, WEIGHTS = "agent.json", "weights.safetensors"  # the files of an exported folder
LAST = "last.ckpt"  # the checkpoint of a run folder that its metrics.json describes


def find_agent(source: str | os.PathLike[str]) -> Path:
    """Return the checkpoint file or the exported folder of a source.

    Args:
        source: a checkpoint file, a run folder (for its `last.ckpt`), an exported folder, or `zoo:NAME`.

    Raises:
        ConfigError: nothing of this name exists, or it holds no agent.
    """
    text = os.fspath(source)
    if text.startswith(ZOO):
        name = text.removeprefix(ZOO)
        if name not in zoo_names():
            raise ConfigError(f"the zoo has no agent {name!r}: expected one of {', '.join(zoo_names()) or 'none'}")
        return ZOO_FOLDER / name
    path = Path(text)
    if path.is_dir():
        if (path / DESCRIPTION).is_file():
            return path
        if (path / LAST).is_file():
            return path / LAST
        raise ConfigError(
            f"the folder {path} holds no agent: give a run folder of `fit`, with {LAST}, or a folder of `export`, "
            f"with {DESCRIPTION}"
        )
    if not path.is_file():
        raise ConfigError(
            f"no checkpoint at {path}: give the path of a .ckpt file that `fit` wrote, its run folder, a folder that "
            "`export` wrote, or zoo:NAME"
        )
    return path


def zoo_names() -> list[str]:
    """Return the names of the agents in the zoo, in order."""
    return sorted(path.parent.name for path in ZOO_FOLDER.glob(f"*/{DESCRIPTION}"))
