"""A3: are synthetic images nearer to training images than to unseen ones? Akbar et al. (arXiv 2305.07644), figure 3.

    python -m launch.study --config=configs/studies/a3_unseen.py --workdir=studies/a3
        --data=brats20=BRATS20 --data=brats21=BRATS21 --data=cxr=CHEST_XRAY
    python -m launch.study --config=configs/studies/a3_unseen.py:small --workdir=studies/a3 --data=chest=cxr64.npz
    python -m launch.study --config=configs/studies/a3_unseen.py:smoke --workdir=out/smoke/a3

The paper's control (row 3) for what all images of one kind have in common: synthetic images against test images.

The grid is that of A1, and shares all its work (`launch.study --shared`); what differs is what is asked. A maximum over
more images is larger, so what is found is compared with what the sizes of both sets explain. The controls `training`
and `unseen` show both ends: a generator that hands back training images, and one that makes real images of others.
"""

from ml_collections import config_dict

from configs.studies import parts
from configs.studies.a1_generators import BOTH, WITHOUT
from configs.studies.a1_generators import GRIDS as OF_A1

GRIDS = {
    "": OF_A1[""],
    "small": {"source": ("chest",), "generator": (*BOTH, "training", "unseen"), "n_train": (64, 256)},
    "smoke": {"source": ("chest",), "generator": ("ddpm", "unseen"), "n_train": (8,)},
}


def get_config(words: str = "") -> config_dict.ConfigDict:
    """Return the study's config; words: `small` or `smoke`."""
    c = parts.study(
        words,
        title="Training images against unseen ones",
        question="Are synthetic images nearer to training images than to images of unseen patients?",
        claims=("A3",),
        grids=GRIDS,
        without=WITHOUT,
    )
    if words == "small":
        c.samples = 500  # as many as there are images of unseen patients
    return c
