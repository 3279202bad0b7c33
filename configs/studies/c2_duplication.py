"""C2: are images copied more that are in the training set several times? Somepalli et al. (arXiv 2305.20086).

    python -m launch.study --config=configs/studies/c2_duplication.py --workdir=studies/c2 --data=CHEST_XRAY
    python -m launch.study --config=configs/studies/c2_duplication.py:small --workdir=studies/c2 --data=cxr64.npz
    python -m launch.study --config=configs/studies/c2_duplication.py:smoke --workdir=out/smoke/c2

A tenth of the training images (`config.duplicated_share`) is in the training set once, 4 times or 16 times; all else,
the number of images seen among it, is equal. Beside the most repeated ones stands a set without any: what the audit's
own search leaves of the source, each image once. Public sets hold such images: of 5232 radiographs of Kermany et al.
50 are byte for byte another one.
"""

from ml_collections import config_dict

from configs.studies import parts

BOTH = {"deduplicate": (False, True)}
GRIDS = {
    "": {"source": ("cxr",), "generator": ("ddpm",), "n_train": (1300,), "duplicates": (1, 4, 16), **BOTH},
    "small": {"source": ("chest",), "generator": ("ddpm",), "n_train": (256,), "duplicates": (1, 4, 16), **BOTH},
    "smoke": {"source": ("chest",), "generator": ("ddpm",), "n_train": (8,), "duplicates": (1, 4)},
}


def get_config(words: str = "") -> config_dict.ConfigDict:
    """Return the study's config; words: `small` or `smoke`."""
    return parts.study(
        words,
        title="Duplicates in the training set",
        question="Does a generator copy more if training images are there several times?",
        claims=("C2", "MITIGATION"),
        grids=GRIDS,
        without=dict.fromkeys(GRIDS, ({"duplicates": 1, "deduplicate": True}, {"duplicates": 4, "deduplicate": True})),
    )
