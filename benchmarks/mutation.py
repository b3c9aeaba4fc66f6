"""Mutation testing: change single expressions of the code, and run the tests of each change.

Run:  pip install 'mutmut>=3.8,<4' && python benchmarks/mutation.py [--share 0.01] [--seed 0] [--seconds 4]
In the root of the repository. `[tool.mutmut]` in pyproject.toml says which folders are changed and which tests may
notice. Of the changes (mutants) of each file a share is drawn with the seed, at least one; `--names` draws from those
of these names alone, with wildcards, such as 'omg_lightning.rollout.*'. A mutant meets tests that call its function,
the fastest first and up to so many seconds of them, until one fails. Adds to docs/results/mutation.json: counts for
each file, and each survivor with its change. A change that stands there is not drawn again, and what stands there as
`why`, the reason why a survivor is no gap, stays. A change of an expression that the code no longer has is dropped. One
whose tests run out of time counts as not run. Prints one JSON line with the sums.
"""

import argparse
import ast
import difflib
import json
import random
import subprocess
from collections import Counter
from collections.abc import Collection, Mapping
from fnmatch import fnmatch
from functools import cache
from itertools import accumulate
from pathlib import Path
from typing import Any

OUT = Path("docs/results/mutation.json")
MADE = Path("mutants")  # mutmut's folder
STATES = {0: "survived", 1: "killed", 3: "killed", 33: "no test"}  # by exit code; any other: not judged
OPEN = "open"  # not reviewed yet
Change = tuple[str, str]  # function, and what changes there


def known() -> dict[Path, dict[str, int | None]]:
    """Return the mutants of each file with what the tests said: their exit code, or None where they were not run."""
    files = sorted(MADE.rglob("*.py.meta"))
    return {path: json.loads(path.read_text())["exit_code_by_key"] for path in files}


def recorded() -> dict[Change, dict[str, str]]:
    """Return the changes of earlier runs: their state, and for survivors the reason why they are no gap."""
    if not OUT.is_file():
        return {}
    found = json.loads(OUT.read_text())
    killed = {(name, change): {"state": "killed"} for name, each in found["killed"].items() for change in each}
    rows = {(x["function"], x["change"]): {"state": x["state"], "why": x["why"]} for x in found["survivors"]}
    return killed | rows


def drawn(share: float, seed: int, patterns: list[str], old: Collection[Change]) -> list[str]:
    """Return the names of the mutants to run: a share of those of each file that match, rounded up, without old ones.

    Args:
        share: of the mutants of each file.
        seed: of the draw.
        patterns: of names, with wildcards.
        old: changes that are not drawn.
    """
    generator, names, functions = random.Random(seed), list[str](), {name for name, _ in old}
    for path, mutants in known().items():
        named = sorted(name for name in mutants if any(fnmatch(name, pattern) for pattern in patterns))
        seen = [name for name in named if function(name) in functions]
        repeated = {name for name, change in changes(path, seen).items() if change in old}
        new = [name for name in named if name not in repeated]
        names += generator.sample(new, min(len(new), -int(-len(named) * share // 1)))
    return names


def shorten(seconds: float) -> None:
    """Leave each function its fastest tests, at least one and up to so many seconds of them."""
    path = MADE / "mutmut-stats.json"
    stats = json.loads(path.read_text())
    took = stats["duration_by_test"]
    for function, tests in stats["tests_by_mangled_function_name"].items():
        ordered = sorted(tests, key=lambda test: took[test])
        within = sum(total <= seconds for total in accumulate(took[test] for test in ordered))
        stats["tests_by_mangled_function_name"][function] = ordered[: max(1, within)]
    path.write_text(json.dumps(stats))


def function(name: str) -> str:
    """Return the function of a mutant."""
    return name.rpartition("__mutmut_")[0].replace("ǁ", ".").replace(".x_", ".").replace(".x.", ".")


def changes(path: Path, names: Collection[str]) -> dict[str, Change]:
    """Return what mutants of a file change: the lines of their function, as in a diff.

    Args:
        path: of mutmut's record of the file.
        names: of the mutants.
    """
    if not names:
        return {}
    tree = ast.parse(path.with_suffix("").read_text())
    nodes = {node.name: node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)}

    @cache
    def lines(name: str) -> list[str]:
        return ast.unparse(nodes[name]).splitlines()[1:]

    found = {}
    for name in names:
        own = name.rpartition(".")[2]
        diff = difflib.unified_diff(lines(f"{own.rpartition('_')[0]}_orig"), lines(own), n=0, lineterm="")
        kept = [f"{line[0]} {line[1:].strip()}" for line in diff if line[:2] not in ("--", "++", "@@")]
        found[name] = (function(name), "\n".join(kept))
    return found


def results(names: Collection[str], old: Mapping[Change, Mapping[str, str]]) -> dict[str, Any]:
    """Return the counts of each file and all changes with their state: those of mutants `names`, and the old ones.

    Args:
        names: of mutants that have been run.
        old: what is known from earlier runs; it is kept as long as the code has the expression.
    """
    files, survivors, killed = {}, [], dict[str, list[str]]()
    functions = {name for name, _ in old}
    for path, mutants in known().items():
        looked = [name for name in mutants if name in names or function(name) in functions]
        states: dict[Change, Mapping[str, str]] = {}
        for name, change in changes(path, looked).items():
            state = STATES.get(mutants[name] if name in names else None)  # type: ignore[arg-type]
            if state is not None:
                states[change] = {"why": OPEN, **old.get(change, {}), "state": state}
            elif change in old:
                states.setdefault(change, old[change])
        counts = Counter(each["state"] for each in states.values())
        source = str(path.relative_to(MADE)).removesuffix(".meta")
        files[source] = {"mutants": len(mutants), "run": len(states), **dict(sorted(counts.items()))}
        for (name, text), each in sorted(states.items()):
            if each["state"] == "killed":
                killed.setdefault(name, []).append(text)
            else:
                row = {"function": name, "change": text, "state": each["state"], "why": each.get("why", OPEN)}
                survivors.append(row)
    total = Counter[str]()
    for counts in files.values():
        total.update(counts)
    return {"total": dict(total), "files": files, "survivors": survivors, "killed": killed}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--share", type=float, default=0.01, help="share of each file's mutants to run")
    parser.add_argument("--seed", type=int, default=0, help="seed of the sample of mutants")
    parser.add_argument(
        "--names", nargs="+", default=["*"], help="only these mutants, such as 'omg_lightning.rollout.*'"
    )
    parser.add_argument("--seconds", type=float, default=4.0, help="seconds of tests per mutant")
    parser.add_argument("--processes", type=int, default=1)
    parser.add_argument("--report", action="store_true", help="only report earlier results, without running tests")
    args = parser.parse_args()
    mutmut, old = ["mutmut", "run", "--max-children", str(args.processes)], recorded()
    if not args.report:  # mutmut makes all mutants first, and times all tests; a name that fits none stops it there
        subprocess.run([*mutmut, "no such mutant"], capture_output=True, check=False)
        shorten(args.seconds)
        names = drawn(args.share, args.seed, args.names, old)
        if not names:
            parser.error("no such mutants are left: run this in the root of the repository, with mutmut installed")
        subprocess.run([*mutmut, *names], check=True)
    else:
        names = [name for mutants in known().values() for name, code in mutants.items() if code is not None]
    found = results(set(names), old)
    OUT.write_text(json.dumps(found, indent=1, ensure_ascii=False) + "\n")
    print(json.dumps({"benchmark": "mutation", "share": args.share, "seed": args.seed, **found["total"]}))


if __name__ == "__main__":
    main()
