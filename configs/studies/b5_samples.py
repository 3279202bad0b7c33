"""B5: do more samples reveal more copies? Dar et al. (arXiv 2307.01148), section 3.1.

    python -m launch.study --config=configs/studies/b5_samples.py --workdir=studies/b5 --data=PCCTA
        --config.generators.latent.autoencoder.perceptual.file=lpips.npz
    python -m launch.study --config=configs/studies/b5_samples.py:small --workdir=studies/b5 --data=cxr64.npz
    python -m launch.study --config=configs/studies/b5_samples.py:smoke --workdir=out/smoke/b5

The paper draws about four times as many volumes as it trains on, and says that more might find more memorized ones.

Here one model is trained once, and drawn from more and more often. What grows is the number of training images that are
copied; the share of copies among the samples should not. The table also says what ten times more would reveal.
`small`: radiographs by the demo's diffusion model.
"""

from ml_collections import config_dict

from configs.studies import parts

GRIDS = {
    "": {"source": ("pccta",), "generator": ("latent",), "samples": (250, 500, 1000, 2000, 4000)},
    "small": {"source": ("chest",), "generator": ("ddpm",), "n_train": (64, 256), "samples": (250, 1000, 4000)},
    "smoke": {"source": ("chest",), "generator": ("ddpm",), "n_train": (8,), "samples": (12, 24)},
}


def get_config(words: str = "") -> config_dict.ConfigDict:
    """Return the study's config; words: `small` or `smoke`."""
    return parts.study(
        words,
        title="Number of samples",
        question="Do more samples reveal more memorized training images?",
        claims=("B5",),
        grids=GRIDS,
    )
