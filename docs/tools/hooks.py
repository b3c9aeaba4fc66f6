"""What `mkdocs build` adds to the pages of docs/: the page Configuration, and one API page for each public module.

Both are made from the code at each build, so they cannot differ from it.
"""

import importlib
import pkgutil
from typing import Any

import configuration  # beside this file: MkDocs looks there
from mkdocs.structure.files import File, Files

import omg_lightning

RECORDS = ("types", "spec", "losses")  # files with public names; a package is public if it has `__all__`


def public_modules() -> list[str]:
    """Return the dotted names of the modules that get an API page."""
    packages = [f"omg_lightning.{each.name}" for each in pkgutil.iter_modules(omg_lightning.__path__) if each.ispkg]
    found = ["omg_lightning", *packages, "callbacks"]
    public = [name for name in found if hasattr(importlib.import_module(name), "__all__")]
    return [*public, *(f"omg_lightning.{name}" for name in RECORDS)]


def page_of(module: str) -> str:
    """Return the path of a module's page, below docs/."""
    return f"api/{module.removeprefix('omg_lightning.')}.md"


def on_config(config: Any) -> Any:
    """Fill the section API of the navigation."""
    reference = next(entry["Reference"] for entry in config.nav if "Reference" in entry)
    api = next(entry for entry in reference if "API" in entry)
    api["API"] = [{module.removeprefix("omg_lightning."): page_of(module)} for module in public_modules()]
    return config


def on_files(files: Files, config: Any) -> Files:
    """Add the generated pages."""
    pages = {page_of(module): f"# `{module}`\n\n::: {module}\n" for module in public_modules()}
    pages["configuration.md"] = configuration.page()
    for path, text in pages.items():
        files.append(File.generated(config, path, content=text))
    return files
