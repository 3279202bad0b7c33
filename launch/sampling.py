"""From a trained run to an image store of samples: what `launch.sample`, the demo and studies share."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from launch import boot
from memjax.errors import UserError

if TYPE_CHECKING:
    from jax.sharding import Mesh

    from memjax.data.store import Store
    from memjax.sample.draw import Draw
    from memjax.team import Team

_FILM_SIDE = 256  # pixels


def sample(
    run: Path,
    seed_ids: Sequence[int],
    out: Path,
    *,
    step: int | None = None,
    changes: Mapping[str, Any] | None = None,
    autoencoder: Path | None = None,
    batch_size: int = 64,
    n_devices: int | None = None,
    team: "Team | None" = None,
) -> "Store":
    """Draw the images of seed ids from a run's averaged weights.

    A model that was trained on latents draws latents, which its autoencoder then decodes.

    Args:
      run: the folder that `launch.train` wrote.
      seed_ids: distinct, 0 or more.
      out: the store to write.
      step: of the weights; None: the newest.
      changes: settings of the sampler that differ from the run's.
      autoencoder: the run of the latents' autoencoder; None: where it was when they were made.
      batch_size: images at a time over all devices of a process; rounded up to a multiple of their number.
      n_devices: None: all of this process.
      team: the processes that share the work, each with its own devices; None: this one is alone.

    Raises:
      UserError: there are no such weights, or they do not fit the run's config.
    """
    import jax

    from memjax.artifacts.run import Run
    from memjax.artifacts.weights import read_weights
    from memjax.data.manifest import Manifest
    from memjax.mesh import train_mesh
    from memjax.sample.draw import draw_store, own_share
    from memjax.sample.models import make_draw
    from memjax.team import ALONE

    team = team or ALONE
    trained = Run.read(run)
    leaves, about, digest = read_weights(trained.weights_dir, step=step)
    config, data = about["config"], about["facts"]["data"]
    mesh = train_mesh(1, n_devices, devices=jax.local_devices())
    shape, classes = tuple(data["shape"]), data["classes"]
    draw, sampler = make_draw(
        config, leaves, shape=shape, n_classes=len(classes) or None, changes=changes or {}, mesh=mesh
    )
    settings = {"weights": digest, "sampler": sampler, "trained_on": data["digest"]}
    latent = data.get("latent")  # runs of older versions have none
    if latent:
        draw = _decoded(draw, latent, autoencoder, mesh)
        settings["autoencoder"] = latent["autoencoder"]
    elif autoencoder:
        raise UserError(f"--autoencoder={autoencoder}: {run} was trained on images, not on latents; leave it away.")
    images = latent["image"] if latent else data
    own = len(own_share(seed_ids, team))
    if team.index == 0:
        each = "" if team.count == 1 else f", each of {team.count} processes about {own}"
        boot.say(f"drawing {len(seed_ids)} images with {json.dumps(sampler)}{each} …")
    with boot.steps_bar("sampling", "images")(0, own) as bar:
        return draw_store(
            draw,
            seed_ids,
            out,
            like=Manifest(
                axes=tuple(images["axes"]),
                channels=tuple(images["channels"]),
                label_channels=tuple(images["label_channels"]),
                spacing_mm=tuple(images["spacing_mm"]) if images["spacing_mm"] else None,
                shape=tuple(images["shape"]),
                dtype=images["dtype"],
            ),
            labels=classes,
            label_share=data["class_share"],
            settings=settings,
            batch_size=-(-batch_size // mesh.size) * mesh.size,
            team=team,
            progress=bar.update,
        )


def _decoded(draw: "Draw", latent: Mapping[str, Any], autoencoder: Path | None, mesh: "Mesh") -> "Draw":
    """Return what draws images, given what draws their latents."""
    from memjax.sample.latent import open_coder, raw

    coder = open_coder(autoencoder or Path(latent["run"]), mesh=mesh, step=latent["step"], digest=latent["autoencoder"])
    return lambda ids, label: coder.decode(raw(draw(ids, label), latent["low"], latent["high"]))


def film(
    run: Path, seed_ids: Sequence[int], out: Path, *, step: int | None, frames: int, changes: Mapping[str, Any]
) -> None:
    """Write an animated PNG of a StyleGAN's way from seed id to seed id.

    Args:
      run: the folder that `launch.train` wrote.
      seed_ids: two or more.
      out: the file to write.
      step: of the weights; None: the newest.
      frames: from one seed id to the next.
      changes: settings of the sampler that differ from the run's.

    Raises:
      UserError: the run is no StyleGAN's, or there is only one seed id.
    """
    import numpy as np

    from memjax.artifacts.images import grid, write_film
    from memjax.artifacts.run import Run
    from memjax.artifacts.weights import read_weights
    from memjax.sample.interpolate import interpolate

    leaves, about, _ = read_weights(Run.read(run).weights_dir, step=step)
    data = about["facts"]["data"]
    images = interpolate(
        about["config"],
        leaves,
        shape=tuple(data["shape"]),
        label_share=data["class_share"],
        seed_ids=seed_ids,
        frames=frames,
        changes=changes,
    )
    larger = max(1, _FILM_SIDE // images.shape[1])  # small images are shown by whole blocks of pixels
    images = images.repeat(larger, axis=1).repeat(larger, axis=2)
    write_film(out, np.stack([grid(image[None]) for image in images]))


def newest_weights(run: Path) -> int | None:
    """Return after how many steps a run's newest weights were written; None: it has none yet.

    Raises:
      UserError: it is no run.
    """
    from memjax.artifacts.run import Run
    from memjax.artifacts.weights import written_steps

    return max(written_steps(Run.read(run).weights_dir), default=None)


def seed_range(text: str) -> range:
    """Return the seed ids of `0:1000`, or of `1000`, which means the same.

    Raises:
      UserError: it is neither.
    """
    first, colon, last = text.partition(":")
    if not colon:
        first, last = "0", first
    if not (first.isdecimal() and last.isdecimal() and int(first) < int(last) <= 2**31 - 1):
        raise UserError(f"--seeds={text} must be FIRST:END, for example 0:1000 for a thousand images.")
    return range(int(first), int(last))
