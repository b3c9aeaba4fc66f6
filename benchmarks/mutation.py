"""Mutation testing: change single expressions of the code, and run the tests of each change.

Run:  pip install 'mutmut>=3.8,<4' && python benchmarks/mutation.py [--share 0.01] [--seed 0] [--seconds 4]
In the root of the repository; `--names` runs the changes of these names (with wildcards) instead of a share.
`[tool.mutmut]` in pyproject.toml says which folders are changed and which tests may notice. Of the changes (mutants) of
each file a share is drawn with the seed, at least one. A mutant meets tests that call its function, the fastest first
and up to so many seconds of them, until one fails. Writes docs/results/mutation.json: counts for each file, and each
survivor with its change. What stands there as `why`, the reason why a survivor is no gap, is kept for the same change
of the same function. Prints one JSON line with the sums.
"""

import argparse
import ast
import difflib
import json
import random
import subprocess
from collections import Counter
from fnmatch import fnmatch
from itertools import accumulate
from pathlib import Path
from typing import Any

OUT = Path("docs/results/mutation.json")
MADE = Path("mutants")  # mutmut's folder
STATES = {0: "survived", 1: "killed", 3: "killed", 33: "no test", 36: "timeout", 24: "timeout", -24: "timeout"}
OPEN = "open"  # not reviewed yet


def known() -> dict[Path, dict[str, int | None]]:
    """Return the mutants of each file with what the tests said: their exit code, or None where they were not run."""
    files = sorted(MADE.rglob("*.py.meta"))
    return {path: json.loads(path.read_text())["exit_code_by_key"] for path in files}


def drawn(share: float, seed: int) -> list[str]:
    """Return the names of the mutants to run: a share of those of each file, rounded up."""
    generator, names = random.Random(seed), list[str]()
    for mutants in known().values():
        names += generator.sample(sorted(mutants), -int(-len(mutants) * share // 1))
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


def change(path: Path, name: str) -> str:
    """Return the lines of its function that a mutant changes, as in a diff."""
    functions = {node.name: node for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.FunctionDef)}
    own = name.rpartition(".")[2]
    one, other = (ast.unparse(functions[each]).splitlines()[1:] for each in (f"{own.rpartition('_')[0]}_orig", own))
    lines = list(difflib.unified_diff(one, other, n=0, lineterm=""))
    return "\n".join(f"{line[0]} {line[1:].strip()}" for line in lines if line[:2] not in ("--", "++", "@@"))


def results(names: list[str], share: float, seed: int) -> dict[str, Any]:
    """Return the counts of each file and its survivors, for the mutants `names` alone."""
    reasons = {}
    if OUT.is_file():
        reasons = {(x["function"], x["change"]): x["why"] for x in json.loads(OUT.read_text())["survivors"]}
    files, survivors, wanted = {}, [], set(names)
    for path, mutants in known().items():
        found = {
            name: STATES.get(code, "other") for name, code in mutants.items() if name in wanted and code is not None
        }
        source = str(path.relative_to(MADE)).removesuffix(".meta")
        counts = Counter(found.values())
        files[source] = {"mutants": len(mutants), "run": len(found), **dict(sorted(counts.items()))}
        for name in sorted(found):
            if found[name] in ("survived", "no test"):
                function = name.rpartition("__mutmut_")[0].replace("ǁ", ".").replace(".x_", ".").replace(".x.", ".")
                changed = change(path.with_suffix(""), name)
                why = reasons.get((function, changed), OPEN)
                survivors.append({"function": function, "change": changed, "state": found[name], "why": why})
    total = Counter[str]()
    for counts in files.values():
        total.update(counts)
    return {"share": share, "seed": seed, "total": dict(total), "files": files, "survivors": survivors}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--share", type=float, default=0.01, help="share of each file's mutants to run")
    parser.add_argument("--seed", type=int, default=0, help="seed of the sample of mutants")
    parser.add_argument(
        "--names", nargs="+", help="mutants to run instead of a share, such as 'omg_lightning.rollout.*'"
    )
    parser.add_argument("--seconds", type=float, default=4.0, help="seconds of tests per mutant")
    parser.add_argument("--processes", type=int, default=1)
    parser.add_argument("--report", action="store_true", help="only report earlier results, without running tests")
    args = parser.parse_args()
    mutmut = ["mutmut", "run", "--max-children", str(args.processes)]
    if not args.report:  # mutmut makes all mutants first, and times all tests; a name that fits none stops it there
        subprocess.run([*mutmut, "no such mutant"], capture_output=True, check=False)
        shorten(args.seconds)
    names = drawn(args.share, args.seed)
    if args.names:
        names = [name for mutants in known().values() for name in mutants if any(fnmatch(name, x) for x in args.names)]
    if not names:
        parser.error("no such mutants exist: run this in the root of the repository, with mutmut installed")
    if not args.report:
        subprocess.run([*mutmut, *names], check=True)
    found = results(names, args.share, args.seed)
    OUT.write_text(json.dumps(found, indent=1, ensure_ascii=False) + "\n")
    print(json.dumps({"benchmark": "mutation", "share": args.share, "seed": args.seed, **found["total"]}))


if __name__ == "__main__":
    main()
