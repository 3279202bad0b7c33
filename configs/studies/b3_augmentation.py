"""B3: does augmentation lower memorization? Dar et al. (arXiv 2307.01148), section 3.2.

    python -m launch.study --config=configs/studies/b3_augmentation.py --workdir=studies/b3 --data=PCCTA
        --config.generators.latent.autoencoder.perceptual.file=lpips.npz
    python -m launch.study --config=configs/studies/b3_augmentation.py:small --workdir=studies/b3
        --data=hippocampus48.npz
    python -m launch.study --config=configs/studies/b3_augmentation.py:smoke --workdir=out/smoke/b3

In the paper 59 % of the training volumes are memorized without augmentation and 41 % with. The follow-up mirrors along
one axis and rotates by up to 5 degrees, each with probability 0.5.

Here the two are also told apart. The autoencoder is the same in all cells and trained without; latents are encoded from
augmented volumes, several views of each (`config.generators.latent.views`), instead of anew at every step. A copy that
is mirrored is a copy: the audit looks for it in all orientations.
"""

from ml_collections import config_dict

from configs.studies import parts

ALL = ("none", "flips", "flips+rotations")
GRIDS = {
    "": {"source": ("pccta",), "generator": ("latent",), "augmentation": ALL},
    "small": {"source": ("hippocampus",), "generator": ("latent",), "n_train": (32,), "augmentation": ALL},
    "smoke": {"source": ("hippocampus",), "generator": ("latent",), "n_train": (12,), "augmentation": ALL[::2]},
}


def get_config(words: str = "") -> config_dict.ConfigDict:
    """Return the study's config; words: `small` or `smoke`."""
    c = parts.study(
        words,
        title="Augmentation",
        question="Does augmentation of the training images lower memorization?",
        claims=("B3", "B1"),
        grids=GRIDS,
        with_descriptor=words != "smoke",
    )
    if words == "small":
        c.samples = 200
    return c
