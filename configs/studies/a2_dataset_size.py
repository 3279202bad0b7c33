"""A2: are smaller training sets copied more? Akbar, Wang & Eklund (arXiv 2305.07644), figure 3, row 2.

    python -m launch.study --config=configs/studies/a2_dataset_size.py --workdir=studies/a2 --data=brats21=BRATS21
        --data=cxr=CHEST_XRAY
    python -m launch.study --config=configs/studies/a2_dataset_size.py:small --workdir=studies/a2 --data=chest=cxr64.npz
    python -m launch.study --config=configs/studies/a2_dataset_size.py:smoke --workdir=out/smoke/a2

The paper compares generators of BraTS 2020 (about 23,000 slices) with those of BraTS 2021 (about 91,000), and of 5216
radiographs with those of 1300.

Here smaller sets are the first patients of larger ones, from one set of images, so that nothing but the number differs;
every training sees equally many images, so the smaller sets are seen more often, as they are in practice. `small` is
the same grid as A1's, and shares its trainings (`launch.study --shared`). Full scale: sixteen trainings on eight
accelerators each.
"""

from ml_collections import config_dict

from configs.studies import parts
from configs.studies.a1_generators import BOTH
from configs.studies.a1_generators import GRIDS as OF_A1

GRIDS = {
    "": {"source": ("brats21", "cxr"), "generator": BOTH, "n_train": (325, 1300, 5216, 23_000, 0)},
    "small": OF_A1["small"],
    "smoke": {"source": ("chest",), "generator": ("ddpm",), "n_train": (8, 0)},
}
WITHOUT = {"": tuple({"source": "cxr", "n_train": n} for n in (23_000, 0))}


def get_config(words: str = "") -> config_dict.ConfigDict:
    """Return the study's config; words: `small` or `smoke`."""
    return parts.study(
        words,
        title="Number of training images",
        question="Are smaller training sets copied more?",
        claims=("A2", "A1"),
        grids=GRIDS,
        without=WITHOUT,
    )
