"""What the configs of all studies share: every key that `launch.study` knows.

A study is a grid: one cell for each combination of the values in `axes`. A cell's images are prepared, its generator
trained and sampled, its samples audited. What two cells share (the same images, the same training) is done once.
"""

from ml_collections import config_dict

# Each axis and the one value it has where a study does not vary it.
AXES = {
    "source": None,  # a name in `sources`; None: the first
    "generator": None,  # a name in `generators`, or training, unseen, noise (see below); None: the first
    "n_train": 0,  # training images, the first of a permutation of patients, so that smaller sets nest; 0: all
    "thinning": 1,  # slices of volumes: only every so manieth slice of each patient
    "duplicates": 1,  # how often each of `duplicated_share` of the training images is in the training set
    "deduplicate": False,  # leave out training images that are practically identical to another, also of `duplicates`
    "model_size": "",  # a name in `model_sizes`; "": as the generator's config says
    "augmentation": "none",  # a name in `augmentations`
    "ada": False,  # StyleGAN2: adaptive discriminator augmentation
    "early_stop": False,  # end the training when the monitor sees copies
    "images_seen": 0,  # training length; 0: as the generator's config says
    "samples": 0,  # images drawn; 0: as `samples` says
    "release": False,  # audit what is left once the copies are taken out
    "seed": 0,  # of the permutation of patients' prefix, the training and the sampling
}

CONTROLS = ("training", "unseen", "noise")  # generators that nobody trains


def base(title: str, question: str, claims: tuple[str, ...]) -> config_dict.ConfigDict:
    """Return a study without sources and generators.

    Args:
      title: for people.
      question: one sentence that ends with a question mark.
      claims: what of the papers it tests: names in `memjax/study/claims.py`.
    """
    c = config_dict.ConfigDict()
    c.title, c.question, c.claims = title, question, claims
    # NAME: {"input": a folder, a file or a store; "": draw `phantoms`, "preparation": what `launch.prepare` is asked
    # (format, size, layout, patient_regex…), "heldout_patients", "unseen_patients": shares of the patients, or numbers
    # (0: those that the source itself holds out; nobody),
    # "phantoms": {"kind", "size", "n_patients", "seed"}, "seed": of the permutation of patients}
    c.sources = {}
    # NAME: a training config as in `configs/`, or {"autoencoder": config, "ddpm": config} for latent diffusion.
    # Without a config, as controls: `training` hands back training images, `unseen` real images of patients who are
    # neither trained on nor held out, `noise` noise.
    c.generators = {}
    c.model_sizes = {}  # NAME: {generator: what differs in its config}
    c.augmentations = {"none": {}}  # NAME: what differs in `augment` of a config (`enabled` goes without saying)
    c.axes = {name: (value,) for name, value in AXES.items()}  # --config.axes.n_train='(64, 256)' takes others
    c.without = ()  # cells to leave out: each {axis: value} that fits all of a cell's
    c.duplicated_share = 0.1
    c.samples = 1000
    c.audit = {
        "symmetry": "all",  # all, flips, none
        "score": "correlation",  # or msd
        "threshold": "fdr",  # fdr, p95, p99
        "rate": 0.05,
        "channels": (),  # (): all
        "detectors": ("ratio",),  # others than the score: see `launch.audit --detectors`; `ratio` gives EMM
    }
    c.descriptor = {}  # a config of the task `descriptor`, to be trained on each cell's training images; {}: none
    # Set-level scores. `features`: random (untrained convolutions), pixels, descriptor, or inception (with `weights`,
    # the public file); none: no scores.
    c.quality = {"features": "random", "weights": "", "infinity": False, "seed": 0}
    return c
