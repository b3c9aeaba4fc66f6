"""Classes that a user chooses by name, and one-line errors for wrong choices."""

import importlib
import re
from difflib import get_close_matches
from inspect import signature
from typing import NamedTuple

from omg_lightning.algorithms import Algorithm
from omg_lightning.encoders import Encoder
from omg_lightning.envs import VectorEnv
from omg_lightning.games import Game
from omg_lightning.opponents import OpponentModel
from omg_lightning.rewards import Reward
from omg_lightning.training.trainer import RULES


class Choice(NamedTuple):
    """A key of the command line whose value is a class."""

    bases: tuple[type, ...]  # the class inherits one of them
    given: int = 0  # leading constructor arguments that the agent fills in


CHOICES = {
    "data.game": Choice((Game, VectorEnv)),
    "model.opponent": Choice((OpponentModel,), 1),
    "model.algorithm": Choice((Algorithm,), 2),
    "model.encoder": Choice((Encoder,), 3),
    "model.reward": Choice((Reward,)),
}


def explain(message: str) -> str:
    """Rewrite jsonargparse's message about a wrongly chosen class in plain words; return any other message unchanged.

    Args:
        message: the message of jsonargparse, in one line.
    """
    if missing := re.match(
        r"the following arguments are required: (?:(?:fit|validate|test|predict)\.)?([\w.]+)", message
    ):
        names = f"give one of {', '.join(known_names(missing[1]))}" if missing[1] in CHOICES else "set it"
        return f"--{missing[1]} is missing: {names}, or give --config FILE"
    found = re.search(r'[Pp]arser key "([a-z_.]+)": ', message)
    if found is None:
        return message
    key, rest = found[1], message[found.end() :]
    if key not in CHOICES:
        return _wrong_value(key, rest)
    ends = r"(?:\. Got value| - Import| Given|$)"
    if nested := re.search(rf'[Pp]arser key "([a-z_.]+)": (.*?(?:Got|Given) value: .*?){ends}', rest):
        return _wrong_value(f"{key}.{nested[1]}", nested[2])
    got = re.search(r"but got (.*)\. Got value", rest)
    path = got[1] if got else _class_path(rest)
    if path is None and (nested := re.search(r"NestedArg\(key='([\w.]+)'", rest)):
        names = ", ".join(known_names(key))
        return f"--{key}.{nested[1]} came before its class: first give --{key} with one of {names}, or --config FILE"
    if path is None:
        return message
    if option := re.search(r"Option '(\w+)' is not accepted|unrecognized arguments: --([\w.]+)", rest):
        return _no_option(key, path, option[1] or option[2])
    if required := re.search(r"arguments are required: (\w+)", rest):
        return f"--{key}.{required[1]} is missing: {path.rpartition('.')[2]} needs it"
    known = ", ".join(known_names(key))
    if "." not in path:
        return f"--{key} is {path}: expected one of {known}, or the dotted path of a class of yours"
    bases = " or ".join(f"{base.__module__.rpartition('.base')[0]}.{base.__name__}" for base in CHOICES[key].bases)
    return f"--{key} is {path}: {_why(path, rest)}; expected a class that inherits {bases}, or one of {known}"


def known_names(key: str) -> list[str]:
    """Return the names of the project's own classes that `key` accepts, in order."""
    bases = CHOICES[key].bases
    packages = [importlib.import_module(base.__module__.rpartition(".")[0]) for base in bases]
    public = {name: getattr(package, name) for package in packages for name in package.__all__}
    kinds = {name: kind for name, kind in public.items() if isinstance(kind, type) and issubclass(kind, bases)}
    return sorted(name for name, kind in kinds.items() if not getattr(kind, "__abstractmethods__", None))


def _class_path(message: str) -> str | None:
    """Return the class path that a message is about."""
    for pattern in (r"class_path[ =]'([^']+)'", r"Import path (\S+) does not", r"Expected a path but (\S+) either"):
        if found := re.search(pattern, message):
            return found[1]
    return None


def _why(path: str, message: str) -> str:
    """Return what is wrong with the class at `path`."""
    if "is abstract" in message:
        missing = sorted(getattr(_load(path), "__abstractmethods__", ()))
        return f"the class does not implement {', '.join(missing)}"
    if found := re.search(r"given class_path '[^']+': (.*?)\.?( - | Given value|$)", message):
        return found[1].strip()
    return "the class has another base class" if _load(path) is not None else "no class was found there"


def _wrong_value(key: str, message: str) -> str:
    """Return the types of value that an option accepts, if the message of jsonargparse names them."""
    if group := re.search(r"Unable to load config '(.*?)'", message):
        return f"--{key} is {group[1]}: expected a group of settings; give them one by one, as --{key}.NAME VALUE"
    got = re.search(r"Given value: (.*)", message) or re.search(r"Got value: (.*?)(?: - | Subclass |$)", message)
    kinds = ["a class by its dotted path"] if "Subclass types" in message else []
    kinds += [name.rpartition(".")[2] for name in re.findall(r"Expected an? <class '([^']+)'>", message)]
    kinds += [f"one of {names}" for names in re.findall(r"typing\.Literal\[(.*?)\]", message)]
    if got is None or not kinds:
        return f"--{key}: {message}"
    value = "null" if got[1] == "None" else got[1]
    if rule := RULES.get(key.removeprefix("trainer.")) if key.startswith("trainer.") else None:
        return f"--{key} is {value}: expected {rule[1]}"
    kinds = ["a finite number"] if value.strip("+-.").lower() in ("nan", "inf") else list(dict.fromkeys(kinds))
    return f"--{key} is {value}: expected {' or '.join(kinds).replace('NoneType', 'null')}"


def _no_option(key: str, path: str, option: str) -> str:
    """Return a message that a class has no such option, with the options that it has."""
    kind, skipped = _load(path), CHOICES[key].given
    names = list(signature(kind).parameters)[skipped:] if isinstance(kind, type) else []
    name = path.rpartition(".")[2]
    options = f"its options are {', '.join(names)}" if names else "it has no options"
    if close := get_close_matches(option, names, 1):
        options = f"{options}; did you mean {close[0]}?"
    return f"--{key}.{option}: {name} has no option {option!r}; {options}"


def _load(path: str) -> object:
    """Return the object at a dotted path, or None."""
    module, _, name = path.rpartition(".")
    try:
        return getattr(importlib.import_module(module), name, None)
    except (ImportError, ValueError, TypeError):
        return None
