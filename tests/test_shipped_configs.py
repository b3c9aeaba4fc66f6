"""Shipped configurations are found by name from any folder; a file of the user's comes first."""

from pathlib import Path

import pytest

from omg_lightning.cli import main
from omg_lightning.config_files import find_shipped, shipped_configs

CONFIGS = Path(__file__).parents[1] / "configs"


@pytest.fixture(autouse=True)
def users_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_every_file_of_the_configs_folder_is_shipped():
    assert shipped_configs() == {path.name: path for path in CONFIGS.glob("*.yaml")}
    assert "base.yaml" in shipped_configs()


@pytest.mark.parametrize("value", ["base.yaml", "./base.yaml", "configs/base.yaml", "./configs/base.yaml"])
@pytest.mark.parametrize("words", [["fit", "--config", "{}"], ["fit", "--config={}"], ["fit", "-c", "{}"]])
def test_a_name_that_the_folder_lacks_is_the_shipped_file(words, value, capsys):
    found = find_shipped([word.format(value) for word in words])
    assert found == [word.format(CONFIGS / "base.yaml") for word in words]
    assert capsys.readouterr().err == f"--config {value} is {CONFIGS / 'base.yaml'}\n"


def test_the_users_own_file_is_read_where_there_is_one(users_folder, capsys):
    (users_folder / "base.yaml").write_text("seed_everything: 3\n")
    words = ["fit", "--config", "base.yaml"]
    assert find_shipped(words) == words
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize(
    "value", ["mine/base.yaml", "/base.yaml", "unknown.yaml", "../configs/base.yaml", "{model: {}}"]
)
def test_other_paths_and_other_options_stay_as_they_are(value):
    words = ["fit", "--config", value, "--data.game", "base.yaml"]
    assert find_shipped(words) == words


def test_a_command_finds_the_shipped_configuration_outside_of_the_checkout(capsys):
    with pytest.raises(SystemExit) as stop:
        main(["fit", "--config", "configs/smoke.yaml", "--print_config"])
    assert stop.value.code == 0
    assert "preset: 2h1s_4x4" in capsys.readouterr().out
