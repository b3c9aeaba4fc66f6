"""Exported agents: weights and a description without pickle, which give the same player back; and the zoo."""

import json
import runpy
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from command_line import FEW, ROOT, TINY, refused, run
from toys import same, tiny_agent

import omg_lightning
from omg_lightning import sources
from omg_lightning.cli import main
from omg_lightning.commands.export import export
from omg_lightning.commit import commit_of
from omg_lightning.envs import PettingZooEnv, stag_hunt_v0
from omg_lightning.games import StagHunt
from omg_lightning.training import StoredAgent, read_agent, restore, write_agent
from omg_lightning.training.packed import LEAST, pack, unpack
from omg_lightning.types import ConfigError

PACKAGE = Path(omg_lightning.__file__).parent


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """The run folder of a tiny `fit`."""
    return run("fit", tmp_path_factory.mktemp("exported"), *TINY, "--trainer.max_epochs=3")


@pytest.fixture
def exported(trained, tmp_path):
    """The folder that `export` made of it."""
    main(["export", str(trained), "--out", str(tmp_path / "agent"), "--command", "make it", "--commit", "abc"])
    return tmp_path / "agent"


def actions(agent):
    """What an agent does in one episode beside one that stands still, and the values of its searches."""
    env = stag_hunt_v0.parallel_env(preset="2h1s_4x4", max_cycles=10)
    observations, _ = env.reset(seed=1)
    agent.reset(env, 0)
    found = []
    while "hunter_0" in env.agents:
        found.append((agent.act(observations["hunter_0"]), agent.search.values))
        observations, *_ = env.step({"hunter_0": found[-1][0], "hunter_1": env.game.noop})
    return found


def test_an_exported_agent_plays_bit_by_bit_as_the_checkpoint(trained, exported, capsys):
    before, after = omg_lightning.load_agent(trained), omg_lightning.load_agent(exported)
    assert same(dict(before.module.state_dict()), dict(after.module.state_dict()))
    assert same(actions(before), actions(after))
    assert dict(before.module.hparams) == dict(after.module.hparams)


def test_small_weights_differ_by_half_a_step_at_most(trained, exported, tmp_path):
    main(["export", str(trained), "--out", str(tmp_path / "small"), "--small"])
    sizes = [(folder / "weights.safetensors").stat().st_size for folder in (exported, tmp_path / "small")]
    assert sizes[1] < sizes[0] / 2  # a quarter, but for the header and what stays exact in this small network
    assert json.loads((tmp_path / "small/agent.json").read_text())["format"] == 2
    before, after = (omg_lightning.load_agent(folder).module.state_dict() for folder in (exported, tmp_path / "small"))
    assert {name: x.dtype for name, x in before.items()} == {name: x.dtype for name, x in after.items()}
    for name, value in before.items():
        if value.ndim < 2 or value.numel() < LEAST:
            assert same(after[name], value), name
        else:
            step = value.flatten(1).abs().amax(1) / 127
            assert bool(((after[name] - value).flatten(1).abs() <= 0.501 * step[:, None]).all()), name
    assert not same(dict(before), dict(after))
    export(str(tmp_path / "small"), tmp_path / "again", small=True)
    assert (tmp_path / "again/weights.safetensors").read_bytes() == (
        tmp_path / "small/weights.safetensors"
    ).read_bytes()


def test_packed_numbers_by_hand():
    row = [12.7, -6.35, 0.04] + [0.0] * 509  # a step is 0.1: 127, -63.5 and 0.4 steps
    weights = {"a": torch.tensor([row, [0.0] * 512]), "b": torch.arange(3.0)}
    packed = pack(weights)
    assert packed["a"].dtype == torch.int8
    assert packed["a"][0, :4].tolist() == [127, -64, 0, 0]
    torch.testing.assert_close(packed["a/scale"], torch.tensor([0.1, 0.0]))
    torch.testing.assert_close(unpack(packed)["a"][:, :3], torch.tensor([[12.7, -6.4, 0.0], [0.0, 0.0, 0.0]]))
    assert same(packed["b"], weights["b"])


@pytest.mark.parametrize("opponent", ["Direct", "Declared", "Codebook", "Subgoal"])
def test_every_opponent_model_and_space_comes_back(opponent, tmp_path):
    for game in (StagHunt("2h1s_4x4"), *([PettingZooEnv("parallel_toys.Toy")] if opponent == "Codebook" else [])):
        from omg_lightning.algorithms import PPO

        module = tiny_agent(game, opponent, algorithm=PPO)
        stored = StoredAgent(dict(module.hparams), module.state_dict(), {"seed": 3})
        write_agent(stored, tmp_path / type(game).__name__)
        found = read_agent(tmp_path / type(game).__name__)
        assert found.made == {"seed": 3}
        assert same(dict(found.weights), dict(stored.weights))
        assert restore(found).game == replace(module.game, observation_space=restore(found).game.observation_space)


def test_the_description_records_how_the_agent_was_made(trained, exported):
    about = json.loads((exported / "agent.json").read_text())
    made, numbers = about["made"], json.loads((trained / "metrics.json").read_text())
    assert (made["command"], made["commit"]) == ("make it", "abc")
    assert (made["seed"], made["game"]) == (0, "StagHunt 2h1s_4x4")
    assert made["version"] == omg_lightning.__version__
    assert made["metrics"]["return/team_mean"] == numbers["return/team_mean"]
    main(["export", str(trained), "--out", str(exported.parent / "other")])
    recorded = json.loads((exported.parent / "other/agent.json").read_text())["made"]["commit"]
    assert (trained / "config.yaml").read_text().splitlines()[0] == f"# commit of omg_lightning: {recorded}"
    assert recorded == commit_of()
    assert omg_lightning.load_agent(exported).made == made
    assert str(trained.parent) not in "".join(path.read_text() for path in exported.glob("*.[jy]*"))
    assert {path.name for path in exported.iterdir()} == {"agent.json", "weights.safetensors", "config.yaml"}


def test_an_exported_agent_exports_again(exported, tmp_path):
    export(str(exported), tmp_path / "again")
    for name in ("agent.json", "config.yaml", "weights.safetensors"):
        assert (tmp_path / "again" / name).read_bytes() == (exported / name).read_bytes()


def test_damaged_and_foreign_files_are_refused_in_one_line(exported, tmp_path):
    weights, about = exported / "weights.safetensors", exported / "agent.json"
    data, text = weights.read_bytes(), about.read_text()

    def says(words):
        with pytest.raises(ConfigError, match=words) as caught:
            omg_lightning.load_agent(exported)
        assert "\n" not in str(caught.value)

    weights.write_bytes(data[:-9] + bytes([data[-9] ^ 1]) + data[-8:])
    says("weights.safetensors is damaged, or of another agent")
    weights.write_bytes(data[:100])
    says("weights.safetensors is damaged, or of another agent")
    weights.unlink()
    says("has no weights.safetensors: copy the whole folder")
    weights.write_bytes(data)
    for wrong in ("", "{", "[1]", '{"format": 1}', '{"format": 1, "made": {}, "sha256": "", "settings": {"spec": 3}}'):
        about.write_text(wrong)
        says(r"agent.json is (not the description|JSON, but not the description)")
    about.write_text(json.dumps({**json.loads(text), "format": 99}))
    says("has format 99, but this version reads up to 2: update")
    whole = json.loads(text)
    for key, value, words in (
        ("networks", {"hidden": 7}, "the checkpoint's .* but this run has"),
        ("networks", {"width": 7}, "do not fit this version"),
        ("learning_rate", "x", "do not fit this version"),
        ("spec", {"name": "StagHunt"}, "do not fit this version"),
    ):
        about.write_text(json.dumps({**whole, "settings": {**whole["settings"], key: value}}))
        says(words)


RUN: list[str] = []  # what `Trap` was made with


class Trap:
    """Something that a foreign file could name to have it run."""

    def __init__(self, word: str = "") -> None:
        RUN.append(word)


@pytest.mark.parametrize("part", ["opponent", "algorithm", "encoder", "reward"])
def test_an_untrusted_file_can_only_run_classes_of_agents(part, exported):
    about = exported / "agent.json"
    whole = json.loads(about.read_text())
    whole["settings"][part] = {"class_path": "test_export.Trap", "init_args": {"word": "run"}}
    about.write_text(json.dumps(whole))
    with pytest.raises(ConfigError, match=r"test_export\.Trap is not a subclass of "):
        omg_lightning.load_agent(exported)
    assert RUN == []


def test_export_never_overwrites_a_folder(trained, exported, tmp_path, capsys):
    assert "already exists" in refused(["export", str(trained), "--out", str(exported)], capsys)
    assert "no checkpoint at nowhere" in refused(["export", "nowhere", "--out", str(tmp_path / "new")], capsys)
    assert "not allowed with argument" in refused(["export", str(trained), "--out", "a", "--zoo", "b"], capsys)
    assert "expected letters" in refused(["export", str(trained), "--zoo", "../up"], capsys)
    assert not (tmp_path / "new").exists()


def test_the_zoo_is_listed_and_its_agents_load_by_name(trained, tmp_path, monkeypatch, capsys):
    for module in ("omg_lightning.commands.export", "omg_lightning.commands.zoo", sources):  # imports before it patches
        monkeypatch.setattr(f"{module if isinstance(module, str) else module.__name__}.ZOO_FOLDER", tmp_path / "zoo")
    main(["zoo"])
    main(["export", str(trained), "--zoo", "small", "--command", "python -m omg_lightning fit --config mine.yaml"])
    capsys.readouterr()
    main(["zoo"])
    head, _, row, _, _, _, command, _, total = capsys.readouterr().out.splitlines()
    assert head.split()[:2] == ["name", "game"]
    assert row.split()[:5] == ["zoo:small", "StagHunt", "2h1s_4x4", "Subgoal", "BestResponseSearch"]
    assert command.split()[0] == "zoo:small"
    assert command.split()[-2:] == ["--config", "mine.yaml"]
    assert total == "1 agents, 0.1 MiB"
    assert same(actions(omg_lightning.load_agent("zoo:small")), actions(omg_lightning.load_agent(trained)))
    with pytest.raises(ConfigError, match="the zoo has no agent 'big': expected one of small"):
        omg_lightning.load_agent("zoo:big")


def test_every_agent_of_the_package_plays_its_own_game_and_all_are_small(capsys):
    assert {"base", "matrix_ppo", "4h1s_4x4"} <= set(sources.zoo_names())
    for name in sources.zoo_names():
        agent = omg_lightning.load_agent(f"zoo:{name}")
        game = agent.game
        state = game.reset(1, torch.Generator().manual_seed(1))
        agent.reset(game, 0, batch_size=1)
        assert bool(game.legal(state)[0, 0, agent.act(state)])
        assert agent.made["metrics"]["return/episodes"] >= 32
        assert agent.made["commit"].isalnum()  # nothing was changed after the commit
        assert agent.made["command"].startswith("python -m omg_lightning fit --config configs/")
        metrics = agent.made["metrics"]  # of the weights as they are stored, and of the run before they were rounded
        assert metrics["return/team_low"] <= agent.made["return_of_run"] <= metrics["return/team_high"]
    files = [path for path in (PACKAGE / "zoo").rglob("*") if path.is_file()]
    assert sum(path.stat().st_size for path in files) <= 10 * 2**20
    main(["zoo"])
    assert max(map(len, capsys.readouterr().out.splitlines())) <= 100
    texts = [path.read_text() for path in files if path.suffix in (".json", ".yaml")]
    assert len(texts) == 2 * len(sources.zoo_names())
    assert not any(place in text for text in texts for place in ("/work", "/home", "/tmp"))


def test_every_configuration_has_an_agent_or_a_reason_for_none():
    table = runpy.run_path(str(ROOT / "benchmarks/zoo.py"))
    named = {Path(word).stem for options in table["AGENTS"].values() for word in options.split() if word != "--config"}
    assert not named & (set(table["WITHOUT"]) - {"ppo"})
    assert named | set(table["WITHOUT"]) == {path.stem for path in (ROOT / "configs").glob("*.yaml")}
    assert set(sources.zoo_names()) == set(table["AGENTS"]), "each is in the package"


def test_a_finished_run_enters_the_zoo_only_with_the_commit_that_made_it(trained, tmp_path):
    run_of = runpy.run_path(str(ROOT / "benchmarks/zoo.py"))["run_of"]
    found = Path(shutil.copytree(trained, tmp_path / "base/lightning_logs/version_0"))
    config = found / "config.yaml"
    config.write_text(config.read_text().replace(f"{commit_of()}\n", "recorded\n", 1))
    assert run_of("base", tmp_path, "other") == (found, "recorded")
    config.write_text(config.read_text().split("\n", 1)[1])  # as an earlier version wrote it
    assert run_of("base", tmp_path, "other") == (found, "other")
    with pytest.raises(SystemExit, match="does not record the commit that made it: give it with --commit"):
        run_of("base", tmp_path, None)
    with pytest.raises(SystemExit, match="was made with changes after the commit abc: train it again"):
        run_of("base", tmp_path, "abc+")
    (found.parent / "version_1").mkdir()
    with pytest.raises(SystemExit, match="has 2 runs: expected one; move the others"):
        run_of("base", tmp_path, "other")
    (found.parent / "version_1").rmdir()
    (found / "metrics.json").unlink()
    with pytest.raises(SystemExit, match=r"has no metrics\.json: its run is not over"):
        run_of("base", tmp_path, "other")


@pytest.mark.slow
def test_a_finished_run_enters_the_zoo_only_with_the_options_of_its_agent(trained, tmp_path):
    check = runpy.run_path(str(ROOT / "benchmarks/zoo.py"))["check_options"]
    message = r"version_0 has trainer\.max_epochs \d+, but base has \d+ now: train it again"
    with pytest.raises(SystemExit, match=message):
        check("base", trained)
    words = [sys.executable, "-m", "omg_lightning", "fit", "--config", "configs/base.yaml", "--print_config"]
    own = subprocess.run(words, cwd=ROOT, check=True, capture_output=True, text=True).stdout
    (tmp_path / "config.yaml").write_text(own.replace("default_root_dir: null", "default_root_dir: elsewhere"))
    check("base", tmp_path)


@pytest.mark.slow
def test_an_agent_of_the_zoo_has_the_returns_of_its_stored_weights(trained, tmp_path):
    table = runpy.run_path(str(ROOT / "benchmarks/zoo.py"))
    table["write"].__globals__["ZOO_FOLDER"] = tmp_path
    table["write"]("base", str(trained), "abc")
    made = json.loads((tmp_path / "base/agent.json").read_text())["made"]
    assert (made["commit"], made["command"]) == ("abc", "python -m omg_lightning fit --config configs/base.yaml")
    assert made["return_of_run"] == json.loads((trained / "metrics.json").read_text())["return/team_mean"]
    found = table["evaluate"](tmp_path / "base")
    assert made["metrics"]["return/team_mean"] == found["return/team_mean"]
    assert 0 < (tmp_path / "base/weights.safetensors").stat().st_size < 50_000


@pytest.mark.slow
@pytest.mark.parametrize("name", sources.zoo_names())
def test_every_agent_of_the_zoo_plays_an_episode(name):
    """Seat 0 is the agent, and the other seats play at random."""
    agent = omg_lightning.load_agent(f"zoo:{name}")
    game, generator = agent.game, torch.Generator().manual_seed(0)
    state, steps = game.reset(1, generator), 0
    agent.reset(game, 0, batch_size=1)
    while bool(game.active(state)[0, 0]):
        joint = torch.multinomial(game.legal(state)[0].float(), 1, generator=generator).T
        joint[:, 0] = agent.act(state)
        assert bool(game.legal(state)[0, 0, joint[0, 0]])
        agent.observe(joint)
        state, steps = game.step(state, joint)[0], steps + 1
    assert 0 < steps <= game.max_steps


@pytest.mark.slow
def test_an_exported_agent_sits_in_seats_and_in_crossplay(trained, exported, tmp_path):
    seats = f"--data.seats=[learner, checkpoint:{exported}]"
    assert (run("fit", tmp_path / "fit", *TINY, seats, "--trainer.max_epochs=3") / "metrics.json").is_file()
    settings = ["--config", str(trained / "config.yaml"), "--out", str(tmp_path / "cross"), "--episodes", "2"]
    main(["crossplay", str(exported), str(trained), *settings, FEW])
    found = json.loads((tmp_path / "cross.json").read_text())
    assert found["names"] == ["agent", trained.name]
    assert found["focal"][0] == found["focal"][1]  # both are the same agent
