"""A trained descriptor in use: images to vectors that are near for copies, and what it was trained on.

What it was trained on decides what its distances mean: it knows those images, and not the synthetic ones that it is to
compare them with.
"""

import csv
import dataclasses
from collections.abc import Callable
from pathlib import Path

import jax
import numpy as np
from jax.sharding import Mesh
from jaxtyping import Float32

from memjax.artifacts.run import Run
from memjax.artifacts.weights import into, read_weights
from memjax.build import build
from memjax.data.store import Store
from memjax.data.views import Views
from memjax.errors import UserError
from memjax.keys import key_for
from memjax.mesh import batch_sharding, replicated
from memjax.models.descriptor import descriptor
from memjax.nn.once import compiler_options
from memjax.trees import Tree

Images = Float32[np.ndarray, "n *space c"]
Vectors = Float32[np.ndarray, "n d"]


@dataclasses.dataclass(frozen=True, kw_only=True)
class TrainedOn:
    """What a descriptor was trained on.

    Attributes:
      store: the digest of the image store.
      half: 0 or 1, the half of its patients (see `half_of`); None: all of them.
      patients: their ids; None where they are not known.
    """

    store: str
    half: int | None
    patients: frozenset[str] | None

    def is_free_of(self, store: Store) -> bool:
        """Return whether patient ids show that nobody in this store was trained on."""
        if self.patients is None or not all(item.patient for item in store.items):
            return False
        return not any(item.patient in self.patients for item in store.items)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Embedder:
    """A trained descriptor: `embed` takes any number of images in [-1, 1]."""

    name: str
    shape: tuple[int, ...]  # of an image, [*space, channels]
    size: int  # numbers of a vector
    digest: str  # of the weights
    step: int
    invariant_to: tuple[str, ...]  # what its views differed by
    trained_on: TrainedOn
    embed: Callable[[Images], Vectors]


def open_embedder(run: Path, *, mesh: Mesh, step: int | None = None, batch_size: int = 32) -> Embedder:
    """Return the descriptor that a run trained.

    Args:
      run: the folder that `launch.train` wrote.
      mesh: whose devices share each batch.
      step: of the weights; None: the newest.
      batch_size: images at a time, over all devices; rounded up to a multiple of their number. Vectors do not depend
        on it.

    Raises:
      UserError: there is none, or the run is of something else.
    """
    leaves, about, digest = read_weights(Run.read(run).weights_dir, step=step)
    config, data = about["config"], about["facts"]["data"]
    if config["task"] != "descriptor":
        raise UserError(f"{run} trained a model of task {config['task']}, no descriptor; give a descriptor's run.")
    shape = tuple(data["shape"])
    model = descriptor(shape, model=config["model"])
    weights = jax.device_put(into(jax.eval_shape(model.init, key_for(0, "init")), leaves), replicated(mesh))
    split = batch_sharding(mesh)
    size = -(-batch_size // mesh.size) * mesh.size

    def applied(weights: Tree, x: jax.Array) -> jax.Array:
        return model.apply(weights, x)

    jitted = jax.jit(
        applied,
        out_shardings=replicated(mesh),
        compiler_options=compiler_options(mesh.devices.flat[0].platform),
    )

    def embed(images: Images) -> Vectors:
        if images.shape[1:] != shape:
            raise UserError(
                f"images are of {' x '.join(map(str, images.shape[1:]))}, the descriptor in {run} was trained on "
                f"{' x '.join(map(str, shape))}; prepare them alike."
            )
        found = np.empty((len(images), model.size), np.float32)
        for start in range(0, len(images), size):
            at = np.minimum(np.arange(start, start + size), len(images) - 1)  # the last batch is filled up
            vectors = jitted(weights, jax.device_put(images[at], split))
            found[start : start + size] = np.asarray(vectors)[: len(images) - start]
        return found

    return Embedder(
        name=run.resolve().name,
        shape=shape,
        size=model.size,
        digest=digest,
        step=about["step"],
        invariant_to=build(Views, config["views"], "views").invariant_to,
        trained_on=TrainedOn(store=data["digest"], half=_half(config.get("half")), patients=_patients(run)),
        embed=embed,
    )


def _half(half: int | None) -> int | None:
    return half if half in (0, 1) else None


def _patients(run: Path) -> frozenset[str] | None:
    """Return the patients whose images the run has seen, as it wrote them down at its end; None: it does not know."""
    try:
        with (run / "exposures.csv").open(newline="", encoding="utf-8", errors="surrogateescape") as file:
            seen = [row["patient"] for row in csv.DictReader(file) if int(row["exposures"])]
    except (OSError, ValueError, KeyError, csv.Error):
        return None
    return frozenset(seen) if all(seen) else None
