"""Mutation testing by hand: changes that mutmut does not make, such as those of decorated functions and arguments.

    python benchmarks/by_hand.py [--only rollout/play.py] [--again]

Each change of CHANGES is made in a process of its own, which then runs the tests of that file until one fails. Writes
docs/results/by_hand.json: the first test that failed for each change, or null. A change with a result is run again only
with `--again`; its reason `why` is kept. Files of the project are not changed.
"""

import argparse
import importlib
import inspect
import json
import os
import signal
import sys
from collections.abc import Iterator
from pathlib import Path
from types import CodeType, FunctionType
from typing import Any

import pytest

import omg_lightning

ROOT = Path(__file__).parents[1]
OUT = ROOT / "docs/results/by_hand.json"
LIMIT = 180  # seconds; without a change the tests of a file take less than a third of it
TESTS = {
    "rollout/play.py": "rollout workers greedy relationships declared datamodule agent",
    "data/relationships.py": "relationships greedy datamodule meetings",
    "data/evaluation.py": "datamodule relationships greedy randomness agent",
    "actors/search.py": "actors rollout greedy simulator liam best_response relationships",
    "actors/modelled.py": "actors rollout opponents declared belief datamodule locations",
}
PLAY, MEET, JUDGE, SEARCH, MODEL = TESTS
CHANGES = [  # file, text that occurs once in it, replacement
    (PLAY, ">= self.env.max_steps)", ">= self.env.max_steps - 1)"),
    (
        PLAY,
        "rows = None if carried is None else carried[live]",
        "rows = None if carried is None else carried[: len(live)]",
    ),
    (PLAY, "env.max_steps, now.active, now.reward)", "env.max_steps, now.active, now.reward * 0)"),
    (PLAY, "field[:, rows] = blank[name]", "pass"),
    (PLAY, "self.time[rows] = who, 0", "self.time[rows] = who, self.time[rows]"),
    (PLAY, "carried[rows] = prior[name]", "pass"),
    (PLAY, "known = None if carried is None else carried[live]", "known = carried"),
    (PLAY, "put(self.now, places, self.env.restart(places, self.generator))", "self.now"),
    (PLAY, "env.restarts and all(actor.restarts for actor in self.actors.values())", "env.restarts"),
    (
        PLAY,
        "part.notes[key] * part.env_steps for part in known) / sum(part.env_steps for",
        "part.notes[key] for part in known) / sum(1 for",
    ),
    (PLAY, "prior and {name: values[rows] for", "prior and {name: values[: len(rows)] for"),
    (PLAY, "before[rows].clone()", "before[rows]"),
    (PLAY, "observation.float() if self.binary else observation", "observation.float()"),
    (PLAY, "torch.where(mine, values, old)", "values"),
    (PLAY, "self.greedy, self.measure)\n        true", "self.greedy, False)\n        true"),
    (PLAY, "random, carried, greedy, measure)", "random, carried, False, measure)"),
    (PLAY, "actor.prior(batch) if carried is None else carried\n", "actor.prior(batch)\n"),
    (PLAY, "legal[..., env.noop] = True", "legal[..., 0] = True"),
    (PLAY, "self.env.keep(index)", "None"),
    (PLAY, "with torch.inference_mode():  # many", "with torch.no_grad():  # many"),
    (MEET, "self.episodes[rows] += 1", "self.episodes += 1"),
    (MEET, "index = (self.steps < total)", "index = (self.steps <= total)"),
    (MEET, "again = (self.steps[rows] < total)", "again = (self.steps[rows] <= total)"),
    (MEET, "if now.restarts else torch.zeros_like(over, dtype=torch.bool)", ""),
    (MEET, "self._who[self.partner[some]], prior", "now.seating.who[now.live[over[again]]], prior"),
    (MEET, "active.any(-1).sum(0)", "active[..., 0].sum(0)"),
    (MEET, "self._fresh({LEARNER: now.learners[LEARNER]})[LEARNER][rows]", "self.prior[LEARNER][rows]"),
    (MEET, "check_true_goals(now.seating._replace(who=ended), now.learners[LEARNER], played.episodes)", "pass"),
    (MEET, "apart=True", "apart=False"),
    (MEET, "possible.scatter_(1, self.meetings, True)", "possible[:] = True"),
    (MEET, "clamp(max=self.meetings.shape[1] - 1)", "remainder(self.meetings.shape[1])"),
    (MEET, "partner, self.number[rows]", "partner, rows"),
    (MEET, "prior, True, False)", "prior, False, False)"),
    (JUDGE, "device, index, rank", "device, 0, rank"),
    (JUDGE, "is not None and index else", "is not None else"),
    (JUDGE, "carried = played.prior", "pass"),
    (JUDGE, "rows[:count] for", "rows[-count:] for"),
    (JUDGE, "-(-episodes // num_envs)", "max(1, episodes // num_envs)"),
    (JUDGE, "measure=True", "measure=False"),
    (JUDGE, "check_true_goals(seating, found[LEARNER], played.episodes)", "pass"),
    (JUDGE, "Batch(episodes, self.env_steps, False)", "Batch(episodes, 0, False)"),
    (JUDGE, "ends[index] if practice else ends[-1]", "ends[index]"),
    (JUDGE, "buffer.add(played.episodes, index)", "buffer.add(played.episodes, 0)"),
    (JUDGE, "if index == 0:", "if index == 0 and 'now' not in vars():"),
    (SEARCH, "return kept._replace(own=begun.own)", "return kept"),
    (SEARCH, "goals = self.opponent.as_seen(goals, each_ego)", "pass"),
    (SEARCH, "ego.repeat_interleave(trees)", "ego.repeat(trees)"),
    (SEARCH, "rows.repeat_interleave(trees)", "rows.repeat(trees)"),
    (SEARCH, "(policy * q).sum(-1)", "q.amax(-1)"),
    (SEARCH, "masked_logits(q, legal), root_policy", "q, root_policy"),
    (SEARCH, "discount=config.discount", "discount=0.95"),
    (SEARCH, "c_puct=config.c_puct", "c_puct=1.0"),
    (SEARCH, "c_scale=config.c_scale", "c_scale=0.1"),
    (SEARCH, "random_ties=not scene.greedy", "random_ties=False"),
    (SEARCH, "policy.clamp(min=1e-9).log()).sum(-1).mean()", "policy.clamp(min=1e-9).log()).mean()"),
    (SEARCH, "policy = pooled_policy(settings, result, root, trees)", "pass"),
    (SEARCH, "sharpened(policy, config.temperature)", "policy"),
    (SEARCH, "goals, scene.generator, trees)", "goals, scene.generator)"),
    (
        MODEL,
        "of_present(self.opponent.infer(memory.opponent, scene.view), active)",
        "self.opponent.infer(memory.opponent, scene.view)",
    ),
    (
        MODEL,
        "torch.where(active[:, None, :, None], estimate.draw(trees, generator), 0.0)",
        "estimate.draw(trees, generator)",
    ),
    (MODEL, "memory.mine & active", "memory.mine"),
    (MODEL, "torch.full_like(mine, -1,", "torch.full_like(mine, 0,"),
    (MODEL, "self.opponent.goals_are_cells", "False"),
    (MODEL, "actions, step.achieved)", "actions, step.achieved * 0 - 1)"),
    (MODEL, "mine, action, estimate.point, extras", "mine, action, estimate.point * 0, extras"),
    (MODEL, "return self.opponent.carry(prior, episodes)", "return prior"),
]


def functions(code: CodeType, prefix: str = "") -> Iterator[tuple[str, CodeType]]:
    """Yield the functions and methods of a module's code with their dotted names."""
    for inner in code.co_consts:
        if isinstance(inner, CodeType):
            name = f"{prefix}{inner.co_name}"
            if inner.co_flags & inspect.CO_NEWLOCALS and inner.co_flags & inspect.CO_OPTIMIZED:
                yield name, inner
            else:
                yield from functions(inner, f"{name}.")


def live(module: Any, name: str) -> FunctionType:
    """Return the function of this dotted name, without its decorators."""
    found = module
    for part in name.split("."):
        found = inspect.getattr_static(found, part)
    found = getattr(found, "fget", None) or getattr(found, "__func__", found)
    return inspect.unwrap(found)


def make(file: str, old: str, new: str) -> None:
    """Apply a change to the functions of this process."""
    path = ROOT / "omg_lightning" / file
    source = path.read_text()
    if source.count(old) != 1:
        raise SystemExit(f"{file} has {old!r} {source.count(old)} times: expected once")
    module = importlib.import_module(f"omg_lightning.{file.removesuffix('.py').replace('/', '.')}")
    before, after = (dict(functions(compile(text, str(path), "exec"))) for text in (source, source.replace(old, new)))
    changed = [name for name in before if before[name].co_code != after[name].co_code or before[name] != after[name]]
    assert changed, f"{file}: nothing changes"
    for name in changed:
        live(module, name).__code__ = after[name]


class First:
    """Keeps the name of the first test that fails."""

    name: str | None = None

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Remember a failure, also of a fixture."""
        if report.failed and self.name is None:
            self.name = report.nodeid


def judge(file: str, old: str = "", new: str = "") -> str | None:
    """Return the first test that fails with this change (none by default), or None; runs in a process of its own.

    Tests that take longer than LIMIT count as failed: the change keeps them from ending.
    """
    read, write = os.pipe()
    if (pid := os.fork()) == 0:
        signal.alarm(LIMIT)
        nothing = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nothing, 1)
        if old:
            make(file, old, new)
        os.dup2(nothing, 2)
        first, words = First(), ["-x", "-q", "-n", "0", "-p", "no:cacheprovider"]
        code = pytest.main([*words, *(f"tests/test_{name}.py" for name in TESTS[file].split())], [first])
        os.write(write, (first.name or "" if code in (0, 1) else f"pytest ended with {code}").encode())
        os._exit(0)
    os.close(write)
    with os.fdopen(read) as pipe:
        found = pipe.read()
    status = os.waitpid(pid, 0)[1]
    if os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGALRM:
        return f"no end within {LIMIT} s"
    if status:
        raise SystemExit(f"the process of {file}: {old!r} ended with {os.waitstatus_to_exitcode(status)}")
    return found or None


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", choices=list(TESTS), help="only changes of this file")
    parser.add_argument("--again", action="store_true", help="also run changes that have a result")
    args = parser.parse_args()
    os.chdir(ROOT)
    importlib.import_module("omg_lightning.cli")
    rows = json.loads(OUT.read_text())["changes"] if OUT.is_file() else []
    known = {(row["file"], row["was"], row["becomes"]): row for row in rows}
    known, fine = {change: known[change] for change in CHANGES if change in known}, set[str]()
    for change in CHANGES:
        file, old, new = change
        row = known.get(change, {})
        if (args.only not in (None, file)) or (row and not args.again and row["noticed_by"] is not None):
            continue
        if file not in fine and (broken := judge(file)) is not None:
            raise SystemExit(f"{broken} fails without a change: mend it first, then run this again for {file}")
        fine.add(file)
        test = judge(*change)
        why = {"why": row.get("why", "open")} if test is None else {}
        known[change] = {"file": file, "was": old, "becomes": new, "noticed_by": test, **why}
        print(f"{file}: {new!r} {test or 'survived'}", flush=True)
        rows = [known[each] for each in CHANGES if each in known]
        noticed = sum(row["noticed_by"] is not None for row in rows)
        OUT.write_text(json.dumps({"run": len(rows), "noticed": noticed, "changes": rows}, indent=1) + "\n")


if __name__ == "__main__":
    sys.path.insert(0, str(Path(omg_lightning.__file__).parents[1]))
    main()
