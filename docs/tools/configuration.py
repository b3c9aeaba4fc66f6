"""The page Configuration, written from the argument parser: `python docs/tools/configuration.py` prints it."""

import argparse
import importlib
import itertools
import re
from collections.abc import Iterable
from inspect import signature
from typing import Any, NoReturn

from jsonargparse import ActionConfigFile, ArgumentParser
from jsonargparse._typehints import ActionTypeHint  # the only kind of action that has a value
from lightning.pytorch.cli import LightningArgumentParser

from omg_lightning.choices import CHOICES, known_names
from omg_lightning.cli import CLI, run
from omg_lightning.config_files import shipped_configs

INTRODUCTION = """# Configuration

Every key of `python -m omg_lightning fit`, with its type and its default. The build of this site writes this page from
the argument parser. `validate`, `test` and `predict` have the same keys below `model`, `data` and `trainer`.

A key is set on the command line, `--data.num_envs 32`, or in a YAML file that is given with `--config FILE`:

```yaml
data:
  num_envs: 32
```

- Files and keys are read from left to right, and the last value of a key counts:
  `--config base.yaml --config mine.yaml --data.num_envs 32`.
- A part is chosen by its class name and has its own keys below it:
  `--model.opponent Codebook --model.opponent.num_codes 4`. In a file it has a `class_path` and `init_args`. A class of
  yours is named by its dotted path ([Extend](extend.md)).
- `--print_config` prints the complete configuration and exits. Every run writes it to its `config.yaml`.
- The shipped files (`base.yaml`, `smoke.yaml`, ...) are part of the package. `--config base.yaml`, or
  `--config configs/base.yaml`, reads the shipped file if the current folder has no such file.
- The defaults below are those of the classes. `configs/base.yaml` sets many of them to other values.
"""
LIGHTNING = "https://lightning.ai/docs/pytorch/stable/common/trainer.html"
SECTIONS = {
    "data": "The game, the players in its seats, rollouts, the buffer and evaluations.",
    "model": "The components of the agent, and its training.",
    "seat_schedule": "Line-ups that change during training.",
    "tree_count": "Numbers of search trees that change during training.",
    "refresh": "How long episodes stay in the buffer.",
    "trainer": f"Settings of Lightning's `Trainer`, as in [its documentation]({LIGHTNING}).",
}


class _Found(Exception):  # noqa: N818, it carries the parser out of LightningCLI
    """The parser of `fit`."""


class _ParserOnly(CLI):
    """Stops when the parser is complete."""

    def parse_arguments(self, parser: LightningArgumentParser, args: Any) -> NoReturn:
        """Raise the parser of `fit`."""
        raise _Found(self._subcommand_parsers["fit"])


def fit_parser() -> ArgumentParser:
    """Return the parser of `python -m omg_lightning fit`."""
    try:
        run(["fit"], _ParserOnly)
    except _Found as found:
        return found.args[0]
    raise RuntimeError("LightningCLI parsed no arguments")


def page() -> str:
    """Return the page as Markdown."""
    groups: dict[str, list[argparse.Action]] = {}
    for action in settings(fit_parser()):
        groups.setdefault(action.dest.rpartition(".")[0].partition(".")[0], []).append(action)
    lines = [INTRODUCTION, *_shipped(), "## The command", *_table(groups.pop(""))]
    for name in sorted(groups, key=lambda group: [*SECTIONS, group].index(group)):
        lines += [f"## {name}", "", SECTIONS.get(name, ""), *_table(groups[name])]
        for key in CHOICES:
            if key.startswith(f"{name}."):
                for choice in known_names(key):
                    lines += _choice(key, choice)
    return "\n".join(lines) + "\n"


def settings(parser: ArgumentParser) -> Iterable[argparse.Action]:
    """Yield the actions of a parser that set a value; help, groups and linked values do not."""
    return (action for action in parser._actions if isinstance(action, ActionTypeHint | ActionConfigFile))


def _shipped() -> list[str]:
    """Return the lines about the shipped files: their names, and the sentences at their top."""
    lines = ["## Shipped files", "", "| file | what it is |", "|---|---|"]
    for name, path in shipped_configs().items():
        comment = itertools.takewhile(lambda line: line.startswith("# "), path.read_text(encoding="utf-8").splitlines())
        words = " ".join(line.removeprefix("# ") for line in comment if not line.startswith("#   "))
        lines.append(f"| `{name}` | {words.replace('|', chr(92) + '|')} |")
    return [*lines, ""]


def _choice(key: str, name: str) -> list[str]:
    """Return the lines about one class that a key can name."""
    packages = [importlib.import_module(base.__module__.rpartition(".")[0]) for base in CHOICES[key].bases]
    kind = next(getattr(package, name) for package in packages if hasattr(package, name))
    parser = ArgumentParser(exit_on_error=False)
    parser.add_class_arguments(kind, key, skip=set(list(signature(kind).parameters)[: CHOICES[key].given]))
    summary = (kind.__doc__ or "").split("\n\n")[0]
    own = list(settings(parser))
    return [f"### {key} {name}", "", " ".join(summary.split()), *(_table(own) if own else ["", "No settings.", ""])]


def _table(actions: Iterable[argparse.Action]) -> list[str]:
    """Return the lines of a Markdown table."""
    lines = ["", "| key | type | default | meaning |", "|---|---|---|---|"]
    for action in actions:
        cells = f"`--{action.dest}`", _type(action), _default(action.default), _sentence(action.help or "")
        lines.append(f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in cells)} |")
    return [*lines, ""]


def _type(action: argparse.Action) -> str:
    """Return the type of a value, in few words."""
    if action.dest in CHOICES:
        return "a class"
    kind = getattr(action, "_typehint", "path")
    text = kind.__name__ if isinstance(kind, type) else str(kind)
    text = re.sub(r"\b(?:[a-z_]+\.)+(?=\w)", "", text)  # modules
    text = re.sub(r"Optional\[(.*)\]$", r"\1, null", text)
    text = re.sub(r"^Union\[(.*)\]$", r"\1", text)
    return f"`{text.replace('NoneType', 'null').replace('None', 'null')}`"


def _default(value: Any) -> str:
    """Return a default as it is written in YAML."""
    if isinstance(value, dict) and "class_path" in value:
        return f"`{value['class_path'].rpartition('.')[2]}`"
    if value is None or value is argparse.SUPPRESS:
        return ""
    return f"`{str(value).lower() if isinstance(value, bool) else value}`"


def _sentence(text: str) -> str:
    """Return a help text as one line of Markdown."""
    text = re.sub(r":\w+:`~?([^`<]*?)(?: <[^>]*>)?`", r"`\1`", " ".join(text.split())).replace("``", "`")
    return re.sub(r"\s*Default: `[^`]*`\.?$", "", text)


if __name__ == "__main__":
    print(page(), end="")
