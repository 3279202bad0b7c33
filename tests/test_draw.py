"""Drawing into a store: each image is its seed's alone, and what is interrupted goes on."""

import threading

import numpy as np
import pytest
from launching import files_below
from teams import by_team

from memjax.data.manifest import Manifest
from memjax.data.store import Store
from memjax.errors import UserError
from memjax.sample.draw import draw_store
from memjax.team import ALONE

LIKE = Manifest(axes=("row", "column"), channels=("x",), shape=(4, 4, 1), dtype="uint8")


class Model:
    """Draws images whose grey level is their seed id; notes what it was asked for."""

    def __init__(self, breaks_after: int = 10**6):
        self.asked, self.labels, self.left, self.new = [], [], breaks_after, set()

    def __call__(self, ids, label):
        self.left -= 1
        if self.left < 0:
            raise KeyboardInterrupt
        self.new |= set(ids.tolist())
        self.asked.append(ids.tolist())
        self.labels += [] if label is None else label.tolist()
        return np.broadcast_to((ids / 127.5 - 1)[:, None, None, None], (len(ids), 4, 4, 1)).astype(np.float32)


def drawn(model, seeds, out, *, like=LIKE, labels=(), share=(), settings=None, size=4, team=ALONE):
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
        team=team,
        progress=counts.append,
    )
    assert sum(counts) == len(seeds[team.index :: team.count])
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


LABELS = {"labels": ("normal", "pneumonia"), "share": (0.25, 0.75)}


@pytest.mark.parametrize(("count", "seeds"), [(3, range(5, 41)), (4, [9, 2, 7])])
def test_several_processes_write_the_bytes_of_one(tmp_path, count, seeds):
    one = drawn(Model(), seeds, tmp_path / "one", **LABELS)
    models = [Model() for _ in range(count)]
    stores = by_team(count, lambda team: drawn(models[team.index], seeds, tmp_path / "all", **LABELS, team=team))
    assert [store.manifest for store in stores] == [one.manifest] * count
    assert files_below(tmp_path / "all") == files_below(tmp_path / "one")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["all", "one"]
    assert sorted(id_ for model in models for id_ in model.new) == sorted(seeds)  # nobody did another's work
    idle = [Model() for _ in range(count)]
    by_team(count, lambda team: drawn(idle[team.index], seeds, tmp_path / "all", **LABELS, team=team))
    assert not any(model.new for model in idle)


@pytest.mark.parametrize("counts", [(1, 3, 2, 1), (3, 1, 4), (4, 4)])
def test_as_many_others_go_on_without_drawing_anything_again(tmp_path, counts):
    """Of each team the last process breaks off after a batch, and the others wait for it; the last team ends."""
    seeds, before, ended = range(60), set(), []
    one = drawn(Model(), seeds, tmp_path / "one")
    for number, count in enumerate(counts, start=1):
        breaks = number < len(counts)
        models = [Model(1 if breaks and i == count - 1 else 10**6) for i in range(count)]

        def work(team, models=models):
            return drawn(models[team.index], seeds, tmp_path / "all", team=team)

        ended = by_team(count, work)
        new = [id_ for model in models for id_ in model.new]
        assert new and len(new) == len(set(new)) and before.isdisjoint(new)
        before |= set(new)
        assert isinstance(ended[-1], KeyboardInterrupt) == breaks
    assert files_below(tmp_path / "all") == files_below(tmp_path / "one")
    assert ended[0].manifest.digest == one.manifest.digest and before == set(seeds)


def test_a_damaged_image_of_a_part_is_drawn_again(tmp_path):
    one = drawn(Model(), range(12), tmp_path / "one")
    by_team(2, lambda team: drawn(Model(1), range(12), tmp_path / "all", team=team))
    path = tmp_path / "all.parts" / "1.partial" / "images.npy"
    damaged = bytearray(path.read_bytes())
    damaged[-1] ^= 1  # of the last image: seed id 7
    path.write_bytes(damaged)
    again = Model()
    assert drawn(again, range(12), tmp_path / "all").manifest.digest == one.manifest.digest
    assert again.new == {7, 8, 9, 10, 11}


def test_several_processes_refuse_a_place_that_is_taken_before_they_draw(tmp_path):
    (tmp_path / "s").mkdir()
    models = [Model(), Model()]
    ended = by_team(2, lambda team: drawn(models[team.index], range(8), tmp_path / "s", team=team))
    assert all(isinstance(error, UserError | threading.BrokenBarrierError) for error in ended)
    assert any("exists already" in str(error) for error in ended)
    assert not any(model.new for model in models) and not (tmp_path / "s.parts").exists()


def test_hosts_that_do_not_share_a_folder_are_told_so(tmp_path, monkeypatch):
    monkeypatch.setattr("memjax.team._SEEN_S", 0.3)
    ended = by_team(2, lambda team: drawn(Model(), range(8), tmp_path / f"host{team.index}" / "s", team=team))
    assert isinstance(ended[0], UserError) and isinstance(ended[1], threading.BrokenBarrierError)
    assert "process 1 has written 4 images into" in str(ended[0]) and "all hosts share" in str(ended[0])
