"""TAU: does copying begin later in proportion to the number of training images? Bonnaire et al. (arXiv 2505.17638).

    python -m launch.study --config=configs/studies/tau_mem.py --workdir=studies/tau_mem --data=CHEST_XRAY
    python -m launch.study --config=configs/studies/tau_mem.py:small --workdir=studies/tau_mem --data=cxr64.npz
    python -m launch.study --config=configs/studies/tau_mem.py:smoke --workdir=out/smoke/tau_mem

The paper: a diffusion model first learns to make good images, at a time that does not depend on N, and begins to
memorize at a later one, tau_mem, that grows in proportion to N. Its images are faces of 32 x 32, its batch min(512, N).

Here tau_mem is when 5 % of the samples are copies, by the audit; the batch is the same for all N. Each training goes on
from its shorter ones; in `small`, lengths that are far from the onset are left out.
"""

from ml_collections import config_dict

from configs.studies import parts
from configs.studies.generators import IMAGES_SEEN

GRIDS = {
    "": {
        "source": ("cxr",),
        "generator": ("ddpm",),
        "n_train": (326, 652, 1304, 2608),
        "images_seen": tuple(IMAGES_SEEN * part // 16 for part in (1, 2, 4, 8, 16, 32)),
    },
    "small": {
        "source": ("chest",),
        "generator": ("ddpm",),
        "n_train": (64, 128, 256),
        "images_seen": (16_000, 32_000, 64_000, 128_000, 256_000),
    },
    "smoke": {"source": ("chest",), "generator": ("ddpm",), "n_train": (8, 16), "images_seen": (32, 64)},
}
WITHOUT = {"small": ({"n_train": 64, "images_seen": 256_000}, {"n_train": 256, "images_seen": 16_000})}


def get_config(words: str = "") -> config_dict.ConfigDict:
    """Return the study's config; words: `small` or `smoke`."""
    return parts.study(
        words,
        title="When copying begins",
        question="Does copying begin later in training in proportion to the number of training images?",
        claims=("TAU", "C1"),
        grids=GRIDS,
        without=WITHOUT,
    )
