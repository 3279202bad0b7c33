"""From an image store and an autoencoder's run to a store of latents: what `launch.prepare` and the demo share."""

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from launch import boot
from memjax.errors import UserError

if TYPE_CHECKING:
    from memjax.data.augment import Augmentation
    from memjax.data.manifest import Item, Manifest
    from memjax.data.store import Store
    from memjax.sample.latent import Coder

_MEASURED = 256  # training images that the standard deviation is of, at most


def encode_store(
    images: Path,
    run: Path,
    out: Path,
    *,
    step: int | None = None,
    scale: str | None = None,
    views: int = 1,
    augmentation: "Augmentation | None" = None,
    seed: int = 0,
    batch_size: int = 8,
    n_devices: int | None = None,
) -> "Store":
    """Write the latents of every image of a store; an interrupted call, repeated, goes on.

    Args:
      images: the store.
      run: the autoencoder's.
      out: the store to write.
      step: of the weights; None: the newest.
      scale: `codebook` or `std`; None: `codebook` where there is one.
      views: how often each training image is encoded, each time augmented anew; held-out images always once, as they
        are.
      augmentation: of the views.
      seed: of the augmentation.
      batch_size: images at a time over all devices; rounded up to a multiple of their number.
      n_devices: None: all of this process.

    Raises:
      UserError: the store does not fit the autoencoder, or one of both cannot be used.
    """
    from memjax.data.split import training_ids
    from memjax.data.store import Store
    from memjax.mesh import train_mesh
    from memjax.sample.latent import SCALES, open_coder

    if scale not in (None, *SCALES):
        raise UserError(f"--scale={scale} is not known; give {' or '.join(SCALES)}.")
    store = Store.open(images)
    if store.manifest.latent:
        raise UserError(f"{images} holds latents already; give the store of the images.")
    mesh = train_mesh(1, n_devices)
    size = -(-batch_size // mesh.size) * mesh.size
    coder = open_coder(run, mesh=mesh, step=step)
    if coder.model.shape != store.manifest.shape:
        raise UserError(
            f"{images} holds images of {' x '.join(map(str, store.manifest.shape))}, the autoencoder in {run} was "
            f"trained on {' x '.join(map(str, coder.model.shape))}; prepare them alike."
        )
    trained = training_ids(store.items)
    kind = scale or ("codebook" if coder.model.bottleneck == "vq" else "std")
    low, high = _scale(store, coder, kind, trained, size)
    rows = _rows(store, trained, views)
    varied = {"seed": seed, **dataclasses.asdict(augmentation)} if augmentation else {}
    latent = {
        "autoencoder": coder.digest,
        "run": str(run.absolute()),
        "step": coder.step,
        "scale": kind,
        "low": low,
        "high": high,
        "views": views,
        "image": _about(store.manifest),
    }
    settings = {**latent, "images": store.manifest.digest, "augmentation": varied, "run": ""}
    return _written(store, coder, out, rows, latent, settings, augmentation, seed, size)


def _scale(store: "Store", coder: "Coder", kind: str, trained: np.ndarray, size: int) -> tuple[float, float]:
    from memjax.sample.latent import scale_of

    def some() -> np.ndarray:
        ids = trained[np.linspace(0, len(trained) - 1, min(len(trained), _MEASURED)).astype(int)]
        return np.concatenate(
            [_encoded(coder, store.unit_range(ids[at : at + size]), size) for at in range(0, len(ids), size)]
        )

    return scale_of(coder, kind, some)


def _rows(store: "Store", trained: np.ndarray, views: int) -> list[tuple[int, int, bool]]:
    """Return which image is encoded in which view, and whether it is varied, in the order of the latents."""
    if views < 1:
        raise UserError(f"--views={views} is too small; give 1 or more.")
    several = set(trained.tolist())
    return [(id_, view, id_ in several) for id_ in range(len(store)) for view in range(views if id_ in several else 1)]


def _written(
    store: "Store",
    coder: "Coder",
    out: Path,
    rows: list[tuple[int, int, bool]],
    latent: dict,
    settings: dict,
    augmentation: "Augmentation | None",
    seed: int,
    size: int,
) -> "Store":
    from memjax.data.order import record_rng
    from memjax.data.store import NewItem, StoreWriter

    labels = store.manifest.label_channels
    with (
        StoreWriter(out, shape=coder.model.latent_shape, dtype="float32", settings=settings) as writer,
        boot.steps_bar("encoding", "images")(0, len(rows)) as bar,
    ):
        for start in range(0, len(rows), size):
            some = rows[start : start + size]
            if str(start) not in writer.done:
                images = store.unit_range(np.array([id_ for id_, *_ in some]))
                for image, (*_, is_varied), number in zip(images, some, range(start, start + size), strict=False):
                    if augmentation and is_varied:
                        image[...] = augmentation(image, record_rng(number, seed=seed), labels)
                encoded = _encoded(coder, images, size)
                if not np.isfinite(encoded).all():
                    raise UserError(f"the autoencoder gives latents that are not finite for {store.name(some[0][0])}.")
                items = [store.items[id_] for id_, *_ in some]
                writer.add(
                    str(start),
                    [
                        NewItem(
                            image=image,
                            source=_source(item, view, latent["views"]),
                            patient=item.patient,
                            slice=item.slice,
                            split=item.split,
                            label=item.label,
                            value_range=(latent["low"], latent["high"]),
                        )
                        for image, item, (_, view, _) in zip(encoded, items, some, strict=True)
                    ],
                )
            bar.update(len(some))
        return writer.finish(_manifest(store.manifest, coder, latent, settings))


def _encoded(coder: "Coder", images: np.ndarray, size: int) -> np.ndarray:
    """Return the latents of at most `size` images; the batch is filled up with its last one."""
    at = np.minimum(np.arange(size), len(images) - 1)
    return coder.encode(images[at])[: len(images)]


def _source(item: "Item", view: int, views: int) -> str:
    return f"{item.source}@{view}" if views > 1 else item.source


def _about(manifest: "Manifest") -> dict:
    """Return the words that decoded images need."""
    return {
        name: getattr(manifest, name) for name in ("axes", "channels", "label_channels", "spacing_mm", "shape", "dtype")
    } | {"digest": manifest.digest}


def _manifest(images: "Manifest", coder: "Coder", latent: dict, settings: dict) -> "Manifest":
    small = coder.model.latent_shape[:-1]
    spacing = images.spacing_mm and tuple(
        mm * n / m for mm, n, m in zip(images.spacing_mm, images.shape, small, strict=False)
    )
    return dataclasses.replace(
        images,
        channels=tuple(f"h{i}" for i in range(coder.model.latent_shape[-1])),
        label_channels=(),
        spacing_mm=spacing,
        source_format="latents",
        preparation=settings,
        latent=latent,
        left_out=(),  # of the images' preparation
        digest="",
    )
