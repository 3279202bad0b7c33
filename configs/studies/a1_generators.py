"""A1: does a diffusion model copy more than a StyleGAN does? Akbar, Wang & Eklund (arXiv 2305.07644), figure 3, row 1.

    python -m launch.study --config=configs/studies/a1_generators.py --workdir=studies/a1
        --data=brats20=BRATS20 --data=brats21=BRATS21 --data=cxr=CHEST_XRAY
    python -m launch.study --config=configs/studies/a1_generators.py:small --workdir=studies/a1 --data=chest=cxr64.npz
    python -m launch.study --config=configs/studies/a1_generators.py:smoke --workdir=out/smoke/a1

The paper correlates 1000 images of each generator with all its training images, on slices of BraTS 2020 and 2021 and on
5216 and 1300 radiographs, and finds the diffusion model's nearer on all four.

Here both generators see equally many images, as the paper does not say how long it trained; the StyleGAN is StyleGAN2,
the diffusion model improved-diffusion's, as it does not say which they were. Copies are also looked for mirrored and
turned. Radiographs are split by patient, which the public splits are not. Full scale: eight trainings on eight
accelerators each; `small`: real or drawn radiographs of 32 x 32, eight trainings of minutes on two cores.
"""

from ml_collections import config_dict

from configs.studies import parts

BOTH = ("stylegan2", "ddpm")
GRIDS = {
    "": {"source": ("brats20", "brats21", "cxr"), "generator": BOTH, "n_train": (1300, 5216, 0)},
    "small": {"source": ("chest",), "generator": BOTH, "n_train": (64, 256, 1024, 0)},
    "smoke": {"source": ("chest",), "generator": BOTH, "n_train": (8,)},
}
WITHOUT = {  # slices are trained on as many as there are, radiographs on the paper's numbers
    "": (
        *({"source": name, "n_train": n} for name in ("brats20", "brats21") for n in (1300, 5216)),
        {"source": "cxr", "n_train": 0},
    )
}


def get_config(words: str = "") -> config_dict.ConfigDict:
    """Return the study's config; words: `small` or `smoke`."""
    return parts.study(
        words,
        title="StyleGAN2 against a diffusion model",
        question="Does a diffusion model copy more training images than a StyleGAN2 that saw as many?",
        claims=("A1", "A3"),
        grids=GRIDS,
        without=WITHOUT,
    )
