"""The images of the studies, by scale and name: how real ones are prepared, who is set aside, what phantoms there are.

Real images are given by `launch.study --data=NAME=DIR`; without, phantoms are drawn. Patients set aside are the last of
a permutation, so every training set leaves them alone.
"""

from typing import Any

Source = dict[str, Any]


def _source(
    kind: str,
    size: tuple[int, ...],
    n_patients: int,
    *,
    heldout: float,
    unseen: float = 0.0,
    drawn: tuple[int, ...] | None = None,
    **preparation: Any,
) -> Source:
    """Return a source of images of this size; phantoms may be drawn in another, as slices are of volumes."""
    return {
        "input": "",
        "preparation": {"size": size, **preparation},
        "heldout_patients": float(heldout),
        "unseen_patients": unseen,
        "phantoms": {"kind": kind, "size": drawn or size, "n_patients": n_patients, "seed": 0},
        "seed": 0,
    }


SOURCES: dict[str, dict[str, Source]] = {
    # The papers'. Akbar et al.: slices of 369 and 1251 patients, 56 of whom are held out, and radiographs, of which the
    # public set has 5856: its own splits share names of patients, so they are put together and split anew. Dar et al.:
    # 300 parts of coronary arteries, 58 held out, and 1130 knees, 226 held out.
    "": {
        "brats20": _source("brain_slices", (256, 256), 369, heldout=56, format="brats"),
        "brats21": _source("brain_slices", (256, 256), 1251, heldout=56, format="brats"),
        "cxr": _source("chest", (256, 256), 5856, heldout=0.08, keep_splits=False),
        "pccta": _source("vessel", (64, 64, 64), 300, heldout=58, range_of="own"),
        "mrnet": _source(
            "knee", (256, 256, 32), 1130, heldout=226, format="mrnet", plane="sagittal", range_of="own", pad="middle",
            keep_splits=False,
        ),
    },
    # For two cores. One source for all studies of radiographs, so that they share their trainings: a tenth of the
    # patients is held out, and another tenth never seen by anybody, for those studies that ask what such images score.
    "small": {
        "chest": _source("chest", (32, 32), 5216, heldout=0.1, unseen=0.1),
        "brain_slices": _source("brain_slices", (32, 32), 60, heldout=20),
        "hippocampus": _source("vessel", (24, 32, 24), 130, heldout=0.3, fit="stretch", range_of="own"),
        "knees": _source(
            "knee", (32, 32, 16), 110, heldout=0.3, format="mrnet", plane="sagittal", fit="stretch", range_of="own",
            keep_splits=False,
        ),
    },
    "smoke": {
        "chest": _source("chest", (16, 16), 48, heldout=12, unseen=12),
        "brain_slices": _source("brain_slices", (16, 16), 5, heldout=2, drawn=(16, 16, 32)),
        "hippocampus": _source("vessel", (8, 8, 8), 32, heldout=12, fit="stretch", range_of="own"),
        "knees": _source("knee", (16, 16, 8), 32, heldout=12, fit="stretch", range_of="own"),
    },
}  # fmt: skip
