"""B4: does pixel correlation miss copies that a descriptor sees? Dar et al. (arXiv 2307.01148), sections 1.2 and 4.

    python -m launch.study --config=configs/studies/b4_pixels_or_embedding.py --workdir=studies/b4 --data=PCCTA
        --config.generators.latent.autoencoder.perceptual.file=lpips.npz
    python -m launch.study --config=configs/studies/b4_pixels_or_embedding.py:small --workdir=studies/b4
        --data=hippocampus48.npz
    python -m launch.study --config=configs/studies/b4_pixels_or_embedding.py:smoke --workdir=out/smoke/b4

The paper's criticism of Akbar et al.: a generator that was trained on mirrored and rotated images makes mirrored and
rotated copies, and the correlation of pixels as they lie does not see them.

Three detectors look at the same images: pixels as they lie (Akbar et al.), pixels in every orientation (the audit's
own), and a descriptor that is trained on augmented training images (Dar et al.). Each is calibrated on held-out
patients. The cells are those of B3 with and without augmentation, and share its work (`launch.study --shared`).
"""

from ml_collections import config_dict

from configs.studies import parts

BOTH = ("none", "flips+rotations")
GRIDS = {
    "": {"source": ("pccta",), "generator": ("latent",), "augmentation": BOTH},
    "small": {"source": ("hippocampus",), "generator": ("latent",), "n_train": (32,), "augmentation": BOTH},
    "smoke": {"source": ("hippocampus",), "generator": ("latent",), "n_train": (12,), "augmentation": BOTH[1:]},
}


def get_config(words: str = "") -> config_dict.ConfigDict:
    """Return the study's config; words: `small` or `smoke`."""
    c = parts.study(
        words,
        title="Pixels or a descriptor",
        question="Does the correlation of pixels miss mirrored and rotated copies that a descriptor sees?",
        claims=("B4",),
        grids=GRIDS,
        with_descriptor=True,
    )
    if words == "small":
        c.samples = 200
    return c
