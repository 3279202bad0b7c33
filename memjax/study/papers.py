"""What the papers report, as data: each number with the paper's version and the place where it stands."""

import dataclasses
from typing import Literal

AKBAR = (
    "Akbar, Wang, Eklund: Beware of diffusion models for synthesizing medical images. Mach. Learn.: Sci. Technol. 6(1) "
    "(2025), doi 10.1088/2632-2153/ad9a3a; arXiv 2305.07644."
)
DAR = (
    "Dar et al.: Investigating data memorization in 3D latent diffusion models for medical image synthesis. DGM4MICCAI "
    "(2023); arXiv 2307.01148."
)
FOLLOW_UP = (
    "Dar et al.: Unconditional latent diffusion models memorize patient imaging data. Nat. Biomed. Eng. (2025), doi "
    "10.1038/s41551-025-01468-8; arXiv 2402.01054, whose versions 1 to 3 report different numbers."
)
GU = "Gu et al.: On memorization in diffusion models. Trans. Mach. Learn. Res. (2025); arXiv 2310.02664."
BONNAIRE = (
    "Bonnaire et al.: Why diffusion models don't memorize: the role of implicit dynamical regularization in training. "
    "NeurIPS (2025); arXiv 2505.17638."
)

Quantity = Literal["best score", "memorized", "copied", "emm", "onset"]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Reported:
    """One number of a paper, and which of our numbers stands beside it."""

    claims: tuple[str, ...]  # keys in `claims.CLAIMS`
    what: str
    value: str
    place: str  # paper, version, figure or section
    ours: Quantity
    generator: str = ""  # which kind of ours: "diffusion", "GAN"; "": any that was trained
    augmented: bool | None = None  # only cells with, or without, augmentation; None: all


_B = "Dar et al. 2023"
_B25 = "Dar et al. 2025"


REPORTED = (
    Reported(
        claims=("A1", "A2", "A4"),
        what="Correlation of a matched pair, StyleGAN: BraTS20; BraTS21; 1300 chest X-rays; 5216 chest X-rays",
        value="0.96247; 0.92620; 0.89733; 0.87679",
        place="Akbar et al. 2025, figures 2 and 5: one pair each, not a mean",
        ours="best score",
        generator="GAN",
    ),
    Reported(
        claims=("A1", "A2", "A4"),
        what="The same, diffusion model",
        value="0.99002; 0.97655; 0.92314; 0.90564",
        place="Akbar et al. 2025, figures 2 and 5: one pair each, not a mean",
        ours="best score",
        generator="diffusion",
    ),
    Reported(
        claims=("B1", "B3", "B5"),
        what="Training volumes memorized, coronary CT 64 × 64 × 64, 242 volumes, 1000 synthetic",
        value="59 %",
        place=f"{_B}, arXiv 2307.01148, section 3.1: labelled by two readers",
        ours="memorized",
        generator="diffusion",
        augmented=False,
    ),
    Reported(
        claims=("B3", "MITIGATION"),
        what="The same with augmentation in training",
        value="41 %",
        place=f"{_B}, arXiv 2307.01148, section 3.2",
        ours="memorized",
        generator="diffusion",
        augmented=True,
    ),
    Reported(
        claims=("B2", "B5"),
        what="Candidates that are copies, knee MRI 256 × 256 × 32, 904 volumes, 3600 synthetic",
        value="33 % of 150",
        place=f"{_B}, arXiv 2307.01148, section 3.1: of 150 candidates, labelled by two readers",
        ours="memorized",
        generator="diffusion",
        augmented=False,
    ),
    Reported(
        claims=("B1", "B2", "A2"),
        what="Training data memorized: CT; MRI; X-ray",
        value="up to 41.7 %; 19.6 %; 32.6 %",
        place="Dar et al. 2024, arXiv 2402.01054 version 1, abstract",
        ours="memorized",
        generator="diffusion",
    ),
    Reported(
        claims=("B1", "B2", "A2"),
        what="Training data memorized, mean over data sets",
        value="40.9 %",
        place="Dar et al. 2024, arXiv 2402.01054 version 2, abstract",
        ours="memorized",
        generator="diffusion",
    ),
    Reported(
        claims=("B1", "B2", "A2"),
        what="Synthetic samples that are copies, mean over data sets",
        value="78.5 %",
        place="Dar et al. 2024, arXiv 2402.01054 version 2, abstract",
        ours="copied",
        generator="diffusion",
    ),
    Reported(
        claims=("B1", "B2", "A1", "A2", "A6", "B3", "C1", "MITIGATION"),
        what="Training data memorized, mean over data sets",
        value="37.2 %",
        place=f"{_B25}, arXiv 2402.01054 version 3, abstract",
        ours="memorized",
        generator="diffusion",
    ),
    Reported(
        claims=("B1", "B2", "A1", "A2", "A6", "B3", "C1", "MITIGATION"),
        what="Synthetic samples that are copies, mean over data sets",
        value="68.7 %",
        place=f"{_B25}, arXiv 2402.01054 version 3, abstract",
        ours="copied",
        generator="diffusion",
    ),
    Reported(
        claims=("B2", "B4"),
        what="Training volumes memorized, knee MRI, 904 volumes, as many synthetic; two latent diffusion models",
        value="40.2 %; 48.2 %",
        place=f"{_B25}, outputs in the released notebooks; threshold: 95th percentile of unseen volumes",
        ours="memorized",
        generator="diffusion",
    ),
    Reported(
        claims=("B2", "B4"),
        what="Synthetic volumes that are copies, the same two models",
        value="76.1 %; 87.4 %",
        place=f"{_B25}, outputs in the released notebooks",
        ours="copied",
        generator="diffusion",
    ),
    Reported(
        claims=("EMM",),
        what="Share of memorized images from which a training set counts as memorized",
        value="90 %",
        place="Gu et al., arXiv 2310.02664: the definition; their numbers are of CIFAR-10",
        ours="emm",
    ),
    Reported(
        claims=("TAU",),
        what="Slope of log τ_mem against log N",
        value="1 (in proportion)",
        place="Bonnaire et al., arXiv 2505.17638: their numbers are of CelebA at 32 × 32, grey",
        ours="onset",
    ),
)
