"""Folders of small pictures, and launchers run as a person would: by flags, in this process or one of their own."""

import contextlib
import csv
import dataclasses
import importlib
import io
import os
import subprocess
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from types import ModuleType
from unittest import mock

import numpy as np
from absl import flags
from PIL import Image

from launch.boot import CONVOLUTION_FLAG
from memjax.data.manifest import Manifest
from memjax.data.store import NewItem, Store, StoreWriter

ROOT = Path(__file__).parent.parent

# Of processes whose programs run a few times: one device compiles in half the time, and fast code is not looked for.
QUICK = {"XLA_FLAGS": f"{CONVOLUTION_FLAG} --xla_cpu_use_fusion_emitters=false", "JAX_DISABLE_MOST_OPTIMIZATIONS": "1"}

# File names that break programs: other scripts, a combining accent, csv's own signs, bytes that are no UTF-8.
ODD_NAMES = (
    "снимок/脑 図.png",
    "e\u0301tude \u202b.png",
    'a,b;"c".png',
    "line\nbreak\rand tab\t.png",
    "=1+1 #7.png",
    os.fsdecode(b"\xff\xfe\x80.png"),
)


@dataclasses.dataclass(frozen=True)
class Run:
    """How a launcher ended, and what it said on standard error."""

    status: int
    said: str

    def is_refusal(self, *words: str) -> bool:
        """Say whether this is the user's mistake, told once, in a text that holds these words."""
        told = self.said.count("error:") == 1 and "Traceback" not in self.said
        missing = [word for word in words if word not in self.said]
        assert self.status == 2 and told and not missing, (self.status, self.said, missing)
        return True


def launch(name: str, *arguments: str) -> Run:
    """Run `python -m launch.NAME` in this process (a second and more quicker than one of its own).

    An exception that is not told to the user as one clear sentence comes through to the test.
    """
    from launch import boot

    main = _loaded(name).main
    flags.FLAGS.unparse_flags()
    said = io.StringIO()
    with (
        mock.patch.object(sys, "argv", [f"launch/{name}.py", *arguments]),
        contextlib.redirect_stderr(said),
        contextlib.redirect_stdout(io.StringIO()),
    ):
        try:
            boot.run(main)
        except SystemExit as end:
            return Run(end.code, said.getvalue())
        finally:
            _forget_compilation_cache()
            for override in [flag for flag in flags.FLAGS if flag.startswith("config.")]:
                delattr(flags.FLAGS, override)  # made of the command line, for it alone
    raise AssertionError("`boot.run` always exits")


def command(name: str, *arguments: str) -> list[str]:
    """Return the command line of a launcher."""
    return [sys.executable, "-m", f"launch.{name}", *arguments]


def launch_process(name: str, *arguments: str, environment: Mapping[str, str] | None = None) -> Run:
    """Run a launcher in a process of its own; `environment` is added to ours."""
    done = subprocess.run(
        command(name, *arguments),
        capture_output=True,
        cwd=ROOT,
        env={**os.environ, **(environment or {})},
        text=True,
        errors="surrogateescape",
    )
    return Run(done.returncode, done.stderr)


def pictures(folder: Path, images: Mapping[str, np.ndarray] | Iterable[np.ndarray]) -> Path:
    """Write images [rows, columns(, 3)] as PNG files by name, or as 000.png, 001.png, …"""
    named = images if isinstance(images, Mapping) else {f"{i:03d}.png": image for i, image in enumerate(images)}
    folder.mkdir(parents=True, exist_ok=True)
    for name, image in named.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image).save(folder / name)
    return folder


def noise(n: int, seed: int, *, size: tuple[int, ...] = (8, 8)) -> np.ndarray:
    """Draw n uint8 images without anything in common."""
    return np.random.default_rng(seed).integers(0, 256, (n, *size), np.uint8)


def store(path: Path, images: np.ndarray, **about: list[str]) -> Store:
    """Write images [n, *space, channels] as a store; `about` are columns of items (`patient`, `split`, `label`)."""
    axes = ("row", "column") if images.ndim == 4 else ("R", "A", "S")
    manifest = Manifest(
        axes=axes,
        channels=tuple(f"c{i}" for i in range(images.shape[-1])),
        patient_ids="csv" if "patient" in about else "none",
    )
    with StoreWriter(path, shape=images.shape[1:], dtype=str(images.dtype), settings="") as writer:
        for i, image in enumerate(images):
            told = {name: column[i] for name, column in about.items()}
            writer.add(str(i), [NewItem(image=image, source=f"{path.name}/{i}.png", **told)])
        return writer.finish(manifest)


def audit_folders(folder: Path, *, copies: int = 0) -> dict[str, Path]:
    """Write folders of pictures to audit: 30 of training patients, 24 of unseen ones, 12 synthetic.

    The first so many synthetic images are training images, mirrored left to right.
    """
    train, synthetic = noise(30, 1), noise(12, 5)
    synthetic[:copies] = train[5 : 5 + copies, :, ::-1]
    return {
        "train": pictures(folder / "train", {f"p{i // 2}_{i}.png": image for i, image in enumerate(train)}),
        "heldout": pictures(folder / "heldout", {f"q{i}_0.png": image for i, image in enumerate(noise(24, 3))}),
        "synthetic": pictures(folder / "synthetic", {f"s{i:02d}.png": image for i, image in enumerate(synthetic)}),
    }


def audit_flags(folders: Mapping[str, Path], out: Path) -> list[str]:
    """Return the flags that audit these folders by role, patients told by file names."""
    return [*(f"--{role}={path}" for role, path in folders.items()), f"--out={out}", r"--patient_regex=([pq]\d+)_"]


def read_pairs(out: Path) -> list[dict[str, str]]:
    """Return the rows of an audit's pairs.csv."""
    with (out / "pairs.csv").open(newline="", encoding="utf-8", errors="surrogateescape") as file:
        return list(csv.DictReader(file))


def truncate(path: Path) -> None:
    """Cut a file in half."""
    os.truncate(path, path.stat().st_size // 2)


def files_below(folder: Path) -> dict[str, bytes]:
    """Return the content of every file below a folder, by its relative name."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def _loaded(name: str) -> ModuleType:
    """Import a launcher anew, without the flags of those that ran before: several are called alike."""
    ours = [module for module in flags.FLAGS.flags_by_module_dict() if module.startswith("launch.")]
    for module in ours:
        if module == "launch.inputs":
            continue
        for flag in flags.FLAGS.flags_by_module_dict().pop(module):
            delattr(flags.FLAGS, flag.name)
        del sys.modules[module]
        vars(sys.modules["launch"]).pop(module.partition(".")[2], None)  # `from launch import …` looks there first
    return importlib.import_module(f"launch.{name}")


def _forget_compilation_cache() -> None:
    if "jax" in sys.modules:
        from jax.experimental.compilation_cache import compilation_cache

        sys.modules["jax"].config.update("jax_compilation_cache_dir", None)
        compilation_cache.reset_cache()  # else it is the folder of before, even if that is gone
