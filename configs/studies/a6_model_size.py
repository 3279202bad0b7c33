"""A6: do larger models copy more? Akbar et al. (arXiv 2305.07644) discuss it; Dar et al. (arXiv 2402.01054) say so.

    python -m launch.study --config=configs/studies/a6_model_size.py --workdir=studies/a6 --data=CHEST_XRAY
    python -m launch.study --config=configs/studies/a6_model_size.py:small --workdir=studies/a6 --data=cxr64.npz
    python -m launch.study --config=configs/studies/a6_model_size.py:smoke --workdir=out/smoke/a6

The papers compare few sizes, or tell none. Here sizes are ladders with one dial, the width: from 1 to 250 million
parameters (`configs/unet_sizes.py`, `stylegan_sizes.py`), all trained alike. `small`: the demo's diffusion model (0.3
million), half and twice as wide.
"""

from ml_collections import config_dict

from configs.studies import parts
from configs.studies.a1_generators import BOTH

LADDER = ("1m", "4m", "16m", "64m", "250m")
WIDTHS = ("half", "base", "double")
GRIDS = {
    "": {"source": ("cxr",), "generator": BOTH, "n_train": (1300,), "model_size": LADDER},
    "small": {"source": ("chest",), "generator": ("ddpm",), "n_train": (64, 256), "model_size": WIDTHS},
    "smoke": {"source": ("chest",), "generator": ("ddpm",), "n_train": (8,), "model_size": ("half", "base")},
}
WITHOUT = {"": ({"generator": "stylegan2", "model_size": "250m"},)}  # its ladder ends before


def get_config(words: str = "") -> config_dict.ConfigDict:
    """Return the study's config; words: `small` or `smoke`."""
    return parts.study(
        words,
        title="Size of the model",
        question="Do larger models copy more?",
        claims=("A6",),
        grids=GRIDS,
        without=WITHOUT,
    )
