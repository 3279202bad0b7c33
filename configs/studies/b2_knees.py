"""B2: does 3-D latent diffusion copy knees of 256 x 256 x 32? Dar et al. (arXiv 2307.01148), section 3.1.

    python -m launch.study --config=configs/studies/b2_knees.py --workdir=studies/b2 --data=MRNet-v1.0
        --config.generators.latent.autoencoder.perceptual.file=lpips.npz
    python -m launch.study --config=configs/studies/b2_knees.py:small --workdir=studies/b2
    python -m launch.study --config=configs/studies/b2_knees.py:smoke --workdir=out/smoke/b2

The paper trains on 904 of MRNet's knees, draws 3600, and has 150 of the nearest pairs labelled: a third are copies.

Here as many are trained on and 226 held out, by another permutation than the paper's, and all pairs are looked at.
`small`: knees of 32 x 32 x 16, phantoms where MRNet is not given.
"""

from ml_collections import config_dict

from configs.studies import parts

GRIDS = {
    "": {"source": ("mrnet",), "generator": ("latent",), "n_train": (904,)},
    "small": {"source": ("knees",), "generator": ("latent",), "n_train": (32,)},
    "smoke": {"source": ("knees",), "generator": ("latent",), "n_train": (12,)},
}


def get_config(words: str = "") -> config_dict.ConfigDict:
    """Return the study's config; words: `small` or `smoke`."""
    c = parts.study(
        words,
        title="Knees by latent diffusion",
        question="Does a latent diffusion model copy volumes of 256 x 256 x 32?",
        claims=("B2",),
        grids=GRIDS,
        with_descriptor=words != "smoke",
    )
    if words != "smoke":
        c.samples = 200 if words else 3600
    return c
