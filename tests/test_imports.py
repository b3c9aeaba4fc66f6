"""The one-way street: who may import whom inside the project, read from the source."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
RULES = {"types", "spaces", "users_code", "games", "envs"}  # what can be played
MODELS = RULES | {"spec", "samples", "events", "losses", "encoders"}  # what losses are computed from
MAY_IMPORT: dict[str, set[str]] = {
    # records, and pure functions of them
    "types": set(),
    "seeds": set(),
    "spaces": {"types"},
    "draws": set(),
    "commit": set(),
    "files": {"types"},
    "interrupts": set(),
    "users_code": set(),
    "ranks": {"interrupts"},
    "losses": {"types"},
    "samples": {"types"},
    "sources": {"types"},
    "search": {"types", "interrupts"},  # two callables and a budget: no game, no network
    # what is played
    "games": {"types", "spaces", "files"},
    "envs": {"types", "spaces", "users_code", "games"},
    "events": {"types", "games"},
    "spec": RULES,
    # who plays: an actor is given callables, never the models that own them
    "actors": RULES | {"draws", "losses", "search", "sources"},
    "rollout": RULES | {"actors", "interrupts", "ranks"},
    # what learns: never a rollout
    "encoders": RULES | {"spec"},
    "metrics": RULES | {"events", "losses"},
    "opponents": MODELS | {"draws", "metrics"},
    "rewards": MODELS,
    "algorithms": MODELS | {"actors"},
    # how both come together: the data module gets the learner's callables as values
    "data": RULES | {"spec", "seeds", "actors", "rollout", "interrupts", "ranks"},
    "training": MODELS
    | {
        "commit",
        "files",
        "seeds",
        "actors",
        "metrics",
        "opponents",
        "algorithms",
        "rewards",
        "sources",
        "interrupts",
        "ranks",
    },
    # trained agents in environments that somebody else runs; never a rollout
    "agents": RULES | {"spec", "seeds", "search", "actors", "training"},
    # people, agents and scripts at one board
    "viewer": RULES | {"actors", "agents", "files", "interrupts", "opponents"},
    "__init__": {"agents"},  # `load_agent`, when it is asked for
    # what is said of it: what was played comes in as numbers
    "evaluation": RULES | {"files", "actors", "events", "metrics", "opponents"},
}
TYPES_ONLY = {"games": {"envs"}, "samples": {"opponents"}}  # named in annotations, never imported when the code runs
# these may import everything, and nothing imports them
TOP = (
    *("cli", "choices", "config_files", "mistakes", "parsing", "remarks"),
    *("commands", "experiments", "testing", "__main__"),
)
WITH_LIGHTNING = ("metrics", "opponents", "algorithms", "data", "training", "agents", "viewer", *TOP)
FILES = sorted((ROOT / "omg_lightning").rglob("*.py"))


def part_of(path: Path) -> str:
    """The folder, or the file at the top level, that a source file belongs to."""
    return path.relative_to(ROOT / "omg_lightning").parts[0].removesuffix(".py")


def imported(path: Path) -> tuple[set[str], set[str]]:
    """The dotted names that a file imports when it runs, and those under `if TYPE_CHECKING`."""
    found: tuple[set[str], set[str]] = set(), set()

    def walk(node: ast.AST, typing: bool) -> None:
        for inner in ast.iter_child_nodes(node):
            if isinstance(inner, ast.Import):
                found[typing].update(alias.name for alias in inner.names)
            elif isinstance(inner, ast.ImportFrom):
                assert inner.level == 0, f"{path}: write imports in full"
                found[typing].update(f"{inner.module}.{alias.name}" for alias in inner.names)
            guarded = isinstance(inner, ast.If) and "TYPE_CHECKING" in ast.dump(inner.test)
            walk(inner, typing or guarded)

    walk(ast.parse(path.read_text()), False)
    return found


def inside(names: set[str], part: str) -> set[str]:
    """The other parts of the project among dotted names."""
    return {name.split(".")[1] for name in names if name.startswith("omg_lightning.")} - {part}


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_no_module_imports_a_higher_layer(path):
    part, (running, typing) = part_of(path), imported(path)
    libraries = {name.split(".")[0] for name in running | typing}
    if part != "cli":  # it makes the schedules, which have keys of their own
        assert "callbacks" not in libraries
    if part not in WITH_LIGHTNING:
        assert not libraries & {"lightning", "torchmetrics"}
    if part not in TOP:
        allowed = MAY_IMPORT.get(part, set())
        assert inside(running, part) <= allowed
        assert inside(typing, part) <= allowed | TYPES_ONLY.get(part, set())


def test_the_street_has_no_circle():
    """Take away the parts that import nothing that is left, again and again: all parts go."""
    left = {part: set(allowed) for part, allowed in MAY_IMPORT.items()}
    while free := [part for part, allowed in left.items() if not allowed & left.keys()]:
        for part in free:
            del left[part]
    assert not left


def test_the_table_names_every_part_and_no_other():
    parts = {part_of(path) for path in FILES}
    assert parts == {*MAY_IMPORT, *TOP}


@pytest.mark.parametrize(
    ("path", "line"),
    [("search/tree.py", "from omg_lightning.games import Game"), ("games/base.py", "import lightning")],
)
def test_an_import_of_a_higher_layer_is_detected(path, line, tmp_path, monkeypatch):
    file = tmp_path / "omg_lightning" / path
    file.parent.mkdir(parents=True)
    file.write_text(line)
    monkeypatch.setitem(globals(), "ROOT", tmp_path)
    with pytest.raises(AssertionError):
        test_no_module_imports_a_higher_layer(file)
