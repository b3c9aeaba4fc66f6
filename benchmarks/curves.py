r"""Draws learning curves of several runs against environment steps and against seconds, from their TensorBoard logs.

    python benchmarks/curves.py docs/images/6x6.png --line 'HOP+, 77,000 s: 11.57' \
        'codebook=runs/6x6_codebook_*/lightning_logs/version_0' 'none=runs/6x6_none_*/lightning_logs/version_0'

Each group is a label and the run folders of its seeds (a pattern, quoted). Thin lines are seeds, thick ones their mean,
on a common grid from where all have begun to where the first ends. `--line 'label: value'` draws a reference.
"""

import argparse
import glob
from pathlib import Path

import matplotlib as mpl
import numpy as np
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

mpl.use("Agg")
import matplotlib.pyplot as plt
from matplotlib.ticker import MaxNLocator

COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#56b4e9", "#e69f00")  # told apart by the colour-blind


def curve(folder: Path, tag: str) -> np.ndarray:
    """Return environment steps, seconds since the first entry of the log, and the value of `tag`: `[3, n]`."""
    log = EventAccumulator(str(folder), size_guidance={"scalars": 0})
    log.Reload()
    start = min(log.Scalars(name)[0].wall_time for name in log.Tags()["scalars"])
    return np.array([(event.step, event.wall_time - start, event.value) for event in log.Scalars(tag)]).T


def smooth(values: np.ndarray, width: int) -> np.ndarray:
    """Return the running mean over up to `width` points, fewer at the ends; of as many values as are given."""
    reach = width // 2
    spans = [values[max(0, k - reach) : k + width - reach] for k in range(len(values))]
    return np.array([span.mean() for span in spans])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("groups", nargs="+", help="LABEL=PATTERN of run folders")
    parser.add_argument("--tag", default="return/train_team_mean", help="scalar to draw")
    parser.add_argument("--name", default="Team return in training", help="of the y axis")
    parser.add_argument("--smooth", type=int, default=5, help="rounds of the running mean")
    parser.add_argument("--line", action="append", default=[], help="'LABEL: VALUE', a reference")
    args = parser.parse_args()
    figure, axes = plt.subplots(1, 2, figsize=(9, 3.4), sharey=True, layout="constrained")
    for (label, pattern), colour in zip((group.split("=", 1) for group in args.groups), COLOURS, strict=False):
        folders = sorted(glob.glob(pattern))
        if not folders:
            parser.error(f"no run folder matches {pattern}")
        runs = [curve(Path(folder), args.tag) for folder in folders]
        for axis, row in zip(axes, (0, 1), strict=True):
            for run in runs:
                axis.plot(run[row], smooth(run[2], args.smooth), color=colour, linewidth=0.7, alpha=0.45)
            grid = np.linspace(max(run[row][0] for run in runs), min(run[row][-1] for run in runs), 200)
            each = [np.interp(grid, run[row], smooth(run[2], args.smooth)) for run in runs]
            seeds = f"{label} ({len(runs)} seed{'s' * (len(runs) > 1)})"
            axis.plot(grid, np.mean(each, 0), color=colour, linewidth=2.2, label=seeds)
    for axis, name in zip(axes, ("environment steps", "seconds"), strict=True):
        for line in args.line:
            label, value = line.rsplit(":", 1)
            axis.axhline(float(value), color="0.35", linewidth=0.9, linestyle="--")
            if axis is axes[1]:
                axis.annotate(
                    f"{label}: {float(value):g}",
                    (0.98, float(value)),
                    xycoords=("axes fraction", "data"),
                    xytext=(0, -3),
                    textcoords="offset points",
                    ha="right",
                    va="top",
                    fontsize=8,
                    color="0.35",
                )
        axis.set_xlabel(name)
        axis.xaxis.set_major_locator(MaxNLocator(6))
        axis.spines[["top", "right"]].set_visible(False)
        axis.grid(alpha=0.25)
    axes[0].xaxis.set_major_formatter(lambda steps, _: f"{steps / 1000:g}k")
    axes[0].set_ylabel(args.name)
    axes[0].legend(frameon=False, loc="lower right", fontsize=8)
    figure.savefig(args.out, dpi=150)


if __name__ == "__main__":
    main()
