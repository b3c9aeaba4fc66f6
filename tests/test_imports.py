"""The one-way street: who may import whom inside the project, read from the source."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
BASE = {"types"}
LEARNING = BASE | {"losses", "trunk", "networks", "goals", "metrics"}
PLAYING = BASE | {"losses", "games", "planning", "goals", "players"}
MAY_IMPORT = {
    "types": set(),
    "paths": set(),
    "losses": BASE,
    "trunk": BASE | {"paths"},
    "networks": BASE | {"trunk"},
    "metrics": BASE | {"goals"},
    "exact": BASE | {"games", "players", "goals"},
    "games": BASE | {"paths"},
    "planning": BASE,  # two callables and a budget: no game, no network
    "goals": BASE | {"losses", "networks"},
    "envs": BASE | {"games"},
    "players": BASE | {"games", "paths"},
    "runs": BASE,
    "rollout": PLAYING,
    "data": PLAYING | {"rollout"},
    "modules": LEARNING | {"runs"},  # never a tree, never a rollout
    "evaluation": BASE | {"metrics", "envs"},  # what was played comes in as numbers
}
COMMANDS = ("cli", "__main__", "adaptation", "crossplay", "references")  # the top of the street
WITHOUT_LIGHTNING = (
    "types",
    "paths",
    "losses",
    "trunk",
    "networks",
    "games",
    "planning",
    "goals",
    "players",
    "envs",
    "rollout",
)
FILES = sorted((ROOT / "omg_lightning").rglob("*.py"))


def imported(path: Path) -> list[str]:
    names = []
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: write imports in full"
            names += [f"{node.module}.{alias.name}" for alias in node.names]
    return names


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_nothing_imports_upwards(path):
    part = path.relative_to(ROOT / "omg_lightning").parts[0].removesuffix(".py")
    names = imported(path)
    if part in COMMANDS:
        return
    assert not [name for name in names if name.split(".")[0] == "callbacks"]
    inside = {name.split(".")[1] for name in names if name.startswith("omg_lightning.")} - {part}
    assert inside <= MAY_IMPORT.get(part, set())
    if part in WITHOUT_LIGHTNING:
        assert not [name for name in names if name.split(".")[0] in ("lightning", "torchmetrics")]


def test_the_table_names_every_part():
    parts = {path.relative_to(ROOT / "omg_lightning").parts[0].removesuffix(".py") for path in FILES}
    assert parts - set(MAY_IMPORT) == {"__init__", *COMMANDS}
