"""The results of an evaluation in a few lines for people; `metrics.json` has all of them."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

WIDTH = 14  # width of the first column


class About(NamedTuple):
    """Facts about the run for the summary, besides its metrics."""

    game: str
    seats: Sequence[str]  # the player of each seat
    folder: Path  # of the run
    checkpoint: str  # the evaluated checkpoint
    env_steps: int  # environment steps that it was trained for
    fit_s: float  # seconds of training; 0 if this run did not train
    playable: bool = True  # whether the page of `replay` and `play` can show the game


def summary(numbers: Mapping[str, float], about: About) -> str:
    """Return at most 12 lines: returns, predictions, goals, time, files, and the next commands.

    Args:
        numbers: of `metrics.json`, by name; missing ones are omitted.
        about: the run.
    """
    rows = [
        ("", f"{about.game}: {', '.join(about.seats)}"),
        ("team return", _team(numbers)),
        ("seats", _seats(numbers, about.seats)),
        ("prediction", _prediction(numbers)),
        ("goals", _goals(numbers)),
        ("training", _training(about)),
        ("files", _files(about.folder)),
        *_next(about),
    ]
    return "\n".join(f"{name:{WIDTH}}{text}" if name else text for name, text in rows if text)


def _team(numbers: Mapping[str, float]) -> str:
    """Return the mean with its interval, random play and the best possible return."""
    beside = [
        f"{words} {numbers[name]:.2f}"
        for name, words in (("return/team_random", "random play"), ("return/team_most", "best possible"))
        if name in numbers
    ]
    count = int(numbers.get("return/episodes", 0))
    mean = _mean(numbers, "return/team", "_mean")
    return "; ".join([f"{mean} in {count} episodes" if mean else "", *beside]) if mean else ""


def _mean(numbers: Mapping[str, float], name: str, end: str = "") -> str:
    """Return a mean with its 95% interval, if it has one."""
    if name + end not in numbers:
        return ""
    low, high = numbers.get(f"{name}_low"), numbers.get(f"{name}_high")
    interval = "" if low is None or high is None else f" (95%: {low:.2f} to {high:.2f})"
    return f"{numbers[name + end]:.2f}{interval}"


def _seats(numbers: Mapping[str, float], seats: Sequence[str]) -> str:
    """Return the mean return of each seat."""
    each = [(numbers.get(f"return/seat_{seat}_mean"), name) for seat, name in enumerate(seats)]
    return ", ".join(f"{value:.2f} {name}" for value, name in each if value is not None)


def _prediction(numbers: Mapping[str, float]) -> str:
    """Return the accuracy of the predictions."""
    top, share, commonest = (numbers.get(f"goal/action_{name}") for name in ("top1", "share", "majority"))
    if top is None or top != top:
        return ""
    words = f"{top:.1%} of co-players' actions"
    if share is not None:
        words += f", {share:.1%} of the best possible"
    return words if commonest is None else f"{words}; {commonest:.1%} if always the most frequent action"


def _goals(numbers: Mapping[str, float]) -> str:
    """Return by how much inferred goals change the team return, compared with random goals."""
    inferred, random = numbers.get("goal/return_inferred"), numbers.get("goal/return_none")
    if inferred is None or random is None:
        return ""
    both = f"team return {inferred:.2f} with inferred goals, {random:.2f} with random goals"
    if inferred == random:
        return f"change nothing: {both}"
    gain, low, high = (numbers.get(f"goal/return_gain{end}") for end in ("", "_low", "_high"))
    if gain is None or low is None or high is None:
        return both
    if low <= 0 <= high:
        return f"no clear difference, {gain:.2f} (95%: {low:.2f} to {high:.2f}): {both}"
    ends = sorted((abs(low), abs(high)))
    word = "raise" if gain > 0 else "lower"
    return f"{word} the return by {abs(gain):.2f} (95%: {ends[0]:.2f} to {ends[1]:.2f}): {both}"


def _training(about: About) -> str:
    if about.fit_s:
        return f"{about.env_steps:,} environment steps in {about.fit_s:,.0f} s"
    return f"{about.env_steps:,} environment steps; evaluated {about.checkpoint}"


def _files(folder: Path) -> str:
    """Return the run folder and its files."""
    known = ("metrics.json", "last.ckpt", "best.ckpt", "return.png", "belief.png")
    here = [name for name in known if (folder / name).is_file()]
    return f"{folder}: {', '.join(here)}"


def _next(about: About) -> list[tuple[str, str]]:
    """Return the next commands."""
    config, last = about.folder / "config.yaml", about.folder / "last.ckpt"
    if not about.fit_s or not last.is_file():
        return []
    rest = f"--config {config} --ckpt_path {last}"
    commands = [
        f"tensorboard --logdir {about.folder.parent}   # curves",
        f"python -m omg_lightning test {rest}   # measure adaptation to other partners",
    ]
    if about.playable:
        commands = [
            f"python -m omg_lightning replay {about.folder}   # episodes and beliefs in the browser",
            f"python -m omg_lightning play --agent {about.folder}   # play with the agent",
            *commands,
        ]
    return [("next" if k == 0 else " ", command) for k, command in enumerate(commands)]
