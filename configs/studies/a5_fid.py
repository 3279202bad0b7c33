"""A5: can FID or the Inception score tell copying from generalising? Akbar, Wang & Eklund (arXiv 2305.07644), abstract.

    python -m launch.study --config=configs/studies/a5_fid.py --workdir=studies/a5 --data=CHEST_XRAY
        --config.quality.features=inception --config.quality.weights=INCEPTION_FILE
    python -m launch.study --config=configs/studies/a5_fid.py:small --workdir=studies/a5 --data=cxr64.npz
    python -m launch.study --config=configs/studies/a5_fid.py:smoke --workdir=out/smoke/a5

The paper concludes that both reward generators that copy. Beside the two generators stand three controls that nobody
trains: `training` hands back training images, the best that FID can score; `unseen` hands back real images of other
patients, what a perfect generator would make; `noise` is noise.

Without a file of Inception's weights, which does not ship with the code, scores are of untrained convolutions: they are
called so in the table, and are no FID. A fifth of the patients is left unseen for the control, so that about 4200
radiographs could be trained on; it is the paper's smaller set, 1300.
"""

from ml_collections import config_dict

from configs.studies import parts
from configs.studies.a1_generators import BOTH

ALL = (*BOTH, "training", "unseen", "noise")
GRIDS = {
    "": {"source": ("cxr",), "generator": ALL, "n_train": (1300,)},
    "small": {"source": ("chest",), "generator": ALL, "n_train": (64, 256)},
    "smoke": {"source": ("chest",), "generator": ("ddpm", "training"), "n_train": (8,)},
}


def get_config(words: str = "") -> config_dict.ConfigDict:
    """Return the study's config; words: `small` or `smoke`."""
    c = parts.study(
        words,
        title="Scores of quality against copying",
        question="Do FID, the Inception score and their like tell a generator that copies from one that does not?",
        claims=("A5",),
        grids=GRIDS,
    )
    if not words:
        c.sources.cxr.unseen_patients = 0.2
        c.quality.infinity = True
    if words == "small":
        c.samples = 500  # as many as there are images of unseen patients
    return c
