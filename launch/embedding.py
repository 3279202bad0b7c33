"""From images to embeddings, by a descriptor's run or by a folder: what `launch.embed`, audit and benchmark share."""

import weakref
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from launch import boot
from memjax.errors import UserError

if TYPE_CHECKING:
    import numpy as np
    from jax.sharding import Mesh

    from memjax.audit.describe import Images
    from memjax.audit.detectors.embedded import Embedding
    from memjax.data.store import Store
    from memjax.sample.embed import TrainedOn

    Embed = Callable[[Images], np.ndarray]  # float32 [n, d]

_READ = 1 << 26  # numbers of images that are read at once


@dataclass(frozen=True, kw_only=True)
class Facts:
    """What is known of an embedding.

    Attributes:
      digest: of the weights, or of the vectors of the training images.
      invariant_to: what it does not see, by design.
      trained_on: of a run; None of a folder.
      saw_train: whether it saw the audit's training images; None where nobody knows.
      step: of a run's weights.
    """

    digest: str
    invariant_to: tuple[str, ...]
    trained_on: "TrainedOn | None" = None
    saw_train: bool | None = None
    step: int | None = None


def embedder_of(
    run: Path,
    cache: Path | None,
    mesh: "Mesh",
    *,
    train: "Store | None" = None,
    step: int | None = None,
    batch_size: int = 32,
) -> "tuple[str, Embed, Facts]":
    """Return a descriptor's name, what embeds any images with it, and what is known of it.

    Args:
      run: the folder that `launch.train` wrote.
      cache: where the vectors of whole stores are kept, so that an interrupted audit does not make them again.
      mesh: whose devices share the work.
      train: the audit's training images, to tell whether the descriptor saw them.
      step: of the weights; None: the newest.
      batch_size: images at a time, over all devices.

    Raises:
      UserError: the run is no descriptor's; or, when it is used, images do not fit it.
    """
    import numpy as np

    from memjax.audit.describe import unit_range
    from memjax.data.store import Store
    from memjax.digest import settings_digest
    from memjax.sample.embed import open_embedder

    embedder = open_embedder(run, mesh=mesh, step=step, batch_size=batch_size)
    known: dict[int, tuple[weakref.ref, np.ndarray]] = {}

    def made(images: "Images") -> "np.ndarray":
        at_once = max(batch_size, _READ // int(np.prod(embedder.shape)) // batch_size * batch_size)
        found = np.empty((len(images), embedder.size), np.float32)
        with boot.steps_bar(f"embedding with {embedder.name}", "images")(0, len(images)) as bar:
            for start in range(0, len(images), at_once):
                stop = min(start + at_once, len(images))
                found[start:stop] = embedder.embed(unit_range(images, np.arange(start, stop)))
                bar.update(stop - start)
        if not np.isfinite(found).all():
            bad = int(np.flatnonzero(~np.isfinite(found).all(1))[0])
            raise UserError(f"the descriptor in {run} gives a vector that is not finite for {images.name(bad)}.")
        return found

    def kept(images: "Images") -> "np.ndarray":
        if cache is None or not isinstance(images, Store):
            return made(images)
        images.check_unchanged()
        name = settings_digest([embedder.digest, images.manifest.digest])[:32]
        return kept_vectors(cache / "embeddings" / f"{name}.npy", len(images), lambda: made(images), size=embedder.size)

    def embed(images: "Images") -> "np.ndarray":
        before = known.get(id(images))
        if before is None or before[0]() is not images:  # an id is given again once its owner is gone
            known[id(images)] = before = weakref.ref(images), kept(images)
        return before[1]

    saw = None if train is None else _saw(embedder.trained_on, train)
    facts = Facts(
        digest=embedder.digest,
        invariant_to=embedder.invariant_to,
        trained_on=embedder.trained_on,
        saw_train=saw,
        step=embedder.step,
    )
    return embedder.name, embed, facts


def embedding_of_run(
    run: Path, stores: "Mapping[str, Store]", cache: Path, mesh: "Mesh", *, step: int | None = None
) -> "tuple[str, Embedding, TrainedOn | None]":
    """Return a descriptor's name, its embedding as detectors want it, and what it was trained on.

    Args:
      run: the folder that `launch.train` wrote.
      stores: the audit's, by role; one image of `train` is tried at once.
      cache: where embeddings are kept.
      mesh: devices.
      step: of the weights; None: the newest.

    Raises:
      UserError: the run is no descriptor's, or does not fit the images.
    """
    from memjax.audit.describe import ArrayImages
    from memjax.audit.detectors.embedded import Embedding

    train = stores["train"]
    name, embed, facts = embedder_of(run, cache, mesh, train=train, step=step)
    embed(ArrayImages(train.block(0, 1), train.ranges[:1]))  # what does not fit shall show before the long search
    embedding = Embedding(
        embed=embed,
        digest=facts.digest,
        invariant_to=facts.invariant_to,
        is_control=facts.saw_train is False,
        can_turn=True,
    )
    return name, embedding, facts.trained_on


def embeddings_of(name: str, folder: Path, stores: "Mapping[str, Store]") -> "tuple[str, Embed, Facts]":
    """Return the same for a folder of embeddings (`memjax.data.embeddings`), which knows the audit's images only.

    Args:
      name: what to call the network; "": what the folder calls it.
      folder: as it was given.
      stores: the audit's, by role.

    Raises:
      UserError: the folder's embeddings are not of these images; or, when it is used, it is asked for others.
    """
    from memjax.data.embeddings import read_embeddings
    from memjax.data.store import Store

    found = {role: read_embeddings(folder, role, store, name) for role, store in stores.items()}

    def embed(images: "Images") -> "np.ndarray":
        for role, store in stores.items():
            if images is store or (isinstance(images, Store) and images.manifest.digest == store.manifest.digest):
                return found[role].vectors
        raise UserError(
            f"{folder} holds embeddings of the audit's images only, none of {images.name(0)}; give the descriptor's "
            "run to embed others."
        )

    train = found["train"]
    saw = {"train": True, "other": False}.get(train.trained_on)
    return train.name, embed, Facts(digest=train.digest, invariant_to=train.invariant_to, saw_train=saw)


def _saw(trained_on: "TrainedOn", train: "Store") -> bool | None:
    if trained_on.store == train.manifest.digest:
        return True
    return False if trained_on.is_free_of(train) else None


def kept_vectors(
    path: Path | None, n: int, make: "Callable[[], np.ndarray]", *, size: int | None = None
) -> "np.ndarray":
    """Return the vectors of n images that a file keeps; if there are none, or something else, make and keep them.

    Args:
      path: named by all that decides the vectors; None: they are made and not kept.
      n: how many images.
      make: returns float [n, d], finite.
      size: d, of float32; None: not known beforehand.

    Raises:
      UserError: the disk is full.
    """
    import numpy as np

    from memjax.whole import whole_file

    if path is None:
        return make()
    try:
        found = np.load(path, allow_pickle=False)
        is_alike = found.dtype.kind == "f" if size is None else found.dtype == np.float32 and found.shape[1:] == (size,)
        if found.ndim == 2 and len(found) == n and is_alike and np.isfinite(found).all():
            return found
    except (OSError, ValueError, EOFError):
        pass  # not there, or cut off: made anew
    found = make()
    with whole_file(path) as partial, partial.open("wb") as file:
        np.save(file, found, allow_pickle=False)
    return found
