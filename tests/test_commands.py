"""`test` and the commands around it, as a user types them, on the smoke configuration."""

import json
import runpy
import sys
from pathlib import Path

import pytest
import torch
from PIL import Image

from omg_lightning import adaptation, cli, crossplay, references
from omg_lightning.cli import main

ROOT = Path(__file__).parents[1]
SMOKE = ["--config", str(ROOT / "configs/smoke.yaml")]
TINY = ["--data.num_envs=4", "--data.batch_size=4", "--data.steps_per_epoch=1", "--data.val_episodes=4"]
TINY += ["--data.eval_episodes=8", "--model.hidden=16", "--model.simulations=2", "--model.trees=1"]
TINY += ["--trainer.max_epochs=2", "--data.offline_rounds=1", "--trainer.callbacks=[callbacks.BufferRefresh,"]
TINY[-1] += "callbacks.RunCheckpoint,callbacks.Report]"
PARTNERS = ("random", "nearest_stag", "nearest_hare", "switcher")


def run(command: str, folder: Path, *args: str) -> Path:
    """Runs a command in this process; returns its run folder."""
    main([command, *SMOKE, *TINY, "--trainer.default_root_dir", str(folder), *args])
    runs = folder / "lightning_logs"
    return max(runs.iterdir(), key=lambda path: int(path.name.removeprefix("version_")))


@pytest.fixture(scope="module")
def trained(tmp_path_factory) -> Path:
    return run("fit", tmp_path_factory.mktemp("trained")) / "last.ckpt"


@pytest.fixture(scope="module")
def known(tmp_path_factory, trained) -> Path:
    """A file of references, made as a user makes it."""
    folder = tmp_path_factory.mktemp("references")
    make_references(folder, trained)
    return folder / "r.json"


def make_references(folder: Path, trained: Path, *args: str) -> None:
    partners = json.dumps([f"checkpoint:{trained}"])
    own = ["--out", str(folder / "r.json"), "--partners", partners, "--seeds", "3", "4"]
    references.main([*SMOKE, *TINY, "--trainer.default_root_dir", str(folder), *own, *args])


@pytest.fixture
def here(tmp_path, monkeypatch) -> Path:
    """An empty working folder: `references.json` is looked for there."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def numbers(folder: Path) -> dict:
    return json.loads((folder / "metrics.json").read_text())


def refused(command, args, capsys) -> str:
    """The one line with which a command refuses."""
    with pytest.raises(SystemExit) as stop:
        command(args)
    assert stop.value.code == 2
    (line,) = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error: ")]
    return line


def test_test_runs_the_adaptation_protocol(trained, here, caplog):
    with caplog.at_level("INFO"):
        folder = run("test", here, "--ckpt_path", str(trained))
    found = numbers(folder)
    for partner in PARTNERS:
        assert found[f"adapt/{partner}_low"] <= found[f"adapt/{partner}_return"] <= found[f"adapt/{partner}_high"]
        assert found[f"return/{partner}_episodes"] >= 2 * found[f"adapt/{partner}_episodes"]
        assert f"adapt/{partner}_episode_1" in found
        assert Image.open(folder / f"adapt_{partner}.png").size[0] > 1000
    saved = json.loads((folder / "adaptation.json").read_text())
    assert list(saved["partners"]) == list(PARTNERS)
    assert (saved["seed"], saved["steps"], saved["game"]["num_hares"]) == (0, 80, 2)
    table = caplog.text[caplog.text.index("partner  ") :].splitlines()
    assert [line.split()[0] for line in table[2:6]] == list(PARTNERS)
    assert table[6] == "no score: no references in references.json: python -m omg_lightning.commands.references makes it"
    again = numbers(run("test", here, "--ckpt_path", str(trained)))
    assert all(again[name] == value for name, value in found.items() if name.startswith(("adapt/", "return/")))


def test_references_are_made_once_and_give_scores(trained, known, here, capsys):
    text = known.read_text()
    (game,) = json.loads(text)["games"].values()
    (entry,) = game["partners"].values()
    assert entry["best_response"] == pytest.approx(sum(entry["best_response_seeds"]) / 2)
    assert (entry["seeds"], entry["episodes"], entry["model"]["simulations"]) == ([3, 4], 8, 2)
    make_references(known.parent, trained, "--model.simulations=3")
    assert known.read_text() == text, "another training is no other game"
    assert "in " + str(known) + " already" in capsys.readouterr().out
    (here / "references.json").write_text(text.replace(f'"random": {entry["random"]}', '"random": -90.0'))
    partners = json.dumps(["random", f"checkpoint:{trained}"])
    found = numbers(run("test", here, "--ckpt_path", str(trained), f"--data.partners={partners}"))
    name = f"adapt/checkpoint_{trained.parent.name}_last.ckpt"
    assert found[f"{name}_best_response"] == pytest.approx(entry["best_response"])
    assert found[f"{name}_score"] == pytest.approx((found[f"{name}_return"] + 90) / (entry["best_response"] + 90))
    assert "adapt/random_score" not in found


def test_networks_may_learn_while_they_are_tested(trained, here):
    learns = ["--ckpt_path", str(trained), "--data.adaptation.networks=true", "--data.partners=[random,nearest_hare]"]
    found = numbers(run("test", here, *learns))
    assert found["adapt/nearest_hare_episodes"] >= 2


def test_a_test_that_is_cut_short_has_no_final_return(trained, here):
    partner = "--data.partners=[random]"
    folder = run("test", here, "--ckpt_path", str(trained), partner, "--trainer.limit_test_batches=0.5")
    assert "adapt/random_return" not in numbers(folder)
    assert json.loads((folder / "adaptation.json").read_text())["partners"]["random"]["final"] is None
    run("test", here, "--ckpt_path", str(trained), partner, "--trainer.fast_dev_run=true")
    assert len(list((here / "lightning_logs").iterdir())) == 1


def test_cross_play_is_a_matrix_with_a_heat_map(trained, here, capsys):
    settings = ["--config", str(trained.parent / "config.yaml"), "--episodes", "6", "--out", "deep/x"]
    crossplay.main([str(trained), f"again={trained.with_name('best.ckpt')}", *settings])
    found = json.loads((here / "deep/x.json").read_text())
    assert found["names"] == [f"{trained.parent.name}_last", "again"]
    assert found["episodes"] == 6
    assert [len(row) for row in found["focal"]] == [2, 2]
    assert all(
        t >= f
        for team, focal in zip(found["team"], found["focal"], strict=True)
        for t, f in zip(team, focal, strict=True)
    )
    assert all(Image.open(here / f"deep/{name}.png").size[0] > 500 for name in ("x", "x_team"))
    assert "cross-play" in capsys.readouterr().out


def test_cross_play_is_between_whom_it_says(trained, monkeypatch):
    """The same checkpoint twice, so that all entries are the same matches; then, who is asked to sit where."""
    parts = cli.run(["validate", *SMOKE, *TINY], cli.Parts)
    found = crossplay.cross_play(parts, [str(trained)] * 2, 5)
    assert found.shape == (2, 2, 5, 2)
    assert (found[0, 1] == found[1, 0]).all()
    assert (found[0, 0] == found[1, 1]).all()

    def told(game, lineup, learners, episodes, batch, generator, workers):
        assert set(learners) == set(lineup)
        return torch.tensor([[float(name.removeprefix("checkpoint:")) for name in lineup]] * episodes)

    monkeypatch.setattr(crossplay, "match", told)
    seats = crossplay.cross_play(parts, [str(trained)] * 3, 1)[:, :, 0]
    assert seats[2, 1].tolist() == [2, 1]
    assert seats[0, 2].tolist() == [0, 2]


def test_seeds_are_put_together_with_figures(trained, here, capsys):
    other, args = run("fit", here, "--seed_everything=1") / "last.ckpt", ["--data.partners=[random,nearest_hare]"]
    runs = [str(run("test", here, *args, "--ckpt_path", str(path))) for path in (trained, other)]
    adaptation.main([*runs, "--plot", "figures/a.png", "--out", "deep/s.json"])
    found = json.loads((here / "deep/s.json").read_text())
    entry = found["partners"]["random"]["return"]
    assert found["seeds"] == [0, 1], "of the training, not of the test"
    assert entry["mean"]["value"] == pytest.approx(sum(numbers(Path(run))["adapt/random_return"] for run in runs) / 2)
    assert {path.name for path in (here / "figures").iterdir()} == {"a.png", "a_random.png", "a_nearest_hare.png"}
    assert "2 seeds" in capsys.readouterr().out
    adaptation.main([runs[0]])
    assert "one seed: there is no interval" in capsys.readouterr().out


def test_mistakes_are_one_line(trained, known, here, capsys):
    other = [str(trained), *SMOKE, "--data.game.preset=4h1s_4x4", "--data.seats=[learner,learner,learner,learner]"]
    assert "observation_shape" in refused(crossplay.main, other, capsys)
    assert "nowhere.ckpt" in refused(crossplay.main, ["nowhere.ckpt", *SMOKE], capsys)
    assert "name the checkpoints first" in refused(crossplay.main, SMOKE, capsys)
    assert "--episodes is 0" in refused(crossplay.main, [str(trained), *SMOKE, "--episodes=0"], capsys)
    assert "bogus" in refused(references.main, [*SMOKE, "--partners", "[bogus]"], capsys)
    assert "name a checkpoint" in refused(references.main, [*SMOKE, "--partners", "[learner]"], capsys)
    assert "give a list of names" in refused(references.main, [*SMOKE, "--partners", "random"], capsys)
    assert "goalz" in refused(references.main, [*SMOKE, "--model.goalz=none"], capsys)
    assert "adaptation.json" in refused(adaptation.main, [str(here)], capsys)
    dev = [*SMOKE, *TINY, "--partners", "[random]", "--trainer.fast_dev_run=true"]
    assert "leave out --trainer.fast_dev_run" in refused(references.main, dev, capsys)
    (here / "broken.json").write_text("{")
    assert "not a file of references" in refused(references.main, [*SMOKE, "--out", "broken.json"], capsys)
    broken = ["test", *SMOKE, *TINY, "--ckpt_path", str(trained), "--data.references=broken.json"]
    assert "not a file of references" in refused(main, broken, capsys)
    short = ["test", *SMOKE, *TINY, "--ckpt_path", str(trained), "--data.adaptation.score_steps=9"]
    assert "score_steps is 9" in refused(main, short, capsys)


@pytest.mark.filterwarnings("ignore:.*found in sys.modules")  # as itself, it is not imported twice
@pytest.mark.parametrize("name", ["adaptation", "crossplay", "references"])
def test_the_modules_are_commands_that_explain_themselves(name, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["...", "--help"])
    with pytest.raises(SystemExit) as stop:
        runpy.run_module(f"omg_lightning.{name}", run_name="__main__")
    assert stop.value.code == 0
    assert f"python -m omg_lightning.{name}" in capsys.readouterr().out
