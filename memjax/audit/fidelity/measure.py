"""All set-level scores of one synthetic set, from features of three sets: training, synthetic, held-out images.

Which images go into which score: Fréchet distances shrink with the number of images, so that `fid` and `fid_real`,
which are there to be compared, are of equally many: as many synthetic images as held-out ones, against all training
images. So are neighbourhoods, of as many synthetic images as training images. Where one side has more, a random choice
that depends on the seed alone is taken. `fid_all` and `fid_heldout` are of all images there are; and the latter's bias
does not depend on the size of the training set, so that it compares generators trained on more and fewer images.
"""

import dataclasses
import math

import numpy as np
from jaxtyping import Float

from memjax.audit.fidelity.copying import auth_pct, c_t
from memjax.audit.fidelity.diversity import Images, diversity
from memjax.audit.fidelity.frechet import Gaussian, distance_of_halves, fid_infinity
from memjax.audit.fidelity.inception_score import inception_score
from memjax.audit.fidelity.kernel import kernel_distance
from memjax.audit.fidelity.likelihood import fld
from memjax.audit.fidelity.mifid import mifid
from memjax.audit.fidelity.neighbourhoods import neighbourhoods
from memjax.audit.fidelity.quality import Quality
from memjax.errors import UserError

_ENOUGH = 2048  # images, below which a Fréchet distance is mostly bias: as many as InceptionV3 has features
_PART = 1000  # images in a part for the inception score, at least
_TIMES = 4  # as many images as features, or the extrapolation is rough: see `fid_infinity`
_K = 5  # nearest neighbours
_LEAST_FRECHET, _LEAST_HALVES, _LEAST_INFINITY, _LEAST_KERNEL = 2, 4, 16, 4  # images


def measure(
    train: Float[np.ndarray, "n d"],
    synthetic: Float[np.ndarray, "m d"],
    heldout: Float[np.ndarray, "h d"] | None,
    *,
    features: str,
    probabilities: Float[np.ndarray, "m k"] | None = None,
    images: tuple[Images, Images] | None = None,
    infinity: bool = False,
    seed: int = 0,
) -> Quality:
    """Return all scores; those that the images do not allow are nan, and the warnings say why.

    Args:
      train: features of the training images.
      synthetic: features of the synthetic images, in random order.
      heldout: features of real images of patients who are not in the training set; None: there are none.
      features: what they are, for people: "InceptionV3".
      probabilities: class probabilities of the synthetic images, for features of a classifier.
      images: the training and the synthetic images themselves, as `diversity` takes them, for MS-SSIM; None: left out.
      infinity: extrapolate the Fréchet distance to infinitely many synthetic images: 15 times the work of one.
      seed: of all random choices.

    Raises:
      UserError: a feature is not a finite number, or there are no training or no synthetic images.
    """
    for name, part in {"training": train, "synthetic": synthetic, "held-out": heldout}.items():
        if part is not None and not np.isfinite(part).all():
            raise UserError(
                f"Features ({features}) of {(~np.isfinite(part).all(1)).sum()} {name} images are not finite numbers; "
                "check these images, and the weights that the features are computed with."
            )
    if not len(train) or not len(synthetic):
        raise UserError(
            f"There are {len(train)} training and {len(synthetic)} synthetic images; scores of sets take both."
        )
    return _Sets(train, synthetic, heldout, seed).quality(features, probabilities, images, infinity=infinity)


@dataclasses.dataclass
class _Sets:
    """Features of three sets, and what there is to say about scores that are missing or not to be trusted."""

    train: np.ndarray
    synthetic: np.ndarray
    heldout: np.ndarray | None
    seed: int
    warnings: list[str] = dataclasses.field(default_factory=list)

    def quality(
        self,
        features: str,
        probabilities: np.ndarray | None,
        images: tuple[Images, Images] | None,
        *,
        infinity: bool,
    ) -> Quality:
        """Return the scores of all families."""
        distances = self.frechet()
        extrapolated = {"fid_infinity": self.infinity()} if infinity else {}
        scores = (
            distances | extrapolated | self.kernel() | self.inception(probabilities) | self.places()
        ) | self.likeness(images)
        scores |= self.copying(distances["fid"])
        return Quality(
            features=features,
            n_train=len(self.train),
            n_synthetic=len(self.synthetic),
            n_heldout=0 if self.heldout is None else len(self.heldout),
            n_compared=self.compared,
            **scores,
            warnings=tuple(self.warnings),
        )

    @property
    def compared(self) -> int:
        """How many synthetic images, and as many held-out ones, the Fréchet distances are of."""
        m = len(self.synthetic)
        return m if self.heldout is None or len(self.heldout) < _LEAST_FRECHET else min(m, len(self.heldout))

    def some(self, features: np.ndarray, number: int) -> np.ndarray:
        """Return a random choice of so many images, the same for the same seed; all of them as they are."""
        if number == len(features):
            return features
        return features[np.sort(np.random.default_rng(self.seed).permutation(len(features))[:number])]

    def say(self, warning: str) -> None:
        """Add to the warnings."""
        self.warnings.append(warning)

    def frechet(self) -> dict[str, float]:
        """Return the Fréchet distances, and what is known of their bias."""
        n, m, k = len(self.train), len(self.synthetic), self.compared
        found = {"fid": math.nan, "fid_all": math.nan, "fid_heldout": math.nan, "fid_real": math.nan}
        if min(n, m) < _LEAST_FRECHET:
            self.say(f"Fréchet distances take 2 images of each set; there are {n} for training, {m} synthetic.")
            return found
        train, synthetic = Gaussian(self.train), Gaussian(self.synthetic)
        found["fid_all"] = train.distance(synthetic)
        found["fid"] = found["fid_all"] if k == m else train.distance(Gaussian(self.some(self.synthetic, k)))
        if self.heldout is not None and len(self.heldout) >= _LEAST_FRECHET:
            found["fid_heldout"] = synthetic.distance(Gaussian(self.heldout))
            found["fid_real"] = train.distance(Gaussian(self.some(self.heldout, k)))
        elif self.heldout is not None:
            self.say(f"Fréchet distances take 2 images of each set; there are {len(self.heldout)} held-out ones.")
        fewest = min(n, k)
        if fewest < _ENOUGH:
            warning = f"FID is of {fewest} images; from fewer than {_ENOUGH} it is much too high"
            if n >= _LEAST_HALVES:
                both = min(n, 2 * fewest) // 2 * 2
                found["fid_halves"] = distance_of_halves(self.some(self.train, both), seed=self.seed)
                warning += (
                    f": two random sets of {both // 2} training images each are {found['fid_halves']:.3g} apart, which "
                    "is what so few images cause alone"
                )
            self.say(f"{warning}. Compare it only with FIDs of as many images, such as that of held-out images.")
        return found

    def infinity(self) -> float:
        """Return the extrapolated Fréchet distance."""
        (m, d), n = self.synthetic.shape, len(self.train)
        if m < _LEAST_INFINITY or n < _LEAST_FRECHET:
            self.say(f"FID cannot be extrapolated from {m} synthetic images; {_LEAST_INFINITY} are the least.")
            return math.nan
        if m < d:
            self.say(f"FID is extrapolated from {m} images, fewer than there are features ({d}): it is still too high.")
        return fid_infinity(self.train, self.synthetic, seed=self.seed)

    def kernel(self) -> dict[str, float]:
        """Return the kernel distance."""
        n, m = len(self.train), len(self.synthetic)
        if min(n, m) < _LEAST_KERNEL:
            self.say(f"KID takes {_LEAST_KERNEL} images of each set; there are {n} for training, {m} synthetic.")
            return {}
        found = kernel_distance(self.train, self.synthetic, seed=self.seed)
        return {"kid": found.mean, "kid_deviation": found.deviation}

    def inception(self, probabilities: np.ndarray | None) -> dict[str, float]:
        """Return the inception score."""
        if probabilities is None:
            self.say("There is no inception score: these features do not classify.")
            return {}
        splits = min(max(len(probabilities) // _PART, 1), 10)
        found = inception_score(probabilities, splits=splits)
        if len(probabilities) < _PART:
            self.say(f"The inception score is of {len(probabilities)} images; from fewer than {_PART} it is too low.")
        deviation = found.deviation if splits > 1 else math.nan
        return {"inception_score": found.mean, "inception_score_deviation": deviation}

    def places(self) -> dict[str, float]:
        """Return precision, recall, density and coverage."""
        fewest = min(len(self.train), len(self.synthetic))
        if fewest <= _K:
            self.say(f"Precision, recall, density and coverage take {_K + 1} images of each set; there are {fewest}.")
            return {}
        found = neighbourhoods(self.some(self.train, fewest), self.some(self.synthetic, fewest), k=_K)
        return found._asdict()

    def likeness(self, images: tuple[Images, Images] | None) -> dict[str, float]:
        """Return how alike the images of each set are."""
        if images is None:
            return {}
        found, scales = {}, 5
        numbers = (len(self.train), len(self.synthetic))
        for name, part, n in zip(("ms_ssim_real", "ms_ssim"), images, numbers, strict=True):
            if n < 2:
                self.say("MS-SSIM takes pairs; there is one image only.")
                continue
            alike = diversity(part, n=n, seed=self.seed)
            found[name], scales = alike.mean, alike.scales
        if scales < 5:
            self.say(
                f"MS-SSIM is of {scales} of its 5 scales, since the images are small: compare it only with that of "
                "real images of this size."
            )
        return found

    def copying(self, fid: float) -> dict[str, float]:
        """Return the scores that try to see copying."""
        found = {"auth_pct": auth_pct(self.train, self.synthetic)}
        if math.isnan(found["auth_pct"]):
            self.say("AuthPct takes two different training images.")
        if not math.isnan(fid):
            found["mifid"] = mifid(self.train, self.synthetic, fid=fid)
        if self.heldout is None or not len(self.heldout):
            self.say("There are no held-out images: neither the FID of real images, nor C_T, nor FLD can be computed.")
            return found
        found["c_t"] = c_t(self.train, self.heldout, self.synthetic, seed=self.seed)
        if math.isnan(found["c_t"]):
            self.say(
                "There is no C_T: no cell of feature space has 20 synthetic images, a training image and an unseen one."
            )
        likelihood = fld(self.train, self.heldout, self.synthetic, seed=self.seed)
        found |= {"fld": likelihood.fld, "fld_gap": likelihood.gap}
        if math.isnan(likelihood.fld):
            self.say("FLD takes 4 training images, and 2 held-out ones with different features.")
        return found
