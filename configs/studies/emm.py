"""EMM: the largest training set that is still memorized. Gu et al. (arXiv 2310.02664).

    python -m launch.study --config=configs/studies/emm.py --workdir=studies/emm --data=CHEST_XRAY
    python -m launch.study --config=configs/studies/emm.py:small --workdir=studies/emm --data=cxr64.npz
    python -m launch.study --config=configs/studies/emm.py:smoke --workdir=out/smoke/emm

Effective model memorization: the largest N at which 90 % of the samples lie three times nearer to one training image
than to the second nearest, trained until nothing more is memorized. The paper finds it for CIFAR-10 at 40,000 epochs.

So the ladder begins with few images, each seen many thousand times; the best training length counts. `small`: 128,000
images seen, 8,000 epochs of 16 images, which are a batch.
"""

from ml_collections import config_dict

from configs.studies import parts
from configs.studies.generators import IMAGES_SEEN

GRIDS = {
    "": {
        "source": ("cxr",),
        "generator": ("ddpm",),
        "n_train": (64, 128, 256, 512, 1024, 2048),
        "images_seen": (IMAGES_SEEN, 2 * IMAGES_SEEN),
    },
    "small": {
        "source": ("chest",),
        "generator": ("ddpm",),
        "n_train": (16, 32, 64, 128),
        "images_seen": (64_000, 128_000),
    },
    "smoke": {"source": ("chest",), "generator": ("ddpm",), "n_train": (8, 16), "images_seen": (32, 64)},
}


def get_config(words: str = "") -> config_dict.ConfigDict:
    """Return the study's config; words: `small` or `smoke`."""
    return parts.study(
        words,
        title="Effective model memorization",
        question="How many training images can this model memorize nearly completely?",
        claims=("EMM",),
        grids=GRIDS,
    )
