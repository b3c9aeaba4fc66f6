"""Numbers of the page on performance against their result files."""

import json
import re

import numpy as np
import pytest
from pages import DOCS

TEXT = (DOCS / "performance.md").read_text(encoding="utf-8")
GROWTH = json.loads((DOCS / "results/growth.json").read_text())
MAIN = json.loads((DOCS / "results/main_job.json").read_text())


def cells(title: str) -> list[list[str]]:
    """The rows of the table below a heading, without its head."""
    part = TEXT.split(f"\n## {title}\n")[1].split("\n## ")[0]
    return [line.strip("| ").split(" | ") for line in re.findall(r"^\|.*\|$", part, flags=re.MULTILINE)[2:]]


def test_exponents_of_growth_are_those_of_the_result_file():
    told = {tuple(row[:3]): row[3:5] for row in cells("How costs grow")}
    found = {}
    for line in GROWTH["lines"]:
        low, high = (f"{line['work'][end]:,.0f}" for end in (0, -1))
        name = f"{line['panel']}, {line['name']}".rstrip(", ")
        found[name, line["unit"], f"{low} to {high}"] = [f"{line[key]:.2f}" for key in ("exponent", "steepest")]
    assert told == found


def test_nothing_grows_faster_than_its_work():
    faster = [f"{line['panel']}, {line['unit']}" for line in GROWTH["lines"] if line["exponent"] > GROWTH["limit"]]
    assert not faster


@pytest.mark.parametrize("result", [GROWTH, MAIN], ids=["growth", "main job"])
def test_the_page_names_the_commit_and_the_command_of_a_result(result):
    rows = [result] if "commit" in result else [*result["before"], *result["after"]]
    commits = {row["commit"] for row in rows}
    for commit in commits:
        assert commit[:7] in TEXT
        assert not commit.endswith("+"), "measured with files that had changed"
    assert result["command"] in TEXT


def test_rows_of_the_main_job_are_those_of_the_result_file():
    told = cells("The main job")
    found = []
    for name in ("before", "after"):
        for row in MAIN[name]:
            seconds = [f"{row['processor_s']:.0f}", f"{row['wall_s']:.0f}"]
            played = [f"{row['return/team_mean']:.2f}", f"{100 * row['goal/action_share']:.1f}%"]
            found.append([name, str(row["seed"]), *seconds, f"{row['buffer/env_steps']:,.0f}", *played])
    assert told == found
    assert min(row["return/team_mean"] for row in MAIN["after"]) >= 9.9


def test_the_time_to_the_target_of_the_main_job_is_that_of_its_result_file():
    found = json.loads((DOCS / "results/time_to_target.json").read_text())["settings"]["main job"]
    assert found["held"] == found["runs"] == 5
    seconds, steps = found["seconds"], found["env_steps"]
    words = f"after {seconds['median']:.0f} s of training ({seconds['low']:.0f} to {seconds['high']:.0f}) and "
    words += f"{steps['median']:,.0f} environment steps ({steps['low']:,.0f} to {steps['high']:,.0f})"
    assert f"at {found['target']} of 10 for good {words}" in " ".join(TEXT.split())


@pytest.mark.parametrize("title", ["The main job", "How costs grow", "On a GPU"])
def test_every_table_of_results_names_its_file_which_exists(title):
    part = TEXT.split(f"\n## {title}\n")[1].split("\n## ")[0]
    named = re.findall(r"docs/results/([\w.]+json)", part)
    assert named
    assert all((DOCS / "results" / name).is_file() for name in named)


def test_exponents_against_the_number_of_simulations_are_computed_from_the_result_file():
    found = [line for line in GROWTH["lines"] if line["unit"] == "nodes passed"]
    told = " ".join(TEXT.split())
    for key, words in (("seconds", "exponents {} (PUCT) and {} (Gumbel)"), ("work", "grow with exponents {} and {}.")):
        slopes = [np.polyfit(np.log(line["size"]), np.log(line[key]), 1)[0] for line in found]
        assert words.format(*(f"{slope:.2f}" for slope in slopes)) in told


def test_the_gain_of_the_main_job_is_computed_from_runs_of_the_same_seed():
    before, after = (MAIN[name][0] for name in ("before", "after"))
    assert before["seed"] == after["seed"] == 0
    assert f"fell by a factor of {before['processor_s'] / after['processor_s']:.1f}" in TEXT
