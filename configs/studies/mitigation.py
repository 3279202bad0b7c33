"""MITIGATION: what helps against copying, and what does it cost?

    python -m launch.study --config=configs/studies/mitigation.py --workdir=studies/mitigation --data=CHEST_XRAY
    python -m launch.study --config=configs/studies/mitigation.py:small --workdir=studies/mitigation --data=cxr64.npz
    python -m launch.study --config=configs/studies/mitigation.py:smoke --workdir=out/smoke/mitigation

One measure at a time against a training with none: augmentation and smaller models (Dar et al., arXiv 2307.01148 and
2402.01054), adaptive discriminator augmentation (Karras et al., arXiv 2006.06676), a training set without duplicates,
an end of the training as soon as the monitor sees copies (Bonnaire et al., arXiv 2505.17638), and copies taken out
before release (Fernandez et al.'s Privacy Distillation begins so). Each cell's quality stands beside its copies.
What is left once copies were taken out is judged by detectors that had no say in it: the ratio of distances, and
structural similarity.
"""

from ml_collections import config_dict

from configs.studies import parts
from configs.studies.a1_generators import BOTH

_SWITCH = (False, True)
MEASURES = {
    "": {
        "augmentation": ("none", "flips", "flips+rotations"),
        "ada": _SWITCH,
        "deduplicate": _SWITCH,
        "early_stop": _SWITCH,
        "release": _SWITCH,
        "model_size": ("16m", "1m", "4m"),
    },
    "small": {
        "augmentation": ("none", "flips+rotations"),
        "ada": _SWITCH,
        "early_stop": _SWITCH,
        "release": _SWITCH,
        "model_size": ("base", "half"),
    },
    "smoke": {"augmentation": ("none", "flips"), "early_stop": _SWITCH, "release": _SWITCH},
}
GRIDS = {
    "": {"source": ("cxr",), "generator": BOTH, "n_train": (1300,), **MEASURES[""]},
    "small": {"source": ("chest",), "generator": BOTH, "n_train": (64,), **MEASURES["small"]},
    "smoke": {"source": ("chest",), "generator": ("ddpm",), "n_train": (8,), **MEASURES["smoke"]},
}
WITHOUT = {scale: parts.one_at_a_time(measures) for scale, measures in MEASURES.items()}
WITHOUT[""] += ({"generator": "ddpm", "ada": True},)
WITHOUT["small"] += (
    {"generator": "ddpm", "ada": True},
    *({"generator": "stylegan2", name: values[1]} for name, values in MEASURES["small"].items() if name != "ada"),
)  # a StyleGAN2 copies little at this scale: what helps is seen on the diffusion model


def get_config(words: str = "") -> config_dict.ConfigDict:
    """Return the study's config; words: `small` or `smoke`."""
    c = parts.study(
        words,
        title="Measures against copying",
        question="What helps against copying, and what does it cost in quality?",
        claims=("MITIGATION",),
        grids=GRIDS,
        without=WITHOUT,
    )
    c.audit.detectors = (*c.audit.detectors, "ssim")
    for generator in c.generators.values():
        generator.every.monitor = {"": 5000, "small": 250, "smoke": 2}[words]
    return c
