"""The documentation: complete tables, scripts that run, a site that builds and loads nothing from elsewhere."""

import importlib
import os
import re
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import yaml
from pages import DOCS, ROOT, blocks, file_name, write_files

import omg_lightning
from omg_lightning.choices import CHOICES, known_names
from omg_lightning.config_files import shipped_configs

DOCS_EXTRA = "needs pip install 'omg-lightning[docs]'"


@pytest.fixture
def tools(monkeypatch):
    """A module of docs/tools by name."""
    monkeypatch.syspath_prepend(str(DOCS / "tools"))
    return importlib.import_module


# Tables -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("page", "names"),
    [
        ("games.md", [name for name in known_names("data.game") if name != "RulesEnv"]),
        ("opponent_models.md", known_names("model.opponent")),
        ("benchmarks.md", sorted(path.name for path in (ROOT / "benchmarks").glob("*.py"))),
    ],
)
def test_the_table_of_a_page_has_a_row_for_each(page, names):
    rows = re.findall(r"^\| `([A-Z]\w+|\w+\.py)` \|", (DOCS / page).read_text(encoding="utf-8"), flags=re.MULTILINE)
    assert sorted(rows) == sorted(names), f"each has one row in docs/{page}"


def test_configuration_lists_every_choice_every_shipped_file_and_nested_keys(tools):
    page = tools("configuration").page()
    for key in CHOICES:
        for name in known_names(key):
            assert f"### {key} {name}\n" in page
    for name in shipped_configs():
        assert f"| `{name}` | " in page
    assert "| `--model.opponent.num_codes` | `int` | `8` | G, the largest number of learned goals. |" in page
    assert "| `--data.num_envs` | `int` | `64` | " in page
    assert "| `--model.encoder` | a class | `MLP` | " in page
    assert "--model.spec" not in page, "linked values are not set by users"


def test_every_module_with_public_names_has_an_api_page(tools):
    pytest.importorskip("mkdocs", reason=DOCS_EXTRA)
    found = {
        ".".join(path.relative_to(ROOT).parent.parts)
        for folder in ("omg_lightning", "callbacks")
        for path in (ROOT / folder).rglob("__init__.py")
        if re.search(r"^__all__ = ", path.read_text(), re.MULTILINE)
    }
    assert found <= set(tools("hooks").public_modules())


# Files of the project -----------------------------------------------------------------------------------------------


def test_relative_links_of_pages_outside_of_the_site_name_files_that_exist():
    for page in (ROOT / "README.md", ROOT / "CONTRIBUTING.md"):
        links = re.findall(r"\]\((?!https?:)([^)#]+)", page.read_text(encoding="utf-8"))
        assert links
        assert [link for link in links if not (ROOT / link).exists()] == []


def test_the_version_is_the_same_everywhere():
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    project = re.search(r'^version = "(.*)"$', (ROOT / "pyproject.toml").read_text(), re.MULTILINE)
    assert citation["version"] == omg_lightning.__version__ == project[1]
    assert f"## {project[1]}" in (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")


def test_issue_forms_have_what_github_requires():
    forms = sorted((ROOT / ".github/ISSUE_TEMPLATE").glob("*.yml"))
    assert [path.stem for path in forms] == ["bug", "feature", "question"]
    for path in forms:
        form = yaml.safe_load(path.read_text(encoding="utf-8"))
        assert form["name"]
        assert form["description"]
        for field in form["body"]:
            assert field["type"] in ("textarea", "checkboxes")
            assert field["attributes"]["label"]
            assert "options" in field["attributes"] or field["type"] == "textarea"


# Scripts for clusters: a stand-in takes the place of the training command --------------------------------------------


@pytest.fixture
def users_folder(tmp_path):
    """A folder with the scripts of the page, and a `python` that writes down its arguments instead of running them."""
    write_files("clusters.md", tmp_path)
    (tmp_path / ".venv/bin").mkdir(parents=True)
    (tmp_path / ".venv/bin/activate").write_text(f'PATH="{tmp_path}/bin:$PATH"\n')
    (tmp_path / "bin").mkdir()
    python = tmp_path / "bin/python"
    python.write_text(f'#!/bin/bash\necho "$@" >> "{tmp_path}/calls"\n')
    python.chmod(0o755)
    return tmp_path


def calls(folder: Path, script: str, **variables: str) -> list[str]:
    """The training commands that a script gives."""
    path = f"{folder}/bin:{os.environ['PATH']}"
    subprocess.run(["bash", script], cwd=folder, check=True, env={**os.environ, "PATH": path, **variables})
    lines = (folder / "calls").read_text().splitlines()
    (folder / "calls").unlink()
    return lines


FIT = "-m omg_lightning fit --config configs/base.yaml "


def test_tasks_of_the_slurm_array_are_all_methods_and_seeds_once(users_folder):
    header = re.findall(r"^#SBATCH --array=0-(\d+)$", (users_folder / "array.sh").read_text(), re.MULTILINE)
    tasks = [calls(users_folder, "array.sh", SLURM_ARRAY_TASK_ID=str(task)) for task in range(int(header[0]) + 1)]
    assert tasks == [
        [f"{FIT}--model.opponent {method} --seed_everything {seed} --trainer.default_root_dir runs/{method}_{seed}"]
        for method in ("Direct", "Declared")
        for seed in range(3)
    ]


def test_the_sweep_runs_each_combination_once_in_a_root_of_its_own(users_folder):
    lines = calls(users_folder, "sweep.sh")
    settings = {re.search(r"rate (\S+) .*trees (\d) --seed_everything (\d)", line).groups() for line in lines}
    assert len(lines) == len(settings) == 18
    assert len({line.split("--trainer.default_root_dir ")[1].split()[0] for line in lines}) == 18
    assert all(line.startswith(FIT) for line in lines)


def test_the_ray_script_runs_each_method_and_seed_once(monkeypatch, capsys):
    (code,) = [block for block in blocks("clusters.md", "python") if file_name(block) == "many_runs.py"]
    started = []

    def remote(**resources):
        assert resources == {"num_cpus": 1}
        return lambda fn: SimpleNamespace(remote=fn)

    ray = SimpleNamespace(init=lambda: None, remote=remote, get=list)
    monkeypatch.setitem(sys.modules, "ray", ray)
    monkeypatch.setattr(
        subprocess, "run", lambda words: started.append(words) or SimpleNamespace(returncode=len(started) - 1)
    )
    exec(compile(code, "many_runs.py", "exec"), {})
    assert [" ".join(words[1:]) for words in started] == [
        f"{FIT}--model.opponent {method} --seed_everything {seed} --trainer.default_root_dir runs/{method}_{seed} "
        "--trainer.enable_progress_bar false"
        for method in ("Direct", "Declared")
        for seed in range(3)
    ]
    assert capsys.readouterr().out.splitlines()[:2] == ["runs/Direct_0 done", "runs/Direct_1 failed with exit code 1"]


# The site -----------------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_the_site_builds_strictly_with_all_public_names_and_loads_nothing_from_other_servers(tmp_path):
    pytest.importorskip("mkdocs", reason=DOCS_EXTRA)
    pytest.importorskip("mkdocstrings", reason=DOCS_EXTRA)
    build = [sys.executable, "-m", "mkdocs", "build", "--quiet", "--strict", "--site-dir", str(tmp_path)]
    done = subprocess.run(build, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    loaded = re.compile(
        r"<(?:script|img|iframe|source)[^>]*\ssrc=\"?(?:https?:)?//|<link[^>]*stylesheet[^>]*href=\"?(?:https?:)?//"
    )
    pages = list(tmp_path.rglob("*.html"))
    assert len(pages) > 30
    assert [page.name for page in pages if loaded.search(page.read_text(encoding="utf-8"))] == []
    for module in ("games", "opponents", "testing"):
        text = (tmp_path / f"api/{module}.html").read_text(encoding="utf-8")
        names = importlib.import_module(f"omg_lightning.{module}").__all__
        assert [name for name in names if f'id="omg_lightning.{module}.{name}"' not in text] == []
        assert not re.search(r'id="omg_lightning\.[\w.]*\._[a-z]', text), "private names are left out"
