"""Set-level scores of one synthetic set, as plain data: made by `measure`, read by tables and pages."""

import dataclasses
import math
from collections.abc import Sequence


@dataclasses.dataclass(frozen=True, kw_only=True)
class Quality:
    """Scores of a synthetic set against its training set, and against real images that the generator never saw.

    A score that could not be computed is nan, and `warnings` says why. Distances: 0 is best. None of the first group
    can tell copying from generalising: a generator that returns training images has the best of them.
    """

    features: str  # what the scores are computed in, for people: "InceptionV3", "random convolutions", "pixels"
    n_train: int
    n_synthetic: int
    n_heldout: int  # 0 without

    n_compared: int = 0  # synthetic images, and held-out ones, that `fid` and `fid_real` are of
    fid: float = math.nan  # Fréchet distance to the training set
    fid_all: float = math.nan  # the same of all synthetic images, as other programs compute it
    fid_heldout: float = math.nan  # to the held-out images, of all there are
    fid_real: float = math.nan  # of held-out images to the training set: what real images of others score
    fid_infinity: float = math.nan  # to the training set, extrapolated to infinitely many images
    fid_halves: float = math.nan  # of two parts of the training set: what few images cause; nan with enough
    kid: float = math.nan  # kernel distance to the training set
    kid_deviation: float = math.nan  # its standard deviation over subsets
    inception_score: float = math.nan  # only with features that classify
    inception_score_deviation: float = math.nan  # its standard deviation over parts; nan with one part
    precision: float = math.nan
    recall: float = math.nan
    density: float = math.nan
    coverage: float = math.nan
    ms_ssim: float = math.nan  # mean over random pairs of synthetic images: 1 if all are the same
    ms_ssim_real: float = math.nan  # over pairs of training images

    c_t: float = math.nan  # data-copying test: far below 0 copying, far above 0 underfitting
    auth_pct: float = math.nan  # percent of synthetic images that are authentic: about 50 if they are new
    mifid: float = math.nan  # memorization-informed Fréchet distance
    fld: float = math.nan  # feature likelihood divergence on held-out images
    fld_gap: float = math.nan  # its generalization gap: the more negative, the more overfitted

    warnings: Sequence[str] = ()
