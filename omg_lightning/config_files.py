"""Configuration files: location of the shipped ones, and checks of a file before it is parsed."""

import sys
from collections.abc import Collection, Sequence
from pathlib import Path

import yaml

from omg_lightning.types import ConfigError

PACKAGE = Path(__file__).parent
OPTIONS = ("-c", "--config")


def shipped(path: str | Path) -> Path | None:
    """Return the shipped file of this relative path, such as `configs/base.yaml`; None if there is none."""
    roots = PACKAGE, PACKAGE.parent  # in a wheel, in a checkout
    return next((root / path for root in roots if (root / path).is_file()), None)


def shipped_configs() -> dict[str, Path]:
    """Return the configurations of this project by file name."""
    base = shipped("configs/base.yaml")
    return {} if base is None else {path.name: path for path in sorted(base.parent.glob("*.yaml"))}


def find_shipped(words: Sequence[str]) -> list[str]:
    """Replace `--config NAME.yaml` by the shipped file of that name if the current folder has no such file.

    `configs/NAME.yaml` counts as `NAME.yaml`, so the commands of the documentation work outside of a checkout. A
    line on stderr names the file.
    """
    found = list(words)
    for i, word in enumerate(found):
        option, equals, value = word.partition("=")
        if option in OPTIONS and equals:
            found[i] = f"{option}={_shipped(value)}"
        elif i and found[i - 1] in OPTIONS:
            found[i] = _shipped(word)
    return found


def _shipped(value: str) -> str:
    """Return the path of the shipped file named by `value`, or `value` itself."""
    given = Path(value)
    path = shipped(Path("configs") / given.name)
    if path is None or given.parent not in (Path(), Path("configs")) or given.exists():
        return value
    print(f"--config {value} is {path}", file=sys.stderr)
    return str(path)


def check_config(content: str, name: str, sections: Collection[str]) -> None:
    """Raise ConfigError unless `content` is YAML whose sections hold settings and whose keys are unique.

    Args:
        content: text of the file.
        name: name of the file, for messages.
        sections: the keys whose values are groups of settings, such as `model` and `data.training`.
    """
    try:
        root = yaml.compose(content, Loader=yaml.SafeLoader)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = "" if mark is None else f", line {mark.line + 1}"
        reason = getattr(error, "problem", None) or "it has control characters"
        raise ConfigError(f"{name}{where} is not valid YAML ({reason}): correct it, or give a .yaml file") from error
    if root is None:  # an empty file sets nothing
        return
    if not isinstance(root, yaml.MappingNode):
        raise ConfigError(f"{name} has no settings: give a .yaml file with lines such as `model: ...`")
    _check(root, "", name, sections)


def _check(node: yaml.Node, key: str, name: str, sections: Collection[str]) -> None:
    """Check a value and all nested values; `key` is its dotted key."""
    if isinstance(node, yaml.SequenceNode):
        for item in node.value:
            _check(item, f"{key}[]", name, sections)
    if isinstance(node, yaml.MappingNode):
        lines: dict[str, int] = {}
        for inner, value in node.value:
            word, line = str(inner.value), inner.start_mark.line + 1
            full = f"{key}.{word}" if key else word
            if word in lines and word != "<<":
                raise ConfigError(f"{name} sets {full} twice, in lines {lines[word]} and {line}: remove one of them")
            lines[word] = line
            _check(value, full, name, sections)
    elif key in sections and node.tag != "tag:yaml.org,2002:str":  # a string may be the path of another file
        got = "a list" if isinstance(node, yaml.SequenceNode) else node.value or "empty"
        line = node.start_mark.line + 1
        raise ConfigError(f"{name}, line {line}: {key} is {got}; expected indented settings below it, or no such line")
