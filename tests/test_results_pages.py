"""Numbers of the documentation against the result files in docs/results."""

import json
import re
from typing import Any

import numpy as np
import pytest
from pages import DOCS

from omg_lightning.metrics.intervals import student
from omg_lightning.sources import ZOO_FOLDER

RESULTS = DOCS / "results"
CONTROLS = json.loads((RESULTS / "controls.json").read_text())


def page(name: str) -> str:
    """The text of a page."""
    return (DOCS / name).read_text(encoding="utf-8")


# Studies ------------------------------------------------------------------------------------------------------------


def leaves(found: Any) -> set[float]:
    """The sizes of all numbers in a result file."""
    if isinstance(found, dict | list):
        return set().union(*(leaves(each) for each in (found.values() if isinstance(found, dict) else found)))
    return set() if isinstance(found, str) else {abs(float(found))}


def test_every_number_of_the_control_studies_is_in_their_result_file():
    text = page("studies.md")
    text = text[text.index("## The control variables") :]
    text = text[: text.index("### Hit ratio")] + text[text.index("### What gets self-play") :]
    pairs = [
        pair for group in CONTROLS["groups"].values() for each in group["methods"].values() for pair in each.values()
    ]
    intervals = re.findall(r"([+-]?\d+\.\d+) \+- (\d+\.\d+)", text)
    assert len(intervals) > 20
    assert {(abs(float(mean)), float(half)) for mean, half in intervals} <= {(abs(mean), half) for mean, half in pairs}
    decimals = {float(number) for number in re.findall(r"(?<![\d.])\d+\.\d+", text)}
    assert decimals <= leaves(CONTROLS)


def test_the_table_of_the_gpu_is_its_result_file():
    found = json.loads((RESULTS / "gpu.json").read_text())
    core = json.loads((RESULTS / "gpu_cpu.json").read_text())
    measured = [row for row in found["rows"] if row["device"] == "cuda"] + core["rows"]
    rows = {(row["device"], row["num_envs"], row["cuda_graph"]): row for row in measured}
    text = section("On a GPU", "performance.md")
    for size in (128, 256, 1024, 4096, 16384):
        plain, graph = (rows.get(("cuda", size, on)) for on in (False, True))
        cpu = rows.get(("cpu", size, False))
        rates = [f"{row['env_steps_per_s']:,.0f}" if row else "" for row in (plain, graph, cpu)]
        memory = f"{graph['peak_mib']:,.0f}" if graph else ""
        assert " ".join(f"| {size:,} | {rates[0]} | {rates[1]} | {memory} | {rates[2]} |".split()) in text
    best = max(row["env_steps_per_s"] for key, row in rows.items() if key[0] == "cpu")
    ratios = [rows["cuda", 4096, on]["env_steps_per_s"] / best for on in (True, False)]
    assert f"{ratios[0]:.0f} times as fast as a core at its best, {ratios[1]:.0f} times without" in text
    assert found["gpu"] in text
    for name in ("performance.md", "clusters.md"):
        assert f"[{ratios[0]:.0f} times](" in page(name)


def test_the_training_on_a_gpu_is_its_result_file():
    found = json.loads((RESULTS / "gpu_training.json").read_text())
    mean, low, high = (f"{found[f'return/team_{name}']:.2f}" for name in ("mean", "low", "high"))
    text = section("On a GPU", "performance.md")
    assert f"{mean} of 12 on 8x8 (95%: {low} to {high}, {found['episodes']} episodes, seed {found['seed']})" in text
    assert f"{found['buffer/env_steps']:,} environment steps and {found['time/fit_s']} s" in text
    assert f"{mean} of 12 in {found['time/fit_s']} s" in " ".join(page("clusters.md").split())
    assert found["command"] in " ".join(page("clusters.md").replace("\\\n", " ").split())


def test_every_control_study_has_a_figure_and_names_its_command():
    text = page("studies.md")
    for name in CONTROLS["groups"]:
        assert f"(images/controls/{name}.png)" in text
        assert f"--group {name}" in text
        assert (DOCS / f"images/controls/{name}.png").is_file()


# Results: version 0.2.0 ---------------------------------------------------------------------------------------------


def runs(name: str) -> list[dict[str, float]]:
    """The metrics of the runs `name`_0, `name`_1, ..."""
    folders = sorted((RESULTS / "five_protocols").glob(f"{name}_[0-9]"))
    return [json.loads((folder / "metrics.json").read_text()) for folder in folders]


def rows(text: str) -> dict[str, list[str]]:
    """The rows of all tables of a text by their first cell; the last one of equal names counts."""
    lines = re.findall(r"^ *\| (.*) \|$", text, flags=re.MULTILINE)
    return {first: cells for first, *cells in (line.split(" | ") for line in lines)}


def section(title: str, name: str = "results.md") -> str:
    """The text below a heading of the second level."""
    return page(name).split(f"\n## {title}\n")[1].split("\n## ")[0]


@pytest.fixture(scope="module")
def newest() -> dict[str, list[str]]:
    """The rows of the table of the shipped configurations."""
    return rows(section("The shipped configurations"))


@pytest.mark.parametrize(
    ("row", "name"), [("main job", "main"), ("4h1s_4x4", "4x4"), ("4h1s_6x6", "6x6"), ("msg", "msg")]
)
def test_a_row_of_the_results_is_computed_from_the_metrics_of_its_runs(newest, row, name):
    check_row(newest[row], runs(name))


@pytest.mark.parametrize(("row", "name"), [("RecurrentConv", "6x6_planes"), ("Paths, again", "6x6_paths_again")])
def test_a_row_of_an_encoder_is_computed_from_the_metrics_of_its_runs(row, name):
    check_row(rows(section("Encoder"))[row], runs(name))


def check_row(cells: list[str], found: list[dict[str, float]]) -> None:
    """Compare a row of a table with the runs that it is about."""
    seeds, steps, seconds, each, mean, interval = cells
    returns = [metrics["return/team_mean"] for metrics in found]
    assert int(seeds) == len(found) > 0
    assert int(steps.replace(",", "")) == round(np.mean([metrics["buffer/env_steps"] for metrics in found]))
    assert int(seconds.replace(",", "")) == round(np.mean([metrics["time/fit_s"] for metrics in found]))
    assert each == ", ".join(f"{value:.2f}" for value in returns)
    assert mean == f"{np.mean(returns):.2f}"
    low, high = student(returns, (found[0]["return/team_least"], found[0]["return/team_most"]))
    assert interval == ("-" if len(found) == 1 else f"{low:.2f} to {high:.2f}")


def test_gains_of_inference_are_those_of_their_runs():
    table = rows(section("A run in which inference decides"))
    readme = " ".join((DOCS.parent / "README.md").read_text(encoding="utf-8").split())
    found = runs("beliefs")
    assert len(found) == 3
    for seed, metrics in enumerate(found):
        inferred, random, gain = (f"{metrics[f'goal/return_{name}']:.2f}" for name in ("inferred", "none", "gain"))
        low, high = (f"{metrics[f'goal/return_gain_{end}']:.2f}" for end in ("low", "high"))
        steps, played = f"{metrics['buffer/env_steps']:,.0f}", f"{metrics['return/team_random']:.2f}"
        assert table[str(seed)] == [steps, inferred, random, gain, f"{low} to {high}", played]
        assert float(low) > 0
        if seed == 0:
            assert f"by {gain} (95%: {low} to {high}), from {random} to {inferred}" in readme


@pytest.mark.parametrize(("row", "name"), [("penalty, k = 0", "penalty"), ("climbing", "climbing")])
def test_returns_and_times_of_ppo_are_those_of_its_runs(row, name):
    cells = rows(section("PPO in matrix games"))[row]
    found = runs(name)
    seconds = [metrics["time/fit_s"] for metrics in found]
    assert cells[2] == ", ".join(f"{metrics['return/seat_0_mean']:.0f}" for metrics in found)
    assert cells[3] == f"{min(seconds):.0f} to {max(seconds):.0f}"


def test_best_responses_are_counted_in_the_result_file():
    table = rows(section("Search in matrix games"))
    found = json.loads((RESULTS / "five_protocols/best_response.json").read_text())
    for preset in ("prisoners_dilemma", "chicken", "stag_hunt", "battle_of_the_sexes", "climbing"):
        for seed, cell in enumerate(table[preset]):
            here = [each for each in found if f"'{preset}'" in each["game"] and each["seed"] == seed]
            best = sum(each["decisions"] == 1 for each in here)
            assert cell.removesuffix(" run") == f"{best} of {len(here)}"


def test_returns_of_hunters_that_go_for_the_stag_are_those_of_their_result_file():
    table = rows(section("Why not 12?"))
    for row in json.loads((RESULTS / "selfish.json").read_text())["rows"]:
        three, four, mean, interval = table[row["preset"]]
        assert (three, four, mean) == (f"{row['three']:.3f}", f"{row['four']:.3f}", f"{row['mean']:.2f}")
        assert interval == f"{row['low']:.2f} to {row['high']:.2f}"


def test_every_table_of_the_results_names_its_result_files():
    tables = [part for part in page("results.md").split("\n## ")[1:] if re.search(r"^\|---", part, flags=re.MULTILINE)]
    assert len(tables) >= 6
    for part in tables:
        named = re.findall(r"docs/results/([\w/.*]*[\w*])", part)
        assert any(True for name in named for _ in RESULTS.glob(name)), part.splitlines()[0]


def test_gains_of_goals_in_snowdrift_are_those_of_their_result_file():
    found = json.loads((RESULTS / "selfplay.json").read_text())["rows"]
    snowdrift = {row["method"]: row["returns"] for row in found if row["game"] == "msg"}
    first, second = np.subtract(snowdrift["codebook"], snowdrift["none"]) / 4
    third, fourth = np.subtract(snowdrift["declared"], snowdrift["none"]) / 4
    text = page("results.md")
    assert f"goals add {first:.2f} and {second:.2f} points per seat** with `codebook`" in text
    assert f"and {third:.2f} and {fourth:.2f} with `declared`" in text


def test_every_picture_and_result_file_is_on_some_page():
    text = "".join(path.read_text(encoding="utf-8") for path in (*DOCS.rglob("*.md"), DOCS.parent / "README.md"))
    for path in DOCS.glob("images/**/*.*"):
        assert str(path.relative_to(DOCS)) in text, path
    for path in RESULTS.glob("*.*"):
        assert f"results/{path.name}" in text, path


def test_the_codes_in_concepts_match_the_result_file():
    text = " ".join(page("concepts.md").split())
    found = json.loads((RESULTS / "codes.json").read_text())["rows"]
    for who, after in (("Codebook", "its mutual information with the true goals is "), ("Declared", "against ")):
        ends = [f"{row['nmi_all']:.2f}" for row in found if row.get("belief") == who]
        assert len(ends) == 3
        assert f"{after}{', '.join(ends)}" in text
    exact = {row["game"] for row in found if row.get("nmi", 0) > 0.999}
    assert exact == {"2h1s_4x4", "4h1s_4x4", "4h1s_6x6", "coin", "lbf 8x8-2p-3f", "lbf 8x8-2p-3f, prosocial"}
    for game, said in (
        ("lbf 7x7-2p-3f-no-levels", "{} to {} on 7x7 without levels"),
        ("lbf 8x8-2p-3f, vector", "on the vector views of these two {} to {} and"),
        ("lbf 7x7-2p-3f-no-levels, vector", "and {} to {}. In Snowdrift"),
    ):
        nmi = [row["nmi"] for row in found if row["game"] == game and "nmi" in row]
        assert said.format(f"{min(nmi):.2f}", f"{max(nmi):.2f}") in text


# Other result files -------------------------------------------------------------------------------------------------


def test_goal_sources_differ_as_the_result_file_says():
    """Paired differences of the returns, which the page gives with two decimals."""
    found = json.loads((RESULTS / "selfplay.json").read_text())["rows"]
    for row in found:
        assert row["mean"] == pytest.approx(np.mean(row["returns"]), abs=0.011)
    early = {row["method"]: row["returns"] for row in found if row["game"] == "4h2s, ends early"}
    text = page("results.md")
    for method, shown in (
        ("codebook", "0.61 +- 0.35"),
        ("declared", "0.65 +- 0.56"),
        ("codebook, blind", "0.73 +- 0.55"),
    ):
        gains = np.subtract(early[method], early["none"])
        low, high = student(gains)
        mean, half = (float(each) for each in shown.split(" +- "))
        assert gains.mean() == pytest.approx(mean, abs=0.011)
        assert (high - low) / 2 == pytest.approx(half, abs=0.02)
        assert shown in text


def test_returns_of_liam_are_those_of_its_result_file():
    found = json.loads((RESULTS / "liam.json").read_text())
    text = " ".join(page("concepts.md").split())
    for opponent, sentence in (
        ("Direct", "{} for PPO with `Direct`"),
        ("LIAM", "{} with `LIAM`"),
        ("Oracle", "{} with `Oracle`"),
    ):
        returns = [each["return"] for each in found if each["opponent"] == opponent]
        assert len(returns) == 3
        assert sentence.format(f"{np.mean(returns):.1f}") in text


def test_numbers_of_several_processes_are_those_of_their_result_file():
    rows = json.loads((RESULTS / "ranks.json").read_text())["rows"]
    curve, steps = (
        [np.mean([row[key] for row in rows if row["processes"] == processes]) for processes in (1, 2)]
        for key in ("curve", "steps_to_90")
    )
    text = " ".join(page("reliability.md").split())
    assert f"{curve[0]:.1f} with one process and {curve[1]:.1f} with two" in text
    assert f"{steps[0]:,.0f} and {steps[1]:,.0f} steps" in text


def test_counts_of_changed_code_are_those_of_their_result_file():
    total = json.loads((RESULTS / "mutation.json").read_text())["total"]
    text = " ".join(page("reliability.md").split())
    assert f"{total['run']} of {total['mutants']:,} changes" in text
    assert f"noticed {total['killed']}" in text
    assert f"{total['no test']} were in functions" in text
    found = json.loads((RESULTS / "by_hand.json").read_text())
    changes = found["changes"]
    survivors = [row for row in changes if row["noticed_by"] is None]
    assert (found["run"], found["noticed"]) == (len(changes), len(changes) - len(survivors))
    assert f"{len(changes)} changes of `rollout/play.py`" in text
    assert f"notice {found['noticed']}; the other {len(survivors)} are equivalent" in text
    assert all(row["why"].startswith("equivalent: ") for row in survivors)


def test_the_value_of_information_and_its_shares_are_those_of_their_result_file():
    found = json.loads((RESULTS / "value.json").read_text())["settings"]
    text = section("Where beliefs matter", "adaptation.md")
    values, shares = (rows(text[text.index(f"| {first} |") :]) for first in ("setting | `Direct`", "method"))
    there = shares.pop("method")

    def shown(each, form):
        return "{0:{f}} [{1:{f}}, {2:{f}}]".format(each["value"], each["low"], each["high"], f=form)

    for setting, each in found.items():
        ends = each["returns"]["Direct"]["value"], each["returns"]["Oracle"]["value"]
        form = ".2f" if ends[1] > 1 else ".3f"
        expected = [*(f"{end:{form}}" for end in ends), shown(each["value"], form), shown(each["percent"], ".1f")]
        assert values[setting] == expected
        assert bool(each["shares"]) == (setting in there)
    for method, cells in shares.items():
        each = [found[setting]["shares"].get(method) for setting in there]
        assert cells == ["-" if share is None else shown(share, ".2f") for share in each]
    assert {*shares} == {method for each in found.values() for method in each["shares"]}


def test_beliefs_of_foragers_are_those_of_the_runs_of_the_study():
    kept = json.loads((RESULTS / "value/study.json").read_text())["runs"]

    def shown(game, method, name):
        rows = [each["numbers"] for each in kept if (each["game"], each["method"]) == (game, method)]
        return f"{np.mean([row[name] for row in rows if name in row]):.2f}"

    after, first = "goal/belief_{}_after_3", "foraging, favourites"
    secret = "foraging, secret orders"
    exact, declared, learned = (
        shown(secret, method, after.format(which))
        for method, which in (("Declared", "exact"), ("Declared", "true"), ("Codebook", "true"))
    )
    text = " ".join(section("Where beliefs matter", "adaptation.md").split())
    assert f"even exact inference gives the true goal {shown(secret, 'Declared', 'goal/belief_exact_1')}." in text
    assert f"it gives the next one {exact}, declared goals {declared} and learned ones {learned} (" in text
    kinds = [shown(first, "Declared, kinds", f"goal/belief_true_{step}") for step in (1, 3)]
    without = [shown(first, "Declared, kinds", f"goal/belief_exact_{step}") for step in (1, 3)]
    assert f"gives the true goal {kinds[0]} after one step and {kinds[1]} after three" in text
    assert f"exact inference without kinds has {without[0]} and {without[1]}." in text


@pytest.mark.parametrize(
    ("title", "name"),
    [
        ("On 4x4", "adapt_4x4"),
        ("On 6x6", "adapt_6x6"),
        ("On 8x8", "adapt_8x8"),
        ("On 4x4 beside learned partners", "adapt_4x4_learned"),
    ],
)
def test_adaptation_to_strangers_is_that_of_its_result_file(title, name):
    found = json.loads((RESULTS / f"{name}.json").read_text())
    table = rows(page("adaptation.md").split(f"**{title}**")[1].split("\n- ")[0])
    assert len(found["partners"]) > 2
    for entry in found["partners"].values():
        label = entry["label"].removeprefix("checkpoint_").removesuffix(".ckpt")
        cells = table[label.replace("_5", ":5")]
        ends = [f"{entry[key]:.2f}" if key in entry else "-" for key in ("random", "best_response")]
        means = [entry[key]["mean"] if key in entry else None for key in ("early", "return", "early_score", "score")]
        shown = ["-" if x is None else f"{x['value']:.2f} [{x['low']:.2f}, {x['high']:.2f}]" for x in means]
        assert cells == [*ends, *shown]


def test_self_play_and_training_time_on_8x8_are_those_of_the_metrics_of_their_runs():
    strangers, (alone,) = runs("adapt_8x8"), runs("8x8")
    played = ["{:.2f}".format(each["return/team_mean"]) for each in strangers]
    took = ["{:.0f}".format(each["time/fit_s"]) for each in strangers]
    text = " ".join(page("adaptation.md").split())
    assert f"in self-play: {played[0]}, {played[1]} and {played[2]} of 12" in text
    assert f"`configs/4h1s.yaml` has {alone['return/team_mean']:.2f} (seed 0)" in text
    assert f"took {took[0]}, {took[1]} and {took[2]} s, and {alone['time/fit_s']:.0f} s with" in text


def test_the_benchmark_is_that_of_its_result_file():
    (game,) = json.loads((RESULTS / "benchmark.json").read_text())["games"].values()
    table = rows(section("The benchmark"))
    for name, entry in game["methods"].items():
        scores = [entry["metrics"][f"strangers/adapt/{which}_score"]["mean"] for which in ("seen", "unseen", "all")]
        counts = [f"{entry['buffer/env_steps']:,.0f}", f"{entry['time/fit_s']:.0f}"]
        assert table[name] == [*counts, *(f"{x['value']:.2f} [{x['low']:.2f}, {x['high']:.2f}]" for x in scores)]
    team = game["methods"]["PPO prosocial"]["metrics"]["return/team_mean"]["mean"]["value"]
    assert f"team return in training ({team:.2f})" in section("The benchmark")
    kept = json.loads((RESULTS / "benchmark/study.json").read_text())["runs"]
    assert {(each["method"], each["state"]) for each in kept} == {(name, "done") for name in game["methods"]}
    ppo = next(each["numbers"] for each in kept if (each["method"], each["seed"]) == ("PPO", 0))
    scores = {name: ppo[f"strangers/adapt/{name}_score"] for name in ("tit_for_tat", "grim_trigger")}
    words = "tit_for_tat (score {tit_for_tat:.2f}) and grim_trigger ({grim_trigger:.2f})".format(**scores)
    assert words in section("The benchmark")


def test_growth_of_a_long_run_is_that_of_its_result_file():
    found = json.loads((RESULTS / "soak.json").read_text())
    grown, rows = found["growth"], found["rows"]
    text = " ".join(page("reliability.md").split())
    assert f"{found['rounds']} rounds" in text
    assert f"resident memory grows by {grown['resident_mib']:.1f} MiB" in text
    assert f"tensors by {abs(grown['tensors_mib']):.1f} MiB" in text
    assert f"open files by {grown['files']:g} and threads by {grown['threads']:g}" in text
    memory = [row["resident_mib"] for row in rows]
    assert f"between {min(memory):.1f} and {max(memory):.1f} MiB" in text
    assert {(row["files"], row["threads"]) for row in rows} == {(8, 2)}
    assert "with 8 open files and 2 threads" in text
    assert f"{grown['objects']:.0f} objects more" in text


def test_fewest_steps_of_a_forager_are_those_of_their_result_files():
    text = page("games.md")
    table = re.findall(r"^\| (.*?) ?\| `(\w+)` \| (.*?) \| (.*?) \|$", text, flags=re.MULTILINE)
    shown = [cells for cells in table if cells[1] in ("lexicographic", "column_major") and "+-" in cells[2]]
    files = [json.loads((RESULTS / f"{name}.json").read_text()) for name in ("foraging", "foraging_level_2")]
    assert [found["layouts"] for found in files] == [400, 400]
    rows = [row for found in files for row in found["rows"]]
    assert [cells[1:] for cells in shown] == [
        (row["script"], f"{row['fewest']:.2f} +- {row['error']:.2f}", f"{row['two_scripts']:.2f}") for row in rows
    ]


def test_soups_of_overcooked_are_those_of_the_agent_in_the_zoo():
    made = json.loads((ZOO_FOLDER / "overcooked/agent.json").read_text())["made"]
    soups, steps = made["return_of_run"] / 20, made["metrics"]["buffer/env_steps"]
    played = f"team return {made['return_of_run']:.0f} in greedy self-play after {steps:,.0f} "
    assert f"serve {soups:.0f} soups in an episode: {played}" in page("games.md")
