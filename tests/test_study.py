"""Studies: what a file asks for, which runs are made, and what is left of them."""

import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
import yaml
from command_line import ROOT, refused

from omg_lightning.cli import main
from omg_lightning.commit import commit_of
from omg_lightning.evaluation.time_to_target import held_from, rows, summarise, time_figure
from omg_lightning.experiments import engines, record, runner
from omg_lightning.experiments.plan import read
from omg_lightning.experiments.results import gather, records_of
from omg_lightning.types import ConfigError

# Stands for `python -m omg_lightning`: leaves what a run leaves, as its flags say, without learning anything.
PROGRAM = """
import json, pathlib, signal, sys, time
command, words = sys.argv[1], [part for word in sys.argv[2:] for part in word.split("=", 1)]
flags = dict(zip(words[::2], words[1::2]))
root = pathlib.Path(flags["--trainer.default_root_dir"])
runs = root / "lightning_logs"
runs.mkdir(parents=True, exist_ok=True)
folder = runs / f"version_{len(list(runs.iterdir()))}"
folder.mkdir()
(folder / "config.yaml").write_text("seed_everything: " + flags.get("--seed_everything", "0"))
(folder / "last.ckpt").write_text("")
if flags.get("--wait"):
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    (root / "pid").write_text(str(__import__("os").getpid()))
    time.sleep(60)
if flags.get("--fail") == flags.get("--seed_everything", "none"):
    print("error: what went wrong")
    sys.exit(2)
team = float(flags.get("--team", 0)) + int(flags.get("--seed_everything", 0))
numbers = {"return/team_mean": team, "buffer/env_steps": 10.0, "time/fit_s": 1.5}
if command != "fit":
    numbers = {"adapt/random_return": 7.0}
if not flags.get("--silent"):
    (folder / "metrics.json").write_text(json.dumps(numbers))
"""
STUDY = """
base: [first.yaml, --a 1]
games:
  one: []
  two: --b 2
methods:
  slow: second.yaml --c 3
  fast: --d '[1, 2]'
seeds: [0, 1]
adjust:
  two: {fast: --e 5}
evaluate:
  strangers: test --data.partners '[random]'
"""


@pytest.fixture
def here(tmp_path, monkeypatch) -> Path:
    """A folder with two configuration files, in which commands are the program above."""
    (tmp_path / "first.yaml").write_text("a: 1")
    (tmp_path / "second.yaml").write_text("b: 1")
    (tmp_path / "program.py").write_text(PROGRAM)
    monkeypatch.setattr(runner, "PROGRAM", [sys.executable, "-S", "-E", str(tmp_path / "program.py")])
    monkeypatch.chdir(tmp_path)
    return tmp_path


def state(run) -> str:
    return runner.state(run, record.read(run.folder))


def write(text: str, name: str = "s.yaml", **changes: object) -> str:
    Path(name).write_text(yaml.safe_dump(yaml.safe_load(text) | changes, sort_keys=False))
    return name


SMALL = "{games: {g: []}, methods: {m: --team 3}, seeds: [0, 1]}"


# The file -----------------------------------------------------------------------------------------------------------


def test_runs_are_games_times_methods_times_seeds_with_settings_from_the_general_to_the_special(here):
    study = read(write(STUDY), Path("out"))
    assert [(run.number, run.game, run.method, run.seed) for run in study.runs] == [
        (1 + 4 * g + 2 * m + s, game, method, s)
        for g, game in enumerate(("one", "two"))
        for m, method in enumerate(("slow", "fast"))
        for s in (0, 1)
    ]
    assert study.runs[7].fit == [
        *["fit", "--config", "first.yaml", "--a", "1", "--b", "2", "--d", "[1, 2]", "--e", "5"],
        *["--seed_everything", "1", "--trainer.default_root_dir", "out/s/two/fast/seed_1"],
    ]
    assert study.runs[0].settings[4:] == ("--config", "second.yaml", "--c", "3")
    assert study.runs[0].evaluate == {"strangers": ("test", "--data.partners", "[random]")}


def test_groups_name_the_runs_that_are_made(here):
    groups = {"a": {"games": ["one"], "seeds": [7]}, "b": {"methods": ["fast"]}}
    study = read(write(STUDY, groups=groups), Path("out"))
    cells = [(run.game, run.method, run.seed) for run in study.runs]
    fast = [("one", "fast", seed) for seed in (0, 1, 7)]
    assert cells == [("one", "slow", 7), *fast, ("two", "fast", 0), ("two", "fast", 1)]
    assert [run.number for run in study.select(["a"])] == [1, 4]
    assert [run.number for run in study.select(["b"], [2, 4, 6])] == [2, 6]


MISTAKES = {
    "unknown key": ({"metods": {}}, "has the key 'metods', which is unknown: did you mean methods?"),
    "no seeds": ({"seeds": None}, "has no seeds"),
    "seeds": ({"seeds": 5}, "seeds is 5: expected a list of different numbers"),
    "the same seed": ({"seeds": [1, 1]}, "expected a list of different numbers"),
    "games": ({"games": ["one"]}, "expected names, each with"),
    "file": ({"base": "thrid.yaml"}, "base names the file thrid.yaml, which does not exist"),
    "a flag without dashes": ({"base": "model.x 3"}, "expected a configuration file"),
    "quotes": ({"base": "--a 'b"}, "close the quotes"),
    "a number": ({"base": [3]}, "base has 3: expected"),
    "seed among the settings": ({"base": "--seed_everything=3"}, "which the study sets from seeds: remove it"),
    "game to adjust": ({"adjust": {"tow": {}}}, "did you mean two?"),
    "method to adjust": ({"adjust": {"two": {"fats": []}}}, "did you mean fast?"),
    "method of a group": ({"groups": {"x": {"methods": ["slwo"]}}}, "did you mean slow?"),
    "key of a group": ({"groups": {"x": {"method": ["slow"]}}}, "did you mean methods?"),
    "evaluation": ({"evaluate": {"x": "fit"}}, "`validate` or `test` with flags"),
    "game of a target": ({"targets": {"tow": 1}}, "did you mean two?"),
    "target": ({"targets": {"two": "high"}}, "targets.two is 'high': expected the team return to reach, a number"),
    "folders": ({"methods": {"a b": [], "a_b": []}, "adjust": {}}, "would share a folder"),
}


@pytest.mark.parametrize(("changes", "said"), MISTAKES.values(), ids=MISTAKES)
def test_mistakes_in_the_file_are_one_line(changes, said, here):
    with pytest.raises(ConfigError) as error:
        read(write(STUDY, **changes), Path("out"))
    assert said in str(error.value)
    assert "s.yaml" in str(error.value)
    assert "\n" not in str(error.value)


def test_mistakes_in_the_command_are_one_line(here, capsys):
    write(SMALL)
    assert "study got no file" in refused(["study"], capsys)
    assert "nowhere.yaml" in refused(["study", "nowhere.yaml"], capsys)
    assert "--only 3: expected a run of s.yaml, 1 to 2" in refused(["study", "s.yaml", "--only", "3"], capsys)
    assert "the study has all" in refused(["study", "s.yaml", "--group", "none"], capsys)
    assert "invalid choice: 'loca'" in refused(["study", "s.yaml", "--engine", "loca"], capsys)
    assert "--jobs is 0" in refused(["study", "s.yaml", "--jobs", "0"], capsys)
    assert "expected KEY=VALUE" in refused(["study", "s.yaml", "--option", "timeout"], capsys)
    assert "--option a needs --engine ray or slurm" in refused(["study", "s.yaml", "--option", "a=1"], capsys)
    assert "has no `search`" in refused(["study", "s.yaml", "--search"], capsys) or not installed("optuna")
    for flags, name in ((["--engine", "ray"], "ray"), (["--engine", "slurm"], "submitit"), (["--search"], "optuna")):
        if not installed(name):
            assert f"{name}, which is not installed: pip install 'omg-lightning[study]'" in refused(
                ["study", "s.yaml", *flags], capsys
            )
    with results_of_another():
        assert "out/s has a running study" in refused(["study", "s.yaml", "--out", "out"], capsys)


def installed(name: str) -> bool:
    return engines.importlib.util.find_spec(name) is not None


def results_of_another():
    from omg_lightning.experiments.results import alone

    return alone(Path("out/s"))


# Runs ---------------------------------------------------------------------------------------------------------------


def test_list_shows_number_state_and_command_and_runs_nothing(here, capsys):
    main(["study", write(SMALL), "--list"])
    lines = capsys.readouterr().out.splitlines()
    command = "python -m omg_lightning fit --team 3 --seed_everything 1 --trainer.default_root_dir runs/s/g/m/seed_1"
    assert lines[1] == f"   2  to do    {command}"
    assert lines[2] == "2 runs: 0 done, 0 broken, 2 to do"
    assert not Path("runs").exists()


def test_results_have_numbers_code_machine_command_versions_and_time(here, capsys):
    main(["study", write(SMALL, evaluate={"strangers": "test"}), "--jobs", "1"])
    found = json.loads(Path("runs/s/study.json").read_text())
    assert [run["numbers"]["return/team_mean"] for run in found["runs"]] == [3.0, 4.0]
    one = found["runs"][1]
    assert one == {"run": 2, "folder": "g/m/seed_1", **json.loads(Path("runs/s/g/m/seed_1/run.json").read_text())}
    assert (one["game"], one["method"], one["seed"], one["state"], one["error"]) == ("g", "m", 1, "done", None)
    assert one["command"].startswith("python -m omg_lightning fit --team 3 --seed_everything 1 ")
    assert one["numbers"]["strangers/adapt/random_return"] == 7
    assert (one["env_steps"], one["fit_s"]) == (10, 1.5)
    assert one["wall_clock_s"] > 0
    assert one["versions"]["torch"] == torch.__version__
    assert one["machine"]["cores"] >= 1
    assert one["commit"] is None or len(one["commit"].removesuffix("+")) == 40
    assert "[2/2] g, m, seed 1: " in capsys.readouterr().out


def test_a_run_that_fails_stops_no_other_and_is_tried_again(here, capsys):
    write(SMALL, methods={"m": "--fail 0"})
    with pytest.raises(SystemExit) as stop:
        main(["study", "s.yaml", "--jobs", "2"])
    assert stop.value.code == 1
    shown = capsys.readouterr()
    assert "g, m, seed 0: failed: fit: exit code 2, error: what went wrong" in shown.out
    assert shown.err.splitlines()[-1] == "  1  g, m, seed 0: runs/s/g/m/seed_0/log.txt"
    main(["study", "s.yaml", "--list"])
    assert [line[6:13] for line in capsys.readouterr().out.splitlines()[:2]] == ["broken ", "done   "]
    done = Path("runs/s/g/m/seed_1/run.json").read_bytes()
    Path("program.py").write_text(PROGRAM.replace('"--fail"', '"--fall"'))
    main(["study", "s.yaml"])
    assert "1 of 2 runs are done already" in capsys.readouterr().out
    assert Path("runs/s/g/m/seed_1/run.json").read_bytes() == done
    assert len(json.loads(Path("runs/s/g/m/seed_0/run.json").read_text())["attempts"]) == 2
    assert Path("runs/s/g/m/seed_0/log.txt").read_text().count("$ python -m omg_lightning fit") == 2


def test_a_run_without_numbers_fails_with_the_reason(here):
    run = read(write(SMALL, methods={"m": "--silent yes"}), Path("runs")).runs[0]
    assert (
        runner.execute(run)["error"] == "fit: it wrote no metrics.json: add callbacks.Report to the list of callbacks"
    )


def test_only_an_evaluation_that_is_new_or_changed_is_made(here):
    runner.execute(read(write(SMALL), Path("runs")).runs[0])
    run = read(write(SMALL, evaluate={"strangers": "test"}), Path("runs")).runs[0]
    assert state(run) == "broken"
    runner.execute(run)
    assert state(run) == "done"
    changed = read(write(SMALL, evaluate={"strangers": "test --f 1"}), Path("runs")).runs[0]
    assert state(changed) == "broken"
    found = runner.execute(changed)
    commands = [line.split()[4] for line in (run.folder / "log.txt").read_text().splitlines() if line.startswith("$")]
    assert commands == ["fit", "test", "test"]
    assert found["steps"]["strangers"]["command"] == ["test", "--f", "1"]


def test_a_study_goes_on_from_its_file_alone(here, capsys):
    write(SMALL, seeds=[0, 1], base="first.yaml")
    main(["study", "s.yaml", "--only", "1"])
    file = Path("runs/s/study.json")
    kept = json.loads(file.read_text())["runs"][0]
    shutil.rmtree("runs/s/g")
    capsys.readouterr()
    main(["study", "s.yaml", "--list"])
    assert "1 done" in capsys.readouterr().out
    main(["study", "s.yaml"])
    assert "1 of 2 runs are done already" in capsys.readouterr().out
    assert not Path("runs/s/g/m/seed_0").exists()
    first, second = json.loads(file.read_text())["runs"]
    assert first == kept
    assert second["seed"] == 1
    Path("first.yaml").write_text("a: 2")
    assert "study.json, has this run with other settings" in refused(["study", "s.yaml"], capsys)
    for text in ("{", "{}", "[]", '{"runs": [{"state": "done"}]}', '{"runs": [1]}'):
        file.write_text(text)
        assert "study.json is damaged" in refused(["study", "s.yaml"], capsys)
        assert file.read_text() == text


def test_an_interrupted_run_of_which_only_the_file_is_left_starts_again(here):
    study = read(write(SMALL, methods={"m": "--fail 0"}), Path("runs"))
    runner.execute(study.runs[0])
    gather(study)
    shutil.rmtree("runs/s/g")
    assert records_of(study) == {}


def test_runs_of_other_settings_are_not_mixed_with_those_that_are_there(here, capsys):
    write(SMALL, base="first.yaml")
    main(["study", "s.yaml", "--only", "1"])
    Path("first.yaml").write_text("# a comment changes nothing\na: 1")
    main(["study", "s.yaml", "--only", "1"])
    Path("first.yaml").write_text("a: 2")
    capsys.readouterr()
    assert "runs/s/g/m/seed_0, or study.json, has this run with other settings" in refused(["study", "s.yaml"], capsys)
    main(["study", "s.yaml", "--list"])
    assert "changed" in capsys.readouterr().out


def checkpoint(folder: Path, rounds: int) -> Path:
    """What is asked of a checkpoint when a run goes on, as a file of a run that should take 4 rounds."""
    folder.mkdir(parents=True)
    loops = {"fit_loop": {"epoch_progress": {"current": {"processed": rounds}}}}
    content = {"loops": loops, "optimizer_states": [], "global_step": 1, "state_dict": {}}
    torch.save(content | {"hyper_parameters": {"spec": {"x": 1}}}, folder / "last.ckpt")
    (folder / "config.yaml").write_text("seed_everything: 0\ntrainer: {max_epochs: 4, max_steps: -1}")
    return folder / "last.ckpt"


@pytest.mark.parametrize(("rounds", "words"), [(3, "fit "), (4, "validate ")])
def test_a_broken_run_resumes_from_its_last_checkpoint(rounds, words, here):
    run = read(write(SMALL), Path("runs")).runs[0]
    last = checkpoint(run.folder / "lightning_logs/version_0", rounds)
    assert state(run) == "broken"
    assert runner.execute(run)["state"] == "done"
    (line,) = [line for line in (run.folder / "log.txt").read_text().splitlines() if line.startswith("$")]
    assert line.startswith(f"$ python -m omg_lightning {words}")
    assert f"--ckpt_path {last}" in line
    assert ("--team 3" in line) == (words == "fit ")


def test_a_signal_ends_all_commands_and_the_study_resumes_later(here, capsys):
    write(SMALL, methods={"m": "--wait yes"})
    pids = [Path(f"runs/s/g/m/seed_{seed}/pid") for seed in (0, 1)]

    def interrupt() -> None:
        while not all(pid.is_file() and pid.read_text() for pid in pids):
            time.sleep(0.01)
        os.kill(os.getpid(), signal.SIGINT)

    before = threading.active_count()
    threading.Thread(target=interrupt, daemon=True).start()
    with pytest.raises(SystemExit) as stop:
        main(["study", "s.yaml", "--jobs", "2"])
    assert stop.value.code == 130
    assert "interrupted by SIGINT: 0 of 2 runs were over; the same command goes on" in capsys.readouterr().err
    for pid in pids:
        with pytest.raises(ProcessLookupError):
            os.kill(int(pid.read_text()), 0)
    assert threading.active_count() <= before + 1
    assert json.loads(Path("runs/s/g/m/seed_0/run.json").read_text())["error"] == "stopped"
    Path("program.py").write_text(PROGRAM.replace('"--wait"', '"--weight"'))
    main(["study", "s.yaml"])
    assert "[2/2]" in capsys.readouterr().out


def test_a_run_that_cannot_start_stops_no_other(here, monkeypatch):
    monkeypatch.setattr(engines, "execute", lambda run, *_: 1 / 0 if run.seed == 0 else {"state": "done"})
    runs = read(write(SMALL), Path("runs")).runs
    found = {run.seed: record for run, record in engines.local(runs, 1, {}, Path("runs"))}
    assert found == {0: {"state": "broken", "error": "ZeroDivisionError: division by zero"}, 1: {"state": "done"}}


class Ray:
    """What is used of Ray: a task is done when it is asked for; the last one fails outside of the run's commands."""

    def __init__(self) -> None:
        self.said: list = []

    def init(self, **settings):
        self.said.append(("init", settings.get("num_cpus")))

    def remote(self, function):
        self.function = function
        return SimpleNamespace(options=self.options)

    def options(self, **options):
        self.said.append(("options", options))
        return SimpleNamespace(remote=lambda run, cwd: (run, cwd))

    def wait(self, references, **_):
        return references[:1], references[1:]

    def get(self, reference):
        if reference[0].seed == 1:
            raise RuntimeError("the worker died")
        return self.function(*reference)

    def cancel(self, reference):
        self.said.append(("cancel", reference[0].seed))

    def shutdown(self):
        self.said.append("shutdown")


class Submitit:
    """What is used of submitit: jobs that are done, one after the other."""

    def __init__(self) -> None:
        self.said: list = []

    def AutoExecutor(self, folder, cluster):  # noqa: N802
        if cluster == "nowhere":
            raise RuntimeError('Could not detect "srun"')
        self.cluster = cluster
        return self

    def update_parameters(self, **parameters):
        self.said.append(parameters)

    def map_array(self, function, *rows):
        return [Job(function, row, self.said) for row in zip(*rows, strict=True)]


class Job:
    def __init__(self, function, words, said) -> None:
        self.function, self.words, self.said = function, words, said

    def done(self):
        return True

    def result(self):
        return self.function(*self.words)

    def cancel(self):
        self.said.append("cancel")


def test_ray_gets_the_runs_with_its_own_options(here, monkeypatch):
    ray = Ray()
    monkeypatch.setitem(sys.modules, "ray", ray)
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    runs = read(write(SMALL), Path("runs")).runs
    found = {run.seed: record for run, record in engines.ray(runs, 3, {"num_gpus": 1}, Path("runs/s"))}
    assert (found[0]["state"], found[0]["numbers"]["return/team_mean"]) == ("done", 3)
    assert found[1] == {"state": "broken", "error": "RuntimeError: the worker died"}
    options = {"num_cpus": 1, "max_retries": 0, "num_gpus": 1}
    assert ray.said == [("init", 3), ("options", options), "shutdown"]
    cut = engines.ray(runs, None, {}, Path("runs/s"))
    next(cut)
    cut.close()
    assert ray.said[-2:] == [("cancel", 1), "shutdown"]


def test_slurm_gets_an_array_of_runs_with_its_own_options(here, monkeypatch, capsys):
    submitit = Submitit()
    monkeypatch.setitem(sys.modules, "submitit", submitit)
    main(
        ["study", write(SMALL), "--engine", "slurm", "--jobs", "4", "--option", "timeout_min=5", "slurm_partition=cpu"]
    )
    assert submitit.said == [{"name": "s", "slurm_array_parallelism": 4, "timeout_min": 5, "slurm_partition": "cpu"}]
    assert [run["state"] for run in json.loads(Path("runs/s/study.json").read_text())["runs"]] == ["done", "done"]
    write(SMALL, seeds=[2, 3])
    refusal = refused(["study", "s.yaml", "--engine", "slurm", "--option", "cluster=nowhere"], capsys)
    assert '--engine slurm: Could not detect "srun"' in refusal
    cut = engines.slurm(read("s.yaml", Path("runs")).runs, None, {}, Path("runs/s"))
    next(cut)
    cut.close()
    assert submitit.said[-1] == "cancel"


@pytest.mark.slow
def test_a_search_samples_settings_scores_them_by_the_mean_over_seeds_and_resumes(here, capsys):
    pytest.importorskip("optuna", reason="optuna is not installed: pip install 'omg-lightning[study]'")
    write(SMALL, search={"trials": 3, "space": {"team": {"low": 1, "high": 9}, "size": ["s", "m"]}}, methods={"m": []})
    main(["study", "s.yaml", "--search", "--jobs", "4"])
    (found,) = json.loads(Path("runs/s/search.json").read_text())["searches"].values()
    teams = [int(trial["flags"][0].removeprefix("--team=")) for trial in found["trials"]]
    assert [trial["value"] for trial in found["trials"]] == [team + 0.5 for team in teams], "of seeds 0 and 1"
    assert found["best"]["value"] == max(teams) + 0.5
    assert {trial["flags"][1] for trial in found["trials"]} <= {"--size=s", "--size=m"}
    record = json.loads(Path("runs/s/g/m/trial_2/seed_1/run.json").read_text())
    assert f"fit --team={teams[2]} --size=" in record["command"]
    capsys.readouterr()
    main(["study", "s.yaml", "--search"])
    assert "[1/" not in capsys.readouterr().out, "a search that is over makes no run"
    write(SMALL, search={"trials": 4, "space": {"team": {"low": 2, "high": 9}}}, methods={"m": []})
    assert "has a search with other settings" in refused(["study", "s.yaml", "--search"], capsys)
    for search, said in (
        ({"space": {}}, "expected flags, each with a list"),
        ({"spaec": {}}, "did you mean space?"),
        ({"space": {"a": {"low": 3}}}, "expected a list, or `low` and `high`"),
        ({"space": {"a": [1]}, "trials": 0}, "it must be a whole number"),
        ({"space": {"a": [1]}, "direction": "up"}, "expected maximize or minimize"),
        ({"space": {"a": [1]}, "metric": "return/x"}, "search.metric is return/x, which"),
    ):
        write(SMALL, "t.yaml", search=search)
        assert said in refused(["study", "t.yaml", "--search"], capsys)


@pytest.mark.parametrize("around", [False, True], ids=["no repository", "the repository of another project"])
def test_a_record_names_no_commit_of_an_installation(around, tmp_path, monkeypatch):
    if around:
        (tmp_path / "other.txt").touch()
        name = ["-c", "user.name=a", "-c", "user.email=a@b.c"]
        for words in (["init", "-q"], ["add", "."], [*name, "commit", "-qm", "first"]):
            subprocess.run(["git", "-C", str(tmp_path), *words], check=True)
    (tmp_path / "site/omg_lightning").mkdir(parents=True)
    monkeypatch.setattr("omg_lightning.commit.__file__", str(tmp_path / "site/omg_lightning/commit.py"))
    assert commit_of.__wrapped__() is None


# Shipped studies ----------------------------------------------------------------------------------------------------

STUDIES = sorted(path.name for path in (ROOT / "studies").glob("*.yaml"))


@pytest.mark.parametrize("name", STUDIES)
def test_every_shipped_study_is_found_from_anywhere(name, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    main(["study", f"studies/{name}", "--list"])
    lines = capsys.readouterr().out.splitlines()
    assert all(" to do    python -m omg_lightning fit --config " in line for line in lines[:-1])


@pytest.mark.slow
def test_the_settings_of_every_shipped_study_are_accepted(monkeypatch, capsys):
    """Runs with the same files and classes are tried together, for each takes a second."""
    monkeypatch.chdir(ROOT)
    named = ("--config", "--model.opponent", "--model.encoder", "--model.reward")  # these decide which keys there are
    together: dict[tuple, dict[str, str]] = {}
    for run in (run for name in STUDIES for run in read(f"studies/{name}", Path("runs")).runs):
        pairs = list(zip(run.settings[::2], run.settings[1::2], strict=True))
        alike = tuple(pair for pair in pairs if pair[0] in named)
        together.setdefault(alike, {}).update({key: value for key, value in pairs if key not in named})
    assert len(together) > 20
    for alike, others in together.items():
        with pytest.raises(SystemExit) as stop:
            main(["fit", *(word for pair in (*alike, *others.items()) for word in pair), "--print_config"])
        shown = capsys.readouterr()
        assert stop.value.code == 0, shown.err
        config = yaml.safe_load(shown.out)
        wanted = others | {key: value for key, value in alike if key != "--config" and alike[-1][0] != "--config"}
        for key, value in wanted.items():
            found = config
            for name in key.removeprefix("--").split("."):
                found = found["init_args"][name] if "init_args" in found else found[name]
            if key in named:
                found = found["class_path"].rpartition(".")[2]
            if "callbacks" not in key and "schedule" not in key:
                assert found == yaml.safe_load(value), key


# Targets ------------------------------------------------------------------------------------------------------------


def test_a_target_is_held_from_the_first_evaluation_after_which_none_is_below_it():
    curve = [[100, 200, 300, 400], [1.0, 2.0, 3.0, 4.0], [9.9, 9.8, 9.9, 10.0]]
    assert held_from(curve, 9.9) == (300, 3.0)
    assert held_from(curve, 9.8) == (100, 1.0)
    assert held_from(curve, 10.0) == (400, 4.0)
    assert held_from(curve, 10.1) is None


def test_a_run_that_never_holds_its_target_is_later_than_all_others():
    def run(value):
        return [[100, 200], [10 * value, 20 * value], [0.0, 5.0]]

    late = [[100, 200], [1, 2], [5.0, 0.0]]
    found = summarise([run(1), run(3), late], 5.0)
    assert (found["held"], found["runs"]) == (2, 3)
    assert found["seconds"] == {"values": [20, 60, None], "median": 60, "low": 20, "high": None}
    assert found["env_steps"]["values"] == [200, 200, None]
    most = summarise([run(1), late, None], 5.0)
    assert (most["held"], most["seconds"]["median"], most["seconds"]["low"]) == (1, None, 20)
    assert rows({"a": found, "b": most, "c": summarise([late], 5.0)})[1:] == [
        ["a", "5", "2 of 3", "60 [20, not held]", "0 k [0, not held]"],
        ["b", "5", "1 of 3", "not held [20, not held]", "not held [0, not held]"],
        ["c", "5", "0 of 1", "-", "-"],
    ]
    figure = time_figure({"a": found, "b": most})
    figure.draw_without_rendering()
    left, right = figure.axes
    assert [tick.get_text() for tick in left.get_yticklabels()] == ["a (5)", "b (5)"]
    assert [text.get_text() for text in left.texts] == ["1 not held", "2 not held"]
    medians = [line.get_xdata()[0] for line in left.lines if line.get_marker() == "|"]
    assert medians == [60]
    assert right.get_xlabel() == "environment steps until the target is held"


def test_a_study_with_targets_writes_times_beside_its_results(here, capsys, monkeypatch):
    curve = [[100, 200], [1.0, 2.0], [0.0, 4.0]]
    monkeypatch.setattr(runner, "curves_of", lambda folder: {"return/team_mean": curve})
    file = write(SMALL, targets={"g": 3.5})
    main(["study", file, "--out", "out", "--jobs", "1"])
    said = capsys.readouterr().out
    assert "2 of 2" in said
    found = json.loads(Path("out/s/time_to_target.json").read_text())
    assert found["settings"]["g"]["seconds"]["median"] == 2
    assert Path("out/s/time_to_target.png").is_file()
    assert json.loads(Path("out/s/study.json").read_text())["targets"] == {"g": 3.5}


def test_a_shipped_study_is_known_by_its_name(here):
    study = read("time_to_target", Path("out"))
    assert study.folder == Path("out/time_to_target")
    assert set(study.targets) == {run.game for run in study.runs}
