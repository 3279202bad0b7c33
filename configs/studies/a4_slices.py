"""A4: are slices of volumes copied more than pictures? Akbar, Wang & Eklund (arXiv 2305.07644), abstract.

    python -m launch.study --config=configs/studies/a4_slices.py --workdir=studies/a4
        --data=brats20=BRATS20 --data=cxr=CHEST_XRAY
    python -m launch.study --config=configs/studies/a4_slices.py:small --workdir=studies/a4
        --data=brain_slices=lgg64.npz --data=chest=cxr64.npz
    python -m launch.study --config=configs/studies/a4_slices.py:smoke --workdir=out/smoke/a4

The paper says that diffusion models copy more where they are trained on 2-D slices of 3-D volumes. Neighbouring slices
are nearly one image, so N slices are fewer than N images.

Here slices and radiographs are equally many, and seen equally often; and to tell what neighbours have to do with it,
slices are also thinned out: every fourth slice of four times as many patients. `small`: three-channel slices of brains
(no annotations) and radiographs, both of 32 x 32. Of few patients, 20 held out are too few to call single images where
not nearly all are copies: N = 64 alone leaves more (`--config.axes.n_train='(64,)'
--config.sources.brain_slices.heldout_patients=40`).
"""

from ml_collections import config_dict

from configs.studies import parts
from configs.studies.a1_generators import BOTH

GRIDS = {
    "": {"source": ("brats20", "cxr"), "generator": BOTH, "n_train": (5216,), "thinning": (1, 4)},
    "small": {"source": ("brain_slices", "chest"), "generator": ("ddpm",), "n_train": (64, 256), "thinning": (1, 4)},
    "smoke": {"source": ("brain_slices", "chest"), "generator": ("ddpm",), "n_train": (8,), "thinning": (1, 4)},
}
WITHOUT = {"": ({"source": "cxr", "thinning": 4},)} | dict.fromkeys(
    ("small", "smoke"), ({"source": "chest", "thinning": 4},)
)


def get_config(words: str = "") -> config_dict.ConfigDict:
    """Return the study's config; words: `small` or `smoke`."""
    return parts.study(
        words,
        title="Slices of volumes against pictures",
        question="Are slices of volumes copied more than radiographs, and is it their neighbours that make it so?",
        claims=("A4",),
        grids=GRIDS,
        without=WITHOUT,
    )
