"""The generators of the studies by scale and name, their sizes and their augmentations.

At the papers' scale they are those of `configs/`. StyleGAN2 and the diffusion model see equally many images, 25
million: what the papers trained for how long is not known. The small ones are those of the demo, in float32, and see
64,000 pictures or 32,000 volumes. They are the same in every study, so that studies share their trainings.
"""

from typing import Any

from ml_collections import config_dict

from configs import ddpm, demo, descriptor, latent3d, stylegan2, stylegan_sizes, unet_sizes

IMAGES_SEEN = 25_000_000  # StyleGAN2's own length at 256 x 256
_SMALL_IMAGES_SEEN = 64_000  # at half of it, a diffusion model of 64 radiographs copies none of them yet
_ADA_SPEED_IMAGES = 48_000  # at 500,000 the small trainings end before anything is changed

Generator = config_dict.ConfigDict


def generator(scale: str, name: str, source: str) -> Generator:
    """Return the config of a generator.

    Args:
      scale: "" (the papers'), "small" or "smoke".
      name: `ddpm`, `stylegan2` or `latent`.
      source: for latent diffusion, the volumes it is for: `mrnet`, or others.
    """
    if name == "latent":
        return _latent(scale, "mrnet" if source == "mrnet" else "pccta")
    c = {"ddpm": _ddpm, "stylegan2": _stylegan2}[name](scale)
    if scale == "small":
        c.steps = _SMALL_IMAGES_SEEN // c.batch_size
    elif not scale:
        c.steps = IMAGES_SEEN // c.batch_size
    return _quiet(c, scale)


def model_sizes(scale: str, names: tuple[str, ...]) -> dict[str, Any]:
    """Return what each generator's config has otherwise at each size.

    At the papers' scale the sizes are the ladders of `unet_sizes.py` and `stylegan_sizes.py`, of latent diffusion those
    of Khader et al.; at the others the base config's width, halved and doubled.
    """
    if scale:
        return {
            name: {
                "ddpm": {"model": {"width": width}},
                "stylegan2": {"synthesis": _width(width), "discriminator": _width(width), "mapping": _z(4 * width)},
            }
            for name, width in (("half", 8), ("base", 16), ("double", 32))
            if name in names
        }
    of_pictures = {
        "ddpm": {name: {"model": unet_sizes.PRESETS[name]} for name in ("1m", "4m", "16m", "64m", "250m")},
        "stylegan2": {name: stylegan_sizes.PRESETS[name] for name in ("1m", "4m", "16m", "64m")},
        "latent": {name: {"model": unet_sizes.PRESETS[name]} for name in ("khader-16", "khader-32", "khader-64")},
    }
    return {name: {kind: sizes[name] for kind, sizes in of_pictures.items() if name in sizes} for name in names}


def augmentations(source: str) -> dict[str, Any]:
    """Return what there is in the follow-up of paper B: mirrored along one axis, and rotated by up to 5 degrees.

    Args:
      source: decides the axis, left to right (of sagittal knees: front to back), and in volumes the plane.
    """
    if source in ("pccta", "hippocampus"):
        axis, plane = 0, {"rotate_plane": (0, 1)}
    elif source in ("mrnet", "knees"):
        axis, plane = 1, {"rotate_plane": (0, 1)}  # their slices are far apart
    else:
        axis, plane = 1, {}
    flips = {"flip_axes": (axis,), "flip_p": 0.5}
    return {
        "none": {},
        "flips": {**flips, "rotate_degrees": 0.0},
        "flips+rotations": {**flips, "rotate_degrees": 5.0, "rotate_p": 0.5, **plane},
    }


def describing(scale: str, source: str) -> config_dict.ConfigDict:
    """Return the config of a descriptor of volumes: that of Dar et al., or a small one."""
    if not scale:
        return descriptor.get_config(source)
    c = descriptor.get_config("volumes,smoke" if scale == "smoke" else "volumes")
    if scale == "small":
        c.steps = c.optim.steps = 600
        look = c.steps // 10
        c.every = {"log": 50, "save": look, "evaluate": look, "preview": 0, "monitor": 0}
    return c


def _ddpm(scale: str) -> Generator:
    if not scale:
        return ddpm.get_config("cxr5216")
    return demo.get_config("ddpm,pictures" + (",smoke" if scale == "smoke" else ""))


def _stylegan2(scale: str) -> Generator:
    if not scale:
        return stylegan2.get_config("cxr5216")
    c = demo.get_config("stylegan2,pictures" + (",smoke" if scale == "smoke" else ""))
    c.ada.speed_images = _ADA_SPEED_IMAGES
    return c


def _latent(scale: str, dataset: str) -> Generator:
    if not scale:
        c = config_dict.ConfigDict({"views": 16})
        c.autoencoder = latent3d.get_config(f"{dataset},autoencoder")
        c.ddpm = latent3d.get_config(f"{dataset},ddpm")
        return c
    word = ",smoke" if scale == "smoke" else ""
    c = config_dict.ConfigDict({"views": 8 if scale == "small" else 2})
    c.autoencoder = _quiet(demo.get_config(f"autoencoder,volumes{word}"), scale)
    c.ddpm = _quiet(demo.get_config(f"ddpm,volumes{word}"), scale)
    if scale == "small":  # what was seen to copy hippocampi (BUILD_NOTES.md)
        c.autoencoder.steps = c.autoencoder.optim.steps = 800
        c.autoencoder.batch_size, c.autoencoder.autoencoder.latent_channels = 4, 8
        c.autoencoder.optim.schedule, c.autoencoder.optim.final = "cosine", 0.05
        c.ddpm.model.width = 32
    elif scale == "smoke":
        c.ddpm.model.mults = (1,)  # two levels take three times as long to compile
    return c


def _quiet(c: Generator, scale: str) -> Generator:
    """Look at a training rarely: the study audits what comes out of it."""
    if scale == "small":
        c.every = {"log": 50, "save": 750, "evaluate": 1500, "preview": 0, "monitor": 0}
    elif scale == "smoke":
        c.every = {"log": 4, "save": 4, "evaluate": 0, "preview": 0, "monitor": 0}
    return c


def _width(width: int) -> dict[str, int]:
    return {"base": 32 * width, "max_channels": 4 * width}


def _z(size: int) -> dict[str, int]:
    return {"z_dim": size, "w_dim": size}
