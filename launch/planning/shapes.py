"""What images a config is for, where no store says it: of the papers' datasets, of its phantoms, or their latents."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from memjax.errors import UserError

# Akbar, Wang & Eklund (arXiv 2305.07644): slices of five channels (four sequences and labels), radiographs. Dar et al.
# (arXiv 2307.01148): volumes. Small ones as in `configs/descriptor.py`.
_IMAGES = {
    "brats20": (256, 256, 5),
    "brats21": (256, 256, 5),
    "cxr5216": (256, 256, 1),
    "cxr1300": (256, 256, 1),
    "cxr": (256, 256, 1),
    "pccta": (64, 64, 64, 1),
    "mrnet": (256, 256, 32, 1),
    "brats64": (64, 64, 64, 1),
    "brats128": (128, 128, 128, 1),
    "volumes": (32, 32, 32, 1),
    "hippocampus": (12, 16, 12, 1),
}
_FIRST = {"latent3d": "pccta", "descriptor": "pccta"}  # what a config is of that names none; else radiographs


def image_shape(name: str, config: Mapping[str, Any]) -> tuple[int, ...]:
    """Return the shape [*space, channels] of what a config's model is trained on.

    Args:
      name: of the config, `configs/NAME.py[:words]`.
      config: as plain values.

    Raises:
      UserError: its dataset is not known.
    """
    if config.get("phantoms"):
        kind, size = config["phantoms"]["kind"], tuple(config["phantoms"]["size"])
        return (*size[:2], 5) if kind == "brain_slices" else (*size, 1)
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
