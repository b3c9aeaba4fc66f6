"""Configuration files that say something else than they do."""

import pytest
from command_line import SMOKE, refused

from omg_lightning.config_files import check_config
from omg_lightning.types import ConfigError

SECTIONS = ("model", "data", "data.training")
WRONG = {
    "number for a section": ("model: 3\n", "x.yaml, line 1: model is 3; expected indented settings"),
    "list for a section": ("data: {}\nmodel: [1]\n", "line 2: model is a list"),
    "empty section": ("model:\n", "model is empty"),
    "null for a section": ("data: null\n", "data is null"),
    "number for an inner section": ("data:\n  training: 3\n", "line 2: data.training is 3"),
    "key twice": ("model: {a: 1}\nmodel: {b: 1}\n", "x.yaml sets model twice, in lines 1 and 2: remove one of them"),
    "inner key twice": ("data:\n  num_envs: 2\n  num_envs: 3\n", "x.yaml sets data.num_envs twice, in lines 2 and 3"),
    "key twice in a list": ("trainer:\n  callbacks:\n  - {a: 1, a: 2}\n", r"trainer.callbacks\[\].a twice"),
    "text": ("hello\n", "x.yaml has no settings"),
    "list": ("- 1\n- 2\n", "x.yaml has no settings"),
    "no YAML": ("model: {a: [\n", "x.yaml, line 2 is not valid YAML"),
    "control characters": ("model: \x00\n", "x.yaml is not valid YAML"),
}


@pytest.mark.parametrize("fault", WRONG)
def test_a_wrong_file_is_refused_with_its_name_and_line(fault):
    content, words = WRONG[fault]
    with pytest.raises(ConfigError, match=words) as caught:
        check_config(content, "x.yaml", SECTIONS)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "content", ["", "# a comment\n", "model: {a: 1}\ndata: {training: {b: 2}}\n", "model: m.yaml\n"]
)
def test_a_valid_file_is_accepted(content):
    check_config(content, "x.yaml", SECTIONS)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"model: 3\n", "model is 3"),
        (b"data: {training: 3}\n", "data.training is 3"),
        (b"model: {learning_rate: 0.1, learning_rate: 0.2}\n", "model.learning_rate twice"),
        ("# gr\u00fc\u00dfe\n".encode("latin1"), "is not UTF-8 text"),
        (b"model: {learnin_rate: 0.1}\n", "did you mean --model.learning_rate?"),
    ],
)
def test_the_command_line_refuses_a_wrong_second_file(content, words, tmp_path, capsys):
    (tmp_path / "second.yaml").write_bytes(content)
    root = ["--trainer.default_root_dir", str(tmp_path / "runs")]
    assert words in refused(["fit", *SMOKE, "--config", str(tmp_path / "second.yaml"), *root], capsys)
    assert not (tmp_path / "runs").exists()
