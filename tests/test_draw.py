"""Drawing into a store: each image is its seed's alone, and what is interrupted goes on."""

import numpy as np
import pytest

from memjax.data.manifest import Manifest
from memjax.data.store import Store
from memjax.errors import UserError
from memjax.sample.draw import draw_store

LIKE = Manifest(axes=("row", "column"), channels=("x",), shape=(4, 4, 1), dtype="uint8")


class Model:
    """Draws images whose grey level is their seed id; notes what it was asked for."""

    def __init__(self, breaks_after: int = 10**6):
        self.asked, self.labels, self.left = [], [], breaks_after

    def __call__(self, ids, label):
        self.left -= 1
        if self.left < 0:
            raise KeyboardInterrupt
        self.asked.append(ids.tolist())
        self.labels += [] if label is None else label.tolist()
        return np.broadcast_to((ids / 127.5 - 1)[:, None, None, None], (len(ids), 4, 4, 1)).astype(np.float32)


def drawn(model, seeds, out, *, like=LIKE, labels=(), share=(), settings=None, size=4):
    counts = []
    store = draw_store(
        model,
        seeds,
        out,
        like=like,
        labels=labels,
        label_share=share,
        settings=settings or {"weights": "w", "sampler": {"steps": 3}},
        batch_size=size,
        progress=counts.append,
    )
    assert sum(counts) == len(seeds)
    return store


def test_every_seed_is_drawn_once_in_full_batches(tmp_path):
    model = Model()
    store = drawn(model, range(10, 21), tmp_path / "s")
    assert [len(batch) for batch in model.asked] == [4, 4, 4]
    assert store.images[:, 0, 0, 0].tolist() == list(range(10, 21))
    assert [item.source for item in store.items] == [f"seed_{i:08d}" for i in range(10, 21)]
    assert store.manifest.preparation == {"weights": "w", "sampler": {"steps": 3}, "seed_ids": "10:21"}


def test_an_interrupted_call_goes_on_and_a_finished_one_draws_nothing(tmp_path):
    with pytest.raises(KeyboardInterrupt):
        drawn(Model(breaks_after=2), range(12), tmp_path / "s")
    again = Model()
    store = drawn(again, range(12), tmp_path / "s")
    assert again.asked == [[8, 9, 10, 11]]
    assert store.images[:, 0, 0, 0].tolist() == list(range(12))
    idle = Model()
    assert drawn(idle, range(12), tmp_path / "s").manifest.digest == store.manifest.digest
    assert idle.asked == []


def test_other_images_are_not_overwritten(tmp_path):
    drawn(Model(), range(4), tmp_path / "s")
    for change in ({"seeds": range(5)}, {"settings": {"weights": "other"}}):
        with pytest.raises(UserError, match="holds other images"):
            drawn(Model(), change.get("seeds", range(4)), tmp_path / "s", settings=change.get("settings"))
    assert len(Store.open(tmp_path / "s")) == 4


def test_labels_follow_from_the_seed_in_the_training_sets_proportions(tmp_path):
    names, share = ("normal", "pneumonia"), (0.25, 0.75)
    whole, part = Model(), Model()
    store = drawn(whole, range(400), tmp_path / "s", labels=names, share=share, size=50)
    found = [item.label for item in store.items]
    assert 0.18 < found.count("normal") / 400 < 0.32
    other = drawn(part, [7, 3], tmp_path / "t", labels=names, share=share)
    assert [item.label for item in other.items] == [found[7], found[3]]
    assert part.labels[:2] == [names.index(found[7]), names.index(found[3])]
    assert other.manifest.preparation["seed_ids"] == "7,3"


def test_images_that_are_no_bytes_keep_their_values(tmp_path):
    like = Manifest(axes=("row", "column"), channels=("x",), shape=(4, 4, 1), dtype="int16")
    store = drawn(Model(), range(3), tmp_path / "s", like=like)
    assert store.images.dtype == np.float32
    np.testing.assert_allclose(store.unit_range(np.array([2]))[0, 0, 0, 0], 2 / 127.5 - 1, rtol=1e-6)
