"""B1: does 3-D latent diffusion copy volumes of 64^3? Dar et al. (arXiv 2307.01148), section 3.1.

    python -m launch.study --config=configs/studies/b1_volumes64.py --workdir=studies/b1 --data=PCCTA
        --config.generators.latent.autoencoder.perceptual.file=lpips.npz
    python -m launch.study --config=configs/studies/b1_volumes64.py:small --workdir=studies/b1 --data=hippocampus48.npz
    python -m launch.study --config=configs/studies/b1_volumes64.py:smoke --workdir=out/smoke/b1

The paper trains the autoencoder and the diffusion model of Khader et al. on 242 parts of coronary arteries, draws 1000
volumes, and compares them by a descriptor that is trained on the training volumes. Two readers call copies of 59 % of
these; the audit needs no readers, and both may be had (`launch.review`).

The paper's volumes are not public; phantoms of vessels stand for them. Held out are patients, not volumes as in the
paper: several volumes are of one patient. `small`: 64 hippocampi, real if they are given, by a diffusion model of 0.8
million parameters.
"""

from ml_collections import config_dict

from configs.studies import parts

GRIDS = {
    "": {"source": ("pccta",), "generator": ("latent",)},
    "small": {"source": ("hippocampus",), "generator": ("latent",), "n_train": (32,)},
    "smoke": {"source": ("hippocampus",), "generator": ("latent",), "n_train": (12,)},
}


def get_config(words: str = "") -> config_dict.ConfigDict:
    """Return the study's config; words: `small` or `smoke`."""
    c = parts.study(
        words,
        title="Volumes by latent diffusion",
        question="Does a latent diffusion model copy volumes of 64 x 64 x 64?",
        claims=("B1",),
        grids=GRIDS,
        with_descriptor=words != "smoke",
    )
    if words == "small":
        c.samples = 200
    return c
