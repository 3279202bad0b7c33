"""C1: does longer training copy more? Dar et al. (arXiv 2402.01054, version 3), and Bonnaire et al. (arXiv 2505.17638).

    python -m launch.study --config=configs/studies/c1_overtraining.py --workdir=studies/c1 --data=CHEST_XRAY
    python -m launch.study --config=configs/studies/c1_overtraining.py:small --workdir=studies/c1 --data=cxr64.npz
    python -m launch.study --config=configs/studies/c1_overtraining.py:smoke --workdir=out/smoke/c1

One training of each generator, looked at after more and more images: longer ones go on from shorter ones. The papers
train latent diffusion and small diffusion models; here both generators of Akbar et al. are.
"""

from ml_collections import config_dict

from configs.studies import parts
from configs.studies.a1_generators import BOTH
from configs.studies.generators import IMAGES_SEEN

GRIDS = {
    "": {
        "source": ("cxr",),
        "generator": BOTH,
        "n_train": (1300,),
        "images_seen": tuple(IMAGES_SEEN * part // 8 for part in (1, 2, 4, 8, 16)),
    },
    "small": {
        "source": ("chest",),
        "generator": BOTH,
        "n_train": (64,),
        "images_seen": (16_000, 32_000, 64_000, 128_000),
    },
    "smoke": {"source": ("chest",), "generator": ("ddpm",), "n_train": (8,), "images_seen": (32, 64)},
}


def get_config(words: str = "") -> config_dict.ConfigDict:
    """Return the study's config; words: `small` or `smoke`."""
    return parts.study(
        words,
        title="Length of training",
        question="Does a generator copy more the longer it is trained?",
        claims=("C1",),
        grids=GRIDS,
    )
