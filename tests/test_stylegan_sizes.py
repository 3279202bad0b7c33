"""Named sizes have as many parameters as the papers' code tells, counted by hand; networks of every resolution too."""

import jax
import pytest

from configs.stylegan_sizes import PRESETS
from memjax.models.gan import gan
from memjax.trees import count


def parameters_of(side, channels, blocks, n_classes=None):
    """Return the parameters of generator and discriminator."""
    model = gan((side, side, channels), **blocks, n_classes=n_classes)
    shapes = jax.eval_shape(model.init, jax.random.key(0))
    return count(shapes["generator"]), count(shapes["discriminator"])


# Side, channels, generator with its mapping, discriminator.
COUNTS = {
    "1m": (64, 1, 492_836, 517_067),
    "4m": (64, 1, 1_964_690, 2_065_149),
    "16m": (64, 1, 7_845_494, 8_254_361),
    "64m": (64, 1, 31_355_486, 33_004_977),
    "stylegan2": (1024, 3, 30_370_060, 29_012_513),  # which its code tells of FFHQ
    "paper256": (256, 1, 24_762_452, 24_000_961),
    "auto": (256, 1, 23_186_516, 24_000_961),
    "cifar": (32, 1, 19_943_435, 20_719_617),
    "stylegan1": (1024, 3, 26_212_019, 23_077_137),
}


def test_counts_are_those_of_the_papers():
    of = {name: COUNTS[name][:2] for name in PRESETS}
    assert {name: (*of[name], *by_hand(*of[name], 0, **blocks)) for name, blocks in PRESETS.items()} == COUNTS
    # StyleGAN's code tells of FFHQ what its networks have with an image at each resolution, to grow.
    grown = {name: dict(block) for name, block in PRESETS["stylegan1"].items()}
    grown["synthesis"]["architecture"] = grown["discriminator"]["architecture"] = "skip"
    assert by_hand(1024, 3, 0, **grown) == (26_219_627, 23_087_249)


@pytest.mark.parametrize(
    ("side", "name", "channels", "n_classes"),
    [
        (16, "stylegan1", 5, 3),
        (32, "cifar", 3, 10),
        (64, "1m", 1, None),
        (128, "stylegan1", 1, None),
        (256, "paper256", 5, 2),
        (512, "auto", 1, None),
        (1024, "stylegan2", 3, None),
    ],
)
def test_networks_are_as_counted(side, name, channels, n_classes):
    blocks = PRESETS[name]
    assert parameters_of(side, channels, blocks, n_classes) == by_hand(side, channels, n_classes or 0, **blocks)


@pytest.mark.parametrize("architecture", ["skip", "residual", "plain"])
def test_architectures_are_as_counted(architecture):
    blocks = {name: dict(block) for name, block in PRESETS["4m"].items()}
    blocks["synthesis"]["architecture"] = blocks["discriminator"]["architecture"] = architecture
    assert parameters_of(16, 1, blocks) == by_hand(16, 1, 0, **blocks)


def by_hand(side, channels, n_classes, mapping, synthesis, discriminator):
    """Return the parameters of both networks, term by term from the papers."""
    z, w, depth = mapping["z_dim"], mapping["w_dim"], mapping["depth"]
    sides = [4 << k for k in range(side.bit_length() - 2)]

    def wide(r):
        return min(synthesis["base"] // r, synthesis["max_channels"])

    def dense(c, d):
        return (c + 1) * d

    def mapped(z, w, depth):
        first = z + (w if n_classes else 0)
        return (dense(n_classes, w) if n_classes else 0) + dense(first, w) + (depth - 1) * dense(w, w)

    def styled(c, d):  # kernel, bias, noise, and the style that scales inputs, or scales and shifts outputs
        if synthesis["style"] == "modulated":
            return 9 * c * d + d + 1 + dense(w, c)
        return 9 * c * d + d + d + dense(w, 2 * d)

    def rgb(c):
        return dense(c, channels) + (dense(w, c) if synthesis["style"] == "modulated" else 0)

    generator = mapped(z, w, depth) + 16 * wide(4) + styled(wide(4), wide(4))
    if synthesis["style"] == "adain":
        generator += styled(0, wide(4))
    generator += sum(styled(wide(r // 2), wide(r)) + styled(wide(r), wide(r)) for r in sides[1:])
    generator += sum(rgb(wide(r)) for r in (sides if synthesis["architecture"] == "skip" else sides[-1:]))
    if synthesis["architecture"] == "residual":
        generator += sum(wide(r // 2) * wide(r) for r in sides[1:])

    c = wide(4)
    critic = sum(dense(9 * wide(r), wide(r)) + dense(9 * wide(r), wide(r // 2)) for r in sides[1:])
    seen = sides if discriminator["architecture"] == "skip" else sides[-1:]
    critic += sum(dense(channels, wide(r)) for r in seen)
    if discriminator["architecture"] == "residual":
        critic += sum(wide(r) * wide(r // 2) for r in sides[1:])
    critic += dense(9 * (c + 1), c) + dense(16 * c, c) + dense(c, c if n_classes else 1)
    return generator, critic + (mapped(0, c, 8) if n_classes else 0)
