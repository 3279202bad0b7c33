"""What the configs of all models share: the datasets of Akbar, Wang & Eklund (arXiv 2305.07644), and how runs go."""

from collections.abc import Iterable

from ml_collections import config_dict

# What differs between the paper's datasets; sizes and channels come from the store.
DATASETS = {
    "brats20": {"n_train": 0, "phantoms": "brain_slices"},
    "brats21": {"n_train": 0, "phantoms": "brain_slices"},
    "cxr5216": {"n_train": 0, "phantoms": "chest"},
    "cxr1300": {"n_train": 1300, "phantoms": "chest"},
}


def chosen(words: str, presets: Iterable[str], preset: str, switches: Iterable[str] = ()) -> tuple[str, str, set[str]]:
    """Return the dataset, the preset and the switches that these words, separated by commas, name.

    Raises:
      ValueError: a word names none of them.
    """
    dataset, found = "cxr5216", set()
    for word in words.split(","):
        if word in DATASETS:
            dataset = word
        elif word in presets:
            preset = word
        elif word in (*switches, "smoke"):
            found.add(word)
        else:
            raise ValueError(f"{word!r} is none of {', '.join([*DATASETS, *presets, *switches, 'smoke'])}")
    return dataset, preset, found


def common(task: str, dataset: str) -> config_dict.ConfigDict:
    """Return the keys that every model's config has."""
    c = config_dict.ConfigDict()
    c.task = task
    c.seed = 0
    c.n_train = DATASETS[dataset]["n_train"]  # images to train on, the first of a permutation of patients; 0: all
    c.fsdp = 1  # devices that share one copy of parameters and optimizer
    c.with_labels = False  # condition on the store's labels
    c.augment = {
        "enabled": False,  # False: nothing of the following is done
        "flip_axes": (1,),
        "flip_p": 0.5,
        "quarter_turns": False,
        "rotate_degrees": 5.0,
        "rotate_p": 0.5,
        "intensity": 0.0,
    }
    c.every = {"log": 100, "save": 5000, "evaluate": 5000, "preview": 5000, "monitor": 0}
    c.monitor = {"seeds": 128, "symmetry": "none", "percentile": 95.0, "p_value": 0.001}
    c.phantoms = {}  # what to draw where there is no --data
    return c


def shrink(c: config_dict.ConfigDict, phantoms: str) -> None:
    """Make a run of four steps on phantoms of it, in which everything happens; the model is the caller's."""
    c.steps, c.batch_size, c.n_train = 4, 8, 0
    c.every = {"log": 1, "save": 2, "evaluate": 4, "preview": 4, "monitor": 2}
    c.monitor.seeds = 8
    size = (16, 16, 32) if phantoms == "brain_slices" else (16, 16)
    n_train = 2 if phantoms == "brain_slices" else 12  # a volume gives several slices
    c.phantoms = {"kind": phantoms, "size": size, "n_train": n_train, "n_heldout": n_train, "seed": 0}
