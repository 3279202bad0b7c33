"""What images a config is for, where no store says it: of the papers' datasets, of its phantoms, or their latents."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from configs.studies.sources import SOURCES
from memjax.data.phantoms import draw
from memjax.errors import UserError


def _drawn(phantoms: Mapping[str, Any]) -> tuple[int, ...]:
    return draw(phantoms["kind"], (), size=tuple(phantoms["size"])).images.shape[1:]


_PAPERS = {name: _drawn(source["phantoms"]) for name, source in SOURCES[""].items()}
_IMAGES = {  # small ones as in `configs/descriptor.py`
    **_PAPERS,
    "cxr5216": _PAPERS["cxr"],
    "cxr1300": _PAPERS["cxr"],
    "brats64": (64, 64, 64, 1),
    "brats128": (128, 128, 128, 1),
    "volumes": (32, 32, 32, 1),
    "hippocampus": (12, 16, 12, 1),
}
_FIRST = {"latent3d": "pccta", "descriptor": "pccta"}  # what a config is of that names none; else radiographs


def shape_of(text: str) -> tuple[int, ...]:
    """Return the image shape of `256,256,5`.

    Raises:
      UserError: it is none.
    """
    if not re.fullmatch(r"[1-9]\d*(,[1-9]\d*){2,3}", text):
        raise UserError(f"--shape={text} must be rows, columns (and slices) and channels, for example 256,256,5.")
    return tuple(map(int, text.split(",")))


def image_shape(name: str, config: Mapping[str, Any]) -> tuple[int, ...]:
    """Return the shape [*space, channels] of what a config's model is trained on.

    Args:
      name: of the config, `configs/NAME.py[:words]`.
      config: as plain values.

    Raises:
      UserError: its dataset is not known.
    """
    if config.get("phantoms"):
        return _drawn(config["phantoms"])
    file, _, text = name.partition(":")
    words = text.split(",") if text else []
    dataset = next((word for word in words if word in _IMAGES), _FIRST.get(Path(file).stem, "cxr5216"))
    if Path(file).stem == "latent3d" and config["task"] == "ddpm":
        return _latents(_IMAGES[dataset], dataset, words)
    if Path(file).stem not in ("ddpm", "stylegan2", "latent3d", "descriptor"):
        raise UserError(
            f"--config={name} is of images that are not known here; give --shape=256,256,1 or --data=STORE."
        )
    return _IMAGES[dataset]


def _latents(shape: tuple[int, ...], dataset: str, words: list[str]) -> tuple[int, ...]:
    """Return the shape of what the autoencoder of the same words makes of images."""
    from configs import latent3d

    chosen = [dataset, "autoencoder", *(one for one in words if one in ("kl", "low"))]
    block = latent3d.get_config(",".join(chosen)).to_dict()["autoencoder"]
    return (*(n // factor for n, factor in zip(shape, block["downsample"], strict=False)), block["latent_channels"])
