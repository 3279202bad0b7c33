"""InceptionV3 against torch-fidelity's, with random weights: a check, and the numbers that the tests compare with.

    python -m launch.benchmark.inception_reference --out=tests/inception_reference.npz

Needs torch and torch-fidelity (the `bench` extra); neither downloads anything. Weights and images are functions of a
seed, so that the tests make them again.
"""

import importlib.util
import sys
import tempfile
import types
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from absl import flags

from launch import boot
from memjax.errors import UserError

if TYPE_CHECKING:
    import numpy as np

_OUT = flags.DEFINE_string("out", None, "The .npz file to write.", required=True)

_NAMES = ("64", "192", "768", "2048", "logits_unbiased", "logits")
_SIZES = ((24, 37), (320, 301))  # of the images: smaller and larger than what the network sees
_WORST = 1e-4  # of the largest value


def random_weights(shapes: "Mapping[str, tuple[int, ...]]", seed: int = 0) -> "dict[str, np.ndarray]":
    """Return arrays of these names and shapes that keep activations about 1: float32, PyTorch's layout."""
    import numpy as np

    rng, arrays = np.random.default_rng(seed), {}
    for name in sorted(shapes):
        x = rng.standard_normal(shapes[name], np.float32)
        if name.endswith(("conv.weight", "fc.weight")):
            x *= (2 / np.prod(shapes[name][1:])) ** 0.5
        elif name.endswith("running_var"):
            x = 0.5 + np.abs(x)
        elif name.endswith("bn.weight"):
            x = 1 + 0.2 * x
        else:
            x *= 0.2
        arrays[name] = x.astype(np.float32)
    return arrays


def random_images(seed: int = 0) -> "list[np.ndarray]":
    """Return images [h, w, 3] of 8 bits: noise on a gradient."""
    import numpy as np

    rng, images = np.random.default_rng(seed), []
    for h, w in _SIZES:
        slope = np.linspace(-60, 60, h)[:, None, None] * np.linspace(-1, 1, w)[:, None] + np.array([90, 128, 166])
        images.append(np.clip(slope + rng.normal(0, 40, (h, w, 3)), 0, 255).astype(np.uint8))
    return images


def main() -> None:
    """Compare, then write."""
    import jax
    import numpy as np
    import torch

    from memjax.data.readers.torch_files import read_torch
    from memjax.models import inception
    from memjax.models.inception_weights import read_weights, wanted_shapes
    from memjax.whole import whole_file

    arrays, images = random_weights(wanted_shapes()), random_images()
    with tempfile.TemporaryDirectory() as folder:
        state = {name: torch.from_numpy(x) for name, x in arrays.items()}
        for form, is_zip in (("archive", True), ("older form", False)):
            path = Path(folder) / "weights.pth"
            torch.save(state, path, _use_new_zipfile_serialization=is_zip)
            read = read_torch(path)
            if list(read) != list(arrays) or not all(np.array_equal(read[name], x) for name, x in arrays.items()):
                raise UserError(f"the {form} of torch.save was not read as it was written.")
        network = _torch_fidelity().FeatureExtractorInceptionV3(
            "inception", list(_NAMES), feature_extractor_weights_path=path
        )
        params = read_weights(path).params
    with torch.no_grad():
        theirs = [network(torch.from_numpy(image).permute(2, 0, 1)[None]) for image in images]
    reference = {name: np.concatenate([one[i].numpy() for one in theirs]) for i, name in enumerate(_NAMES)}
    ours = [jax.jit(inception.apply)(params, np.float32(image[None])) for image in images]
    for name, found in reference.items():
        error = np.abs(np.concatenate([one[name] for one in ours]) - found).max() / np.abs(found).max()
        boot.say(f"{name}: largest difference {error:.1e} of the largest value, which is {np.abs(found).max():.3g}")
        if not error < _WORST:
            raise UserError(f"{name} differs by more than {_WORST:g}.")
    with whole_file(Path(_OUT.value)) as partial, partial.open("wb") as file:
        np.savez_compressed(file, **reference)


def _torch_fidelity() -> types.ModuleType:
    """Return its module of InceptionV3, without its others, which want torchvision: that must be built as torch is."""
    found = importlib.util.find_spec("torch_fidelity")
    if found is None:
        raise UserError("torch-fidelity is not installed; install memjax with the extra `bench`.")
    package = types.ModuleType("torch_fidelity")
    package.__path__ = found.submodule_search_locations or []
    sys.modules["torch_fidelity"] = package
    return importlib.import_module("torch_fidelity.feature_extractor_inceptionv3")


if __name__ == "__main__":
    boot.run(main)
