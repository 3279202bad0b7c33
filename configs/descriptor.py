"""Descriptors that find copies whatever was done to them: those of Dar et al. (arXiv 2307.01148, 2402.01054).

    python -m launch.train --config=configs/descriptor.py:pccta --data=stores/pccta --workdir=runs/descriptor_pccta
    python -m launch.train --config=configs/descriptor.py:mrnet --data=stores/mrnet --workdir=runs/descriptor_mrnet
    python -m launch.train --config=configs/descriptor.py:cxr --data=stores/cxr --workdir=runs/descriptor_cxr

Train it on the images that a generator was trained on; training ends when it finds the views of held-out patients'
images no better (`config.stop`), and the newest weights are the best. For cross-fitting train two, each on one half of
the patients:

    python -m launch.train … --workdir=runs/half0 --config.half=0        (and the same with 1)

What the follow-up trains with: Adam at 1e-4, a cosine down to half of that, 200 epochs, batches of 10 volumes or 64
pictures, the cross entropy at temperature 0.07, a dropout of half. The paper before it: triplets, no dropout, and 2 in
a batch as for the autoencoder, of which nothing can be mined; 10 here. Its margin is not known. For radiographs the
follow-up's network is a ResNet-50 of ImageNet, which does not ship with the code; here it is a residual network of 15
million parameters from the start. Meant for one GPU of 80 GB; not trained here, but for `hippocampus`:

    python -m launch.prepare --input=hippocampus48_dev.npz --out=stores/hippocampus --size=12,16,12 --fit=stretch
      --range=own --heldout_patients=0.33
    python -m launch.train --config=configs/descriptor.py:hippocampus --data=stores/hippocampus --workdir=runs/sides

A minute on two cores. Each of 58 heads was held out once in three such trainings: 69 % of their 116 hippocampi have the
other side of the head as the nearest of all held out (95 % interval 58 to 79), by correlation of the same voxels 51 %.
Two thirds of the heads are needed: trained on halves, with 23 and 35 heads of which both sides are known, it is 43 %.

Words after the colon, separated by commas: what to train on,
    pccta        64 x 64 x 64
    mrnet        256 x 256 x 32, sagittal slices last
    cxr          pictures; steps for 5216 of 256 x 256
    volumes      any small volumes, on processors; steps for 160
    hippocampus  the same for volumes of 12 x 16 x 12 or so, of which two are the two sides of one head: a view of the
                 other side is a positive, too. Not mirrored: the sides lie alike, and mirroring lost a third of them.
                 As many steps whatever held-out images say, so that they stay unseen
and if wished
    triplet   triplets in place of the cross entropy
    flips     views as the follow-up's: mirrored along one axis and rotated by 5 degrees, each with probability 0.5;
              else by everything that `memjax.data.views` knows
    a size    of `descriptor_sizes.py`
    smoke     four steps of a toy on phantoms, which needs no --data
`--config.KEY=VALUE` changes any value below.
"""

from ml_collections import config_dict

from configs import common
from configs.descriptor_sizes import PRESETS

# Images of an epoch, batch, size; the axis that the follow-up mirrors; and phantoms.
_DATASETS = {
    "pccta": (242, 10, "encoder-16", 2, "vessel"),
    "mrnet": (904, 10, "encoder-16", 1, "knee"),
    "cxr": (5216, 64, "residual-32", 1, "chest"),
    "volumes": (160, 16, "encoder-8", 0, "vessel"),
    "hippocampus": (80, 32, "encoder-8", 0, "vessel"),
}
_SWITCHES = ("triplet", "flips", "smoke")
_EPOCHS, _LOOKS = 200, 20  # and how often held-out images are looked at meanwhile


def get_config(words: str = "pccta") -> config_dict.ConfigDict:
    """Return the config that these words, separated by commas, describe."""
    dataset, size, found = "pccta", "", set()
    for word in words.split(","):
        if word in _DATASETS:
            dataset = word
        elif word in PRESETS:
            size = word
        elif word in _SWITCHES:
            found.add(word)
        else:
            raise ValueError(f"{word!r} is none of {', '.join([*_DATASETS, *PRESETS, *_SWITCHES])}")
    images, batch, default, sideways, phantoms = _DATASETS[dataset]
    c = common.common("descriptor", "cxr5216")
    c.batch_size = batch
    c.steps = images * _EPOCHS // batch
    c.half = config_dict.placeholder(int)  # 0 or 1: train on this half of the patients only
    is_small = dataset in ("volumes", "hippocampus")
    c.model = {
        **PRESETS[size or default],
        "dropout": 0.0 if "triplet" in found or is_small else 0.5,  # of few images it took most of what was learned
        "remat": False,
        "dtype": "float32" if is_small else "bfloat16",
    }
    if c.model.network == "encoder":
        c.model.downsample = config_dict.placeholder(tuple)  # until the grid is left
    c.loss = {
        "kind": "triplet" if "triplet" in found else "ntxent",
        "temperature": 0.07,
        "positives": "views",  # or patients
        "margin": 1.0,
        "mining": "semi_hard",  # or following
        "unit": False,
    }
    c.pair = "image"  # or patient: views are of another image of the same patient, where there is one
    c.views = {
        "enabled": True,
        "flip_axes": config_dict.placeholder(tuple),  # all
        "flip_p": 0.5,
        "turn_p": 0.5,
        "rotate_degrees": 5.0,
        "rotate_p": 0.5,
        "rotate_plane": config_dict.placeholder(tuple),  # any
        "elastic": 0.02,
        "elastic_smoothness": 0.25,
        "elastic_p": 0.25,
        "shift": 0.05,
        "shift_p": 0.5,
        "blur": 1.0,
        "blur_p": 0.25,
        "contrast": 0.2,
        "contrast_p": 0.5,
        "noise": 0.1,
        "noise_p": 0.5,
    }
    if "flips" in found:
        c.views.update(turn_p=0.0, elastic_p=0.0, shift_p=0.0, blur_p=0.0, contrast_p=0.0, noise_p=0.0)
        c.views.flip_axes = (sideways,)
    if dataset == "mrnet":
        c.views.rotate_plane = (0, 1)  # its slices are far apart
    c.optim = {
        "lr": 1e-3 if is_small else 1e-4,
        "warmup": 0,
        "schedule": "cosine",
        "steps": c.steps,
        "final": 0.5,
        "betas": (0.9, 0.999),
        "epsilon": 1e-8,
        "weight_decay": 0.0,
        "clip": config_dict.placeholder(float),
    }
    c.ema = {
        "decay": 0.98 if is_small else 0.0,  # of 0: what is described with are the newest parameters
        "every": 1,
        "copy_until": 0,
        "half_life_images": config_dict.placeholder(float),
        "ramp": config_dict.placeholder(float),
    }
    look = c.steps // _LOOKS
    c.every = {"log": 100, "save": look, "evaluate": look, "preview": look, "monitor": 0}
    c.stop = {"metric": "heldout/view_mrr", "patience": 5}  # looks that may be worse than the best; 0: train to the end
    if dataset == "hippocampus":
        _both_sides(c)
    if "smoke" in found:
        shrink(c, phantoms)
    return c


def _both_sides(c: config_dict.ConfigDict) -> None:
    """Train on views of another image of the same patient, that is: of the other side."""
    if c.model.network == "encoder":
        c.model.update(downsample=(1, 1, 1), grid=6, hidden=512, size=128)
    c.pair = "patient"
    if c.loss.kind == "ntxent":
        c.loss.positives = "patients"
    c.views.update(flip_p=0.0, turn_p=0.0, blur_p=0.0, rotate_degrees=10.0, elastic=0.08, elastic_p=0.7, shift=0.08)
    c.augment.update(enabled=True, flip_axes=(), rotate_degrees=10.0, intensity=0.3)
    c.stop.patience = 0


def shrink(c: config_dict.ConfigDict, phantoms: str) -> None:
    """Make a toy of the config: every part runs, on phantoms, in seconds."""
    common.shrink(c, phantoms)
    c.every.monitor = 0
    c.model.groups, c.model.dtype = 4, "float32"
    if c.model.network == "encoder":
        c.model.features, c.model.hidden = 4, 8
    else:
        c.model.width, c.model.blocks = 4, (0, 1)
    if phantoms != "chest":
        c.phantoms.size = (8, 8, 8)
    c.optim.steps = c.steps
