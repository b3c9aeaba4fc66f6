"""List the trained agents that come with the package.

    python -m omg_lightning zoo
    python -c "from omg_lightning import load_agent; print(load_agent('zoo:base').spec)"

The return is the mean team return of the evaluation, with its 95% interval over episodes. `fit` finds the shipped
configurations by their names, as they are listed. You can use `zoo:NAME` instead of the path of a checkpoint: in
`load_agent`, `--data.seats`, `--data.partners` and `crossplay`.
"""

from collections.abc import Sequence
from typing import Any

from omg_lightning.commands.parser import CommandParser
from omg_lightning.evaluation import align
from omg_lightning.sources import WEIGHTS, ZOO, ZOO_FOLDER, zoo_names
from omg_lightning.training.stored import read_description

FIT = "python -m omg_lightning fit"
HEAD = ["name", "game", "opponent", "algorithm", "team return"]
MADE = ["name", "seed", "commit", f"trained by {FIT} ..."]


def main(args: Sequence[str]) -> None:
    """Run the command.

    Raises:
        ConfigError: an argument is invalid.
    """
    CommandParser("zoo", __doc__).parse_args(args)
    agents, made_by, size = [HEAD], [MADE], 0
    for name in zoo_names():
        folder = ZOO_FOLDER / name
        about = read_description(folder)
        settings, made = about["settings"], about["made"]
        parts = [settings[part]["class_path"].rpartition(".")[2] for part in ("opponent", "algorithm")]
        size += (folder / WEIGHTS).stat().st_size
        agents.append([ZOO + name, made.get("game", settings["spec"]["name"]), *parts, _return(made)])
        options = str(made.get("command", "-")).removeprefix(f"{FIT} ").replace("--config configs/", "--config ")
        made_by.append([ZOO + name, str(made.get("seed", "-")), str(made.get("commit") or "-")[:7], options])
    print(f"{align(agents, True)}\n\n{align(made_by, True)}\n\n{len(agents) - 1} agents, {size / 2**20:.1f} MiB")


def _return(made: dict[str, Any]) -> str:
    """Return the mean team return with its interval."""
    numbers = made.get("metrics", {})
    mean, low, high = (numbers.get(f"return/team_{end}") for end in ("mean", "low", "high"))
    if mean is None:
        return "-"
    return f"{mean:.2f}" if low is None or high is None else f"{mean:.2f} [{low:.2f}, {high:.2f}]"
