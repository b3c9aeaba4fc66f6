"""`test` and the commands around it, as a user types them, on the smoke configuration."""

import json
from pathlib import Path

import pytest
import torch
from command_line import DATA, FEW, QUIET, SMOKE, newest, numbers, refused
from PIL import Image

from omg_lightning import cli
from omg_lightning.cli import main
from omg_lightning.commands import crossplay

TINY = [*DATA, "--data.evaluation.episodes=8", "--model.algorithm.simulations=2", "--model.algorithm.trees=1"]
TINY += ["--trainer.max_epochs=2", "--data.offline.rounds=1", FEW, *QUIET]
PARTNERS = ("random", "nearest_stag", "nearest_hare", "switcher")


def run(command: str, folder: Path, *args: str) -> Path:
    """Runs a command in this process; returns its run folder."""
    main([command, *SMOKE, *TINY, "--trainer.default_root_dir", str(folder), *args])
    return newest(folder)


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
    main(["references", *SMOKE, *TINY, "--trainer.default_root_dir", str(folder), *own, *args])


@pytest.fixture
def here(tmp_path, monkeypatch) -> Path:
    """An empty working folder: `references.json` is looked for there."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


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
    assert (saved["seed"], saved["steps"]) == (0, 80)
    assert (saved["game"]["name"], saved["game"]["num_hares"]) == ("StagHunt", 2)
    table = caplog.text[caplog.text.index("partner  ") :].splitlines()
    assert [line.split()[0] for line in table[2:6]] == list(PARTNERS)
    assert table[6].split()[0] == "all"
    assert f"{found['adapt/all_return']:.2f}" in table[6]
    assert found["adapt/all_return"] == pytest.approx(sum(found[f"adapt/{x}_return"] for x in PARTNERS) / len(PARTNERS))
    assert table[7] == "no score: no references in references.json: python -m omg_lightning references makes it"


@pytest.mark.slow
def test_two_tests_of_a_checkpoint_find_the_same(trained, here):
    args = ["--ckpt_path", str(trained), "--data.partners=[random,switcher]", "--data.adaptation.score_steps=35"]
    one, two = (numbers(run("test", here, *args, "--data.adaptation.steps=35")) for _ in range(2))
    named = [name for name in one if name.startswith(("adapt/", "return/"))]
    assert named
    assert all(one[name] == two[name] for name in named)


@pytest.mark.slow
def test_references_are_made_once_and_give_scores(trained, known, here, capsys):
    text = known.read_text()
    (game,) = json.loads(text)["games"].values()
    (entry,) = game["partners"].values()
    assert entry["best_response"] == pytest.approx(sum(entry["best_response_seeds"]) / 2)
    assert (entry["seeds"], entry["episodes"]) == ([3, 4], 8)
    assert entry["model"]["algorithm"]["init_args"]["simulations"] == 2
    make_references(known.parent, trained, "--model.algorithm.simulations=3")
    assert known.read_text() == text, "another training is no other game"
    assert "in " + str(known) + " already" in capsys.readouterr().out
    (here / "references.json").write_text(text.replace(f'"random": {entry["random"]}', '"random": -90.0'))
    partners = json.dumps(["random", f"checkpoint:{trained}"])
    found = numbers(run("test", here, "--ckpt_path", str(trained), f"--data.partners={partners}"))
    name = f"adapt/checkpoint_{trained.parent.name}_last.ckpt"
    assert found[f"{name}_best_response"] == pytest.approx(entry["best_response"])
    assert found[f"{name}_score"] == pytest.approx((found[f"{name}_return"] + 90) / (entry["best_response"] + 90))
    assert "adapt/random_score" not in found


@pytest.mark.slow
def test_references_evaluate_a_best_response_with_its_partner_for_any_evaluation_seats(here):
    found = []
    for seats in ("null", "[nearest_hare,nearest_hare]"):
        flags = ["--partners", "[random]", "--out", f"{len(found)}.json", f"--data.evaluation.seats={seats}"]
        main(["references", *SMOKE, *TINY, "--trainer.default_root_dir", str(here), *flags])
        (game,) = json.loads((here / flags[3]).read_text())["games"].values()
        found.append(game["partners"]["random"]["best_response"])
    assert found[0] == found[1]


@pytest.mark.slow
def test_references_are_made_of_unseen_kinds_and_scores_of_groups_follow(trained, here):
    known = ["--data.partners=[random]", "--data.adaptation.unseen=[nearest_hare]", "--data.offline.rounds=0"]
    main(["references", *SMOKE, *TINY, "--trainer.default_root_dir", str(here), *known])
    path = here / "references.json"
    (game,) = json.loads(path.read_text())["games"].values()
    assert set(game["partners"]) == {"random", "nearest_hare"}
    for entry in game["partners"].values():
        entry |= {"random": -1.0, "best_response": 4.0}
    path.write_text(json.dumps({"games": dict.fromkeys(json.loads(path.read_text())["games"], game)}))
    found = numbers(run("test", here, "--ckpt_path", str(trained), *known))
    for name in ("random", "nearest_hare", "all"):
        assert found[f"adapt/{name}_score"] == pytest.approx((found[f"adapt/{name}_return"] + 1) / 5)
        assert found[f"adapt/{name}_br_prox"] == pytest.approx(found[f"adapt/{name}_return"] / 4)


@pytest.mark.slow
def test_networks_may_learn_while_they_are_tested(trained, here):
    learns = ["--ckpt_path", str(trained), "--data.adaptation.networks=true", "--data.partners=[random,nearest_hare]"]
    found = numbers(run("test", here, *learns))
    assert found["adapt/nearest_hare_episodes"] >= 2


@pytest.mark.slow
def test_a_test_that_is_cut_short_has_no_final_return(trained, here):
    partner = "--data.partners=[random]"
    folder = run("test", here, "--ckpt_path", str(trained), partner, "--trainer.limit_test_batches=0.5")
    assert "adapt/random_return" not in numbers(folder)
    assert json.loads((folder / "adaptation.json").read_text())["partners"]["random"]["final"] is None
    run("test", here, "--ckpt_path", str(trained), partner, "--trainer.fast_dev_run=true")
    assert len(list((here / "lightning_logs").iterdir())) == 1


def test_cross_play_is_a_matrix_with_a_heat_map(trained, here, capsys):
    settings = ["--config", str(trained.parent / "config.yaml"), "--episodes", "6", "--out", "deep/x"]
    main(["crossplay", str(trained), f"again={trained.with_name('best.ckpt')}", *settings])
    found = json.loads((here / "deep/x.json").read_text())
    assert found["names"] == [f"{trained.parent.name}_last", "again"]
    assert found["episodes"] == 6
    assert found["game"]["name"] == "StagHunt"
    assert [len(row) for row in found["focal"]] == [2, 2]
    assert all(
        t >= f
        for team, focal in zip(found["team"], found["focal"], strict=True)
        for t, f in zip(team, focal, strict=True)
    )
    assert all(Image.open(here / f"deep/{name}.png").size[0] > 500 for name in ("x", "x_team"))
    assert "cross-play" in capsys.readouterr().out


def test_cross_play_seats_the_first_checkpoint_in_seat_0_and_the_second_in_all_others(trained, monkeypatch):
    """The same checkpoint twice, so that all entries are the same matches; then, who is asked to sit where."""
    networks = cli.run(["validate", *SMOKE, *TINY], cli.Networks)
    found = crossplay.cross_play(networks, [str(trained)] * 2, 5)
    assert found.shape == (2, 2, 5, 2)
    assert (found[0, 1] == found[1, 0]).all()
    assert (found[0, 0] == found[1, 1]).all()

    def told(env, lineup, learners, episodes, batch, generator, workers):
        assert set(learners) == set(lineup)
        return torch.tensor([[float(name.removeprefix("checkpoint:")) for name in lineup]] * episodes)

    monkeypatch.setattr(crossplay, "match", told)
    seats = crossplay.cross_play(networks, [str(trained)] * 3, 1)[:, :, 0]
    assert seats[2, 1].tolist() == [2, 1]
    assert seats[0, 2].tolist() == [0, 2]


@pytest.mark.slow
def test_adaptation_combines_seeds_with_figures(trained, here, capsys):
    other, args = run("fit", here, "--seed_everything=1") / "last.ckpt", ["--data.partners=[random,nearest_hare]"]
    runs = [str(run("test", here, *args, "--ckpt_path", str(path))) for path in (trained, other)]
    main(["adaptation", *runs, "--plot", "figures/a.png", "--out", "deep/s.json"])
    found = json.loads((here / "deep/s.json").read_text())
    entry = found["partners"]["random"]["return"]
    assert found["seeds"] == [0, 1], "of the training, not of the test"
    assert entry["mean"]["value"] == pytest.approx(sum(numbers(Path(run))["adapt/random_return"] for run in runs) / 2)
    assert {path.name for path in (here / "figures").iterdir()} == {"a.png", "a_scores.png"}
    assert "2 seeds" in capsys.readouterr().out
    main(["adaptation", runs[0]])
    assert "one seed: no interval" in capsys.readouterr().out
    assert "cannot draw a.bogus" in refused(["adaptation", runs[0], "--plot", "a.bogus"], capsys)


def test_mistakes_are_one_line(trained, known, here, capsys):
    other = [str(trained), *SMOKE, "--data.game.preset=4h1s_4x4", "--data.seats=[learner,learner,learner,learner]"]
    assert "observation_space" in refused(["crossplay", *other], capsys)
    assert "nowhere.ckpt" in refused(["crossplay", "nowhere.ckpt", *SMOKE], capsys)
    assert "give the checkpoints first" in refused(["crossplay", *SMOKE], capsys)
    assert "--episodes is 0" in refused(["crossplay", str(trained), *SMOKE, "--episodes=0"], capsys)
    assert "invalid int value: 'many'" in refused(["crossplay", str(trained), *SMOKE, "--episodes=many"], capsys)
    assert "bogus" in refused(["references", *SMOKE, "--partners", "[bogus]"], capsys)
    assert "give one checkpoint:PATH" in refused(["references", *SMOKE, "--partners", "[learner]"], capsys)
    for text in ("random", "[", "[1]", "[]"):
        assert "give a list of names" in refused(["references", *SMOKE, "--partners", text], capsys)
    assert "goalz" in refused(["references", *SMOKE, "--model.goalz=none"], capsys)
    assert "Codebook" in refused(["references", *SMOKE, "--model.opponent=Codebok"], capsys)
    assert "adaptation.json" in refused(["adaptation", str(here)], capsys)
    assert "RUN" in refused(["adaptation"], capsys)
    dev = ["references", *SMOKE, *TINY, "--partners", "[random]", "--trainer.fast_dev_run=true"]
    assert "--trainer.fast_dev_run is set, but references need complete runs: leave it out" in refused(dev, capsys)
    (here / "broken.json").write_text("{")
    assert "not a file of references" in refused(["references", *SMOKE, "--out", "broken.json"], capsys)
    broken = ["test", *SMOKE, *TINY, "--ckpt_path", str(trained), "--data.adaptation.references=broken.json"]
    assert "not a file of references" in refused(broken, capsys)
    short = ["test", *SMOKE, *TINY, "--ckpt_path", str(trained), "--data.adaptation.score_steps=9"]
    assert "score_steps is 9" in refused(short, capsys)


@pytest.mark.parametrize("name", ["adaptation", "compare", "crossplay", "references", "study", "value"])
def test_every_command_has_a_help_text_with_an_example(name, capsys):
    with pytest.raises(SystemExit) as stop:
        main([name, "--help"])
    assert stop.value.code == 0
    shown = capsys.readouterr().out
    assert shown.startswith(f"usage: python -m omg_lightning {name} ")
    assert f"    python -m omg_lightning {name} " in shown, "an example"
