"""From image stores to set-level scores: what images are compared in, and all scores of one synthetic set."""

import dataclasses
import itertools
import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from launch import boot
from memjax.errors import UserError

if TYPE_CHECKING:
    from jax.sharding import Mesh

    from memjax.audit.fidelity.features import Features, Images, Vectors
    from memjax.audit.fidelity.quality import Quality
    from memjax.data.store import Store

    Bar = Callable[[int, int], Any]  # from the first and the last count to a progress bar

KINDS = ("random", "pixels", "inception", "descriptor")

_COMPONENTS = 256  # of pixels
_FITTED = 2048  # images that principal components are found from, at most
_FITTED_NUMBERS = 1 << 26  # in all of them
_READ, _READ_NUMBERS = 1024, 1 << 26  # images read at a time, at most, and numbers in all of them
_BATCH, _BATCH_NUMBERS = 128, 1 << 21  # the same of what a network sees at a time, on each device
_BATCH_OF_INCEPTION = 16  # images, on each device


def make_features(
    kind: str,
    *,
    shape: Sequence[int],
    mesh: "Mesh",
    weights: Path | None = None,
    run: Path | None = None,
    step: int | None = None,
    seed: int = 0,
) -> "Features":
    """Return what images of this shape [*space, channels] are compared in.

    Args:
      kind: "random", an untrained network; "pixels", their principal components; "inception", InceptionV3 with given
        weights; "descriptor", one that `launch.train` trained.
      shape: of an image.
      mesh: whose devices share the work.
      weights: for "inception", the public file; see `memjax.models.inception_weights`.
      run: for "descriptor", its run.
      step: of the run's weights; None: the newest.
      seed: for "random".

    Raises:
      UserError: there is no such kind, what it needs is not given or wrong, or it cannot look at such images.
    """
    if kind not in KINDS:
        raise UserError(f"there are no features {kind!r}; choose from {', '.join(KINDS)}.")
    if weights is not None and kind != "inception":
        raise UserError(f"weights ({weights}) are for features inception, not {kind}; leave one away.")
    if run is not None and kind != "descriptor":
        raise UserError(f"a descriptor's run ({run}) is for features descriptor, not {kind}; leave one away.")
    if kind == "inception":
        return _inception(weights, tuple(shape), mesh)
    if kind == "descriptor":
        return _descriptor(run, step, tuple(shape), mesh)
    return _random(tuple(shape), mesh, seed) if kind == "random" else _pixels()


def quality(
    train: "Store",
    synthetic: "Store",
    heldout: "Store | None",
    features: "Features",
    *,
    infinity: bool = False,
    seed: int = 0,
    cache: Path | None = None,
    progress: "Callable[[str, str], Bar]" = boot.steps_bar,
) -> "Quality":
    """Return all set-level scores of the synthetic images.

    Args:
      train: the training images.
      synthetic: the synthetic ones, in any order.
      heldout: real images of patients who are not in the training set; None: there are none.
      features: see `make_features`.
      infinity: also extrapolate the Fréchet distance to infinitely many images.
      seed: of random choices.
      cache: where vectors are kept, so that they are not made again; None: nowhere.
      progress: shows how many images are done.

    Raises:
      UserError: the images are of several shapes, or the features of one are not finite.
    """
    import numpy as np

    from memjax.audit.fidelity.measure import measure

    stores = {"training": train, "synthetic": synthetic, **({"held-out": heldout} if heldout else {})}
    for name, store in stores.items():
        if store.manifest.latent:
            raise UserError(f"{store.path} holds latents, no images; decode them first, or give the images themselves.")
        if store.manifest.shape != train.manifest.shape:
            raise UserError(
                f"the {name} images are of {_by(store.manifest.shape)} and the training images of "
                f"{_by(train.manifest.shape)}; prepare them alike."
            )
    if features.components is not None:
        features = _fitted(features, features.components, [*stores.values()], seed)
    vectors = {
        name: _vectors(store, features, cache, progress(f"look at {name} images", "images"))
        for name, store in stores.items()
    }
    # Parts of the synthetic set must be random ones, and folders are sorted by name.
    mixed = np.random.default_rng(seed).permutation(len(synthetic))
    seen = vectors["synthetic"][mixed]
    return measure(
        vectors["training"],
        seen,
        vectors.get("held-out"),
        features=features.title,
        probabilities=None if features.probabilities is None else features.probabilities(seen),
        images=(train.unit_range, synthetic.unit_range),
        infinity=infinity,
        seed=seed,
    )


def _random(shape: tuple[int, ...], mesh: "Mesh", seed: int) -> "Features":
    from memjax.audit.fidelity.features import Features
    from memjax.digest import settings_digest
    from memjax.models.untrained import untrained

    network = untrained(shape, seed=seed)
    return Features(
        title="random convolutions (an untrained network)",
        embed=_in_batches(lambda params, x: network.apply(x), {}, mesh, _so_many(shape, _BATCH, _BATCH_NUMBERS)),
        digest=settings_digest(["untrained", seed, shape]),
    )


def _pixels() -> "Features":
    from memjax.audit.fidelity.features import Features
    from memjax.digest import settings_digest

    return Features(
        title="pixels",
        embed=lambda images: images.reshape(len(images), -1),
        components=_COMPONENTS,
        digest=settings_digest("pixels"),
    )


def _descriptor(run: Path | None, step: int | None, shape: tuple[int, ...], mesh: "Mesh") -> "Features":
    from memjax.audit.fidelity.features import Features
    from memjax.sample.embed import open_embedder

    if run is None:
        raise UserError("features descriptor need a descriptor's run: give --run, the folder that launch.train wrote.")
    embedder = open_embedder(run, mesh=mesh, step=step)
    if embedder.shape != shape:
        raise UserError(
            f"images are of {_by(shape)}, the descriptor in {run} was trained on {_by(embedder.shape)}; prepare them "
            "alike."
        )
    return Features(title=f"descriptor {embedder.name}", embed=embedder.embed, digest=embedder.digest)


def _inception(weights: Path | None, shape: tuple[int, ...], mesh: "Mesh") -> "Features":
    import jax.numpy as jnp
    import numpy as np
    from scipy.special import softmax

    from memjax.audit.fidelity.features import Features
    from memjax.models import inception
    from memjax.models.inception_weights import WANTED, read_weights

    inception.check(shape)
    if weights is None:
        raise UserError(WANTED)
    read = read_weights(weights)
    kernel = np.asarray(read.params["fc"]["kernel"])
    known = "the public weights" if read.is_public else f"weights of unknown origin, SHA-256 {read.digest[:16]}"
    return Features(
        title=f"InceptionV3 ({known})",
        embed=_in_batches(
            # To whole numbers, as 8-bit files hold them.
            lambda params, x: inception.apply(params, jnp.round((x + 1) * 127.5))["2048"],
            read.params,
            mesh,
            _BATCH_OF_INCEPTION,
        ),
        # Without the bias, as torch-fidelity and, before it, the score's authors have it.
        probabilities=lambda vectors: softmax(vectors.astype(np.float64) @ kernel, axis=1),
        digest=read.digest,
    )


def _in_batches(apply: "Callable", params: object, mesh: "Mesh", size: int) -> "Callable[[Images], Vectors]":
    """Return a network as a function of any number of images, `size` at a time on each device."""
    import jax
    import numpy as np

    from memjax.mesh import batch_sharding, replicated
    from memjax.nn.once import compiler_options

    split, size = batch_sharding(mesh), size * mesh.size
    jitted = jax.jit(
        apply, out_shardings=replicated(mesh), compiler_options=compiler_options(mesh.devices.flat[0].platform)
    )
    params = jax.device_put(params, replicated(mesh))

    def embed(images: "Images") -> "Vectors":
        found = []
        for start in range(0, len(images), size):
            at = np.minimum(np.arange(start, start + size), len(images) - 1)  # the last batch is filled up
            vectors = jitted(params, jax.device_put(images[at], split))
            found.append(np.asarray(vectors)[: len(images) - start])
        return np.concatenate(found)

    return embed


def _fitted(features: "Features", components: int, stores: "Sequence[Store]", seed: int) -> "Features":
    """Return the so many principal components of all images' vectors as features of their own.

    Of all sets, not of the training images alone: components of few images describe just these, so that any others
    would seem to be nearer to them than they are to one another.
    """
    import numpy as np

    from memjax.audit.fidelity.features import principal_components
    from memjax.digest import array_digest, settings_digest

    starts = np.cumsum([0, *(len(store) for store in stores)])
    n = min(int(starts[-1]), _so_many(stores[0].manifest.shape, _FITTED, _FITTED_NUMBERS))
    ids = np.sort(np.random.default_rng(seed).permutation(starts[-1])[:n])
    chosen = [ids[(ids >= first) & (ids < last)] - first for first, last in itertools.pairwise(starts)]
    parts = [features.embed(store.unit_range(some)) for store, some in zip(stores, chosen, strict=True)]
    mean, axes = principal_components(np.concatenate(parts), components)
    return dataclasses.replace(
        features,
        title=f"{features.title} ({axes.shape[1]} principal components of all images)",
        embed=lambda images: (features.embed(images) - mean) @ axes,
        components=None,
        digest=settings_digest([features.digest, array_digest(mean), array_digest(axes)]),
    )


def _vectors(store: "Store", features: "Features", cache: Path | None, bar: "Bar") -> "Vectors":
    """Return the vectors of all images, kept or made now."""
    import numpy as np

    from launch.embedding import kept_vectors
    from memjax.digest import settings_digest

    def made() -> "Vectors":
        size = _so_many(store.manifest.shape, _READ, _READ_NUMBERS)
        found = []
        with bar(0, len(store)) as shown:
            for start in range(0, len(store), size):
                ids = np.arange(start, min(start + size, len(store)))
                vectors = features.embed(store.unit_range(ids))
                if not (is_finite := np.isfinite(vectors).all(1)).all():
                    bad = int(ids[~is_finite][0])
                    raise UserError(
                        f"{features.title} of {store.name(bad)} are not finite numbers; check the weights and the "
                        "image."
                    )
                found.append(vectors)
                shown.update(len(ids))
        return np.concatenate(found)

    path = cache and cache / f"{settings_digest([features.digest, store.manifest.digest])[:32]}.npy"
    return kept_vectors(path, len(store), made)


def _so_many(shape: Sequence[int], at_most: int, numbers: int) -> int:
    """Return how many images of this shape to take at a time: one or more."""
    return max(1, min(at_most, numbers // math.prod(shape)))


def _by(shape: Sequence[int]) -> str:
    return " x ".join(map(str, shape))
