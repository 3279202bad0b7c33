"""The house's order: imports go one way, and nothing starts JAX before it is needed."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent

RANKS = {
    "memjax": 0,
    "memjax.errors": 0,
    "memjax.orientation": 0,
    "memjax.team": 1,
    "memjax.build": 1,
    "memjax.digest": 1,
    "memjax.keys": 1,
    "memjax.trees": 1,
    "memjax.whole": 1,
    "memjax.data": 2,
    "memjax.mesh": 2,
    "memjax.nn": 3,
    "memjax.objectives": 3,
    "memjax.artifacts": 3,
    "memjax.models": 4,
    "memjax.train": 5,
    "memjax.sample": 5,
    "memjax.audit": 5,
    "memjax.study": 6,
    "launch": 7,
}
NO_JAX = ("memjax.data", "memjax.errors", "memjax.orientation", "memjax.digest", "memjax.team", "memjax.whole")


def module_of(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def room_of(module: str) -> str:
    """Return the longest prefix of a module that has a rank."""
    parts = module.split(".")
    for length in range(len(parts), 0, -1):
        if ".".join(parts[:length]) in RANKS and (length > 1 or parts[0] == "launch" or len(parts) == 1):
            return ".".join(parts[:length])
    raise AssertionError(f"{module} is in no room: give it a rank")


def imports_of(path: Path) -> set[str]:
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: write imports in full"
            found |= {node.module} | {f"{node.module}.{alias.name}" for alias in node.names}
    return found


SOURCES = sorted([*(ROOT / "memjax").rglob("*.py"), *(ROOT / "launch").rglob("*.py")])


@pytest.mark.parametrize("path", SOURCES, ids=module_of)
def test_imports_go_down(path):
    mine = room_of(module_of(path))
    for name in imports_of(path):
        if name.split(".")[0] in ("memjax", "launch") and name not in ("memjax", "launch"):
            if (
                not (ROOT / Path(*name.split("."))).with_suffix(".py").exists()
                and not (ROOT / Path(*name.split("."))).is_dir()
            ):
                continue  # a name inside a module that is listed itself
            theirs = room_of(name)
            assert RANKS[theirs] < RANKS[mine] or theirs == mine, f"{mine} must not import {theirs}"


@pytest.mark.parametrize("path", SOURCES, ids=module_of)
def test_public_interfaces_only(path):
    """No private module of another package, no JAX where data workers live, flags in launchers only."""
    room = room_of(module_of(path))
    for name in imports_of(path):
        assert "._src" not in name, name
        if room in NO_JAX:
            assert name.split(".")[0] not in ("jax", "flax", "absl"), name
        if room != "launch":
            assert name.split(".")[0] != "absl", name
        if room not in ("memjax.nn", "memjax.models"):
            assert name.split(".")[0] != "flax", name


def loaded_after(code: str) -> set[str]:
    done = subprocess.run(
        [sys.executable, "-c", f"{code}\nimport sys\nprint(*sys.modules)"],
        capture_output=True,
        text=True,
        cwd=ROOT,
        check=True,
    )
    return {name.split(".")[0] for name in done.stdout.split()}


def test_importing_memjax_loads_next_to_nothing():
    assert not loaded_after("import memjax") & {"jax", "numpy", "matplotlib", "scipy", "nibabel", "pydicom"}


@pytest.mark.parametrize("launcher", sorted(p.stem for p in (ROOT / "launch").glob("*.py") if p.stem != "__init__"))
def test_launchers_load_nothing_heavy_before_main(launcher):
    heavy = {"jax", "matplotlib", "scipy", "nibabel", "pydicom", "jinja2"}
    assert not loaded_after(f"import launch.{launcher}") & heavy
