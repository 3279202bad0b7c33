"""Parts of stores: exact, nested, never meeting the patients set aside; and without what is there twice."""

import contextlib
import dataclasses
import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from small_findings import make_store

from memjax.audit.distinct import distinct_ids
from memjax.data import subset as subject
from memjax.data.copies import make_copy
from memjax.data.manifest import Item
from memjax.data.phantom_store import write_phantoms
from memjax.data.phantoms import draw
from memjax.data.split import first_images
from memjax.data.store import NewItem, Store, StoreWriter
from memjax.data.subset import repeated, split_patients, thinned_ids, write_subset
from memjax.errors import UserError
from memjax.mesh import audit_mesh

KEPT = ("patient", "slice", "label", "low", "high", "sha256")


def items_of(patients, slices=None, sources=None):
    """Rows with these patients, and nothing else of interest."""
    slices = slices or [None] * len(patients)
    sources = sources or [f"{i}.png" for i in range(len(patients))]
    return [
        Item(
            id=i, source=sources[i], patient=patient, slice=slices[i], split="", label="", low=0.0, high=1.0, sha256=""
        )
        for i, patient in enumerate(patients)
    ]


def a_store(path):
    """A store in which every fact differs between images: its manifest's are those of slices of labelled volumes."""
    plain = make_store(
        path.with_name("plain"),
        np.random.default_rng(0).normal(0, 9, (7, 4, 3, 2)).astype(np.float32),
        axes=("R", "A"),
        spacing_mm=(1.0, 2.0),
        label_channels=(1,),
        patients=list("aabbccd"),
    )
    with StoreWriter(path, shape=(4, 3, 2), dtype="float32", settings=0) as writer:
        for item, image in zip(plain.items, plain.images, strict=True):
            source = f"volume {item.patient}#{item.id}" if item.id else "volume a~2"
            new = NewItem(
                image=image,
                source=source,
                patient=item.patient,
                slice=item.id,
                label=str(item.id % 2),
                value_range=(-float(item.id), 10.0 + item.id),
            )
            writer.add(source, [new])
        latent = {"autoencoder": "f" * 64, "scale": "std", "image": {"channels": ["T1"]}}
        about = {"notes": ("a note",), "latent": latent, "left_out": ({"source": "x", "reason": "none"},)}
        return writer.finish(dataclasses.replace(plain.manifest, **about))


def test_a_subset_keeps_every_fact_of_its_images(tmp_path):
    store = a_store(tmp_path / "all")
    ids, copies = np.array([5, 0, 3]), np.array([1, 3, 2])
    made = write_subset(tmp_path / "part", store, ids, split="train", copies=copies)
    found = Store.open(tmp_path / "part")
    found.verify()
    origin = np.repeat(ids, copies)
    np.testing.assert_array_equal(found.images, store.images[origin])
    for item, id_ in zip(found.items, origin.tolist(), strict=True):
        assert [getattr(item, name) for name in KEPT] == [getattr(store.items[id_], name) for name in KEPT]
        assert item.split == "train"
    assert [item.source for item in found.items] == [
        "volume c#5", "volume a~2", "volume a~2~2", "volume a~2~3", "volume b#3", "volume b#3~2",
    ]  # fmt: skip
    mine, theirs = (dataclasses.asdict(whole.manifest) for whole in (found, store))
    differing = {name for name in mine if mine[name] != theirs[name]}
    assert differing == {"n", "digest", "notes"}
    assert mine["notes"][:-1] == theirs["notes"]
    assert "3 of the 7 images" in mine["notes"][-1] and "2 of them more than once" in mine["notes"][-1]
    assert made.manifest.digest == found.manifest.digest


def test_a_source_that_is_taken_gets_another_number(tmp_path):
    images = np.arange(12, dtype=np.uint8).reshape(3, 2, 2, 1)
    store = make_store(tmp_path / "all", images, sources=["a", "a~2", "b"])
    made = write_subset(tmp_path / "part", store, np.arange(3), split="train", copies=np.array([2, 2, 1]))
    assert [item.source for item in made.items] == ["a", "a~3", "a~2", "a~2~2", "b"]


def test_an_interrupted_subset_goes_on(tmp_path, monkeypatch):
    store = a_store(tmp_path / "all")
    monkeypatch.setattr(subject, "_BLOCK_BYTES", 2 * store.images[0].nbytes)
    ids = np.array([6, 2, 4, 1, 0])
    read = []
    gather = Store.gather

    def interrupted(self, some):
        read.append(some.tolist())
        if len(read) == 3:
            raise KeyboardInterrupt
        return gather(self, some)

    monkeypatch.setattr(Store, "gather", interrupted)
    with contextlib.suppress(KeyboardInterrupt):
        write_subset(tmp_path / "part", store, ids, split="train")
    made = write_subset(tmp_path / "part", store, ids, split="train")
    assert read == [[6, 2], [4, 1], [0], [0]]
    np.testing.assert_array_equal(made.images, store.images[ids])


def test_what_makes_no_subset_is_refused(tmp_path):
    store = make_store(tmp_path / "all", np.arange(8, dtype=np.uint8).reshape(2, 2, 2, 1))
    with pytest.raises(UserError, match="no image"):
        write_subset(tmp_path / "part", store, np.array([], np.int64), split="train")
    with (tmp_path / "all" / "images.npy").open("r+b") as file:
        file.seek(-1, 2)
        file.write(b"\xff")
    with pytest.raises(UserError, match="not the one that was prepared"):
        write_subset(tmp_path / "part", store, np.arange(2), split="train")


patients = st.lists(st.sampled_from(["", *"abcdefghij"]), min_size=4, max_size=40)


@settings(max_examples=40)
@given(patients=patients, heldout=st.integers(0, 3), unseen=st.integers(0, 3), seed=st.integers(0, 9), data=st.data())
def test_training_sets_nest_and_never_meet_who_is_set_aside(patients, heldout, unseen, seed, data):
    items = items_of(patients)
    ids = np.array(sorted(data.draw(st.sets(st.sampled_from(range(len(items))), min_size=1))), np.int64)
    owners = {id_: items[id_].patient or f"alone {id_}" for id_ in ids.tolist()}
    if heldout + unseen >= len(set(owners.values())):
        with pytest.raises(UserError, match="leave none to train on"):
            split_patients(items, ids, heldout=heldout, unseen=unseen, seed=seed)
        return
    parts = split_patients(items, ids, heldout=heldout, unseen=unseen, seed=seed)
    np.testing.assert_array_equal(np.sort(np.concatenate(parts)), ids)
    people = [{owners[id_] for id_ in part.tolist()} for part in parts]
    assert sum(map(len, people)) == len(set(owners.values()))  # nobody is in two parts
    assert [len(people[1]), len(people[2])] == [heldout, unseen]
    # Held-out patients are the same whoever else is left unseen, and training sets of any seed are a chain.
    np.testing.assert_array_equal(split_patients(items, ids, heldout=heldout, unseen=0, seed=seed)[1], parts[1])
    train = parts[0]
    of_any_seed = data.draw(st.integers(0, 9))
    sets = [set(first_images(items, train, count, of_any_seed).tolist()) for count in range(1, len(train) + 1)]
    assert all(smaller < larger for smaller, larger in itertools.pairwise(sets))
    assert sets[-1] == set(train.tolist())


def test_shares_of_patients():
    items = items_of([f"p{i // 2}" for i in range(40)])
    train, heldout, unseen = split_patients(items, np.arange(40), heldout=0.25, unseen=0.1, seed=3)
    assert [len(train), len(heldout), len(unseen)] == [26, 10, 4]
    for wrong in (0.01, 1.5, -1.0, float("nan")):
        with pytest.raises(UserError, match="heldout_patients"):
            split_patients(items, np.arange(40), heldout=wrong, unseen=0, seed=0)


def test_thinning_takes_every_so_manieth_slice_of_each_volume():
    # Two volumes of one patient, one of another, slices in disorder and with gaps; and a picture that is no slice.
    sources = [f"{name}.nii#{z}" for name, at in (("x", (9, 2, 4, 3)), ("y", (5, 6)), ("z", (0, 1, 8))) for z in at]
    slices = [9, 2, 4, 3, 5, 6, 0, 1, 8, None]
    items = items_of([*"aaaaaa", *"bbb", "c"], slices, [*sources, "p.png"])
    everything = np.arange(10)
    assert thinned_ids(items, everything, 1).tolist() == everything.tolist()
    assert thinned_ids(items, everything, 2).tolist() == [1, 2, 4, 6, 8, 9]
    assert thinned_ids(items, everything, 3).tolist() == [0, 1, 4, 6, 9]
    assert thinned_ids(items, np.array([0, 2, 3]), 2).tolist() == [0, 3]
    assert thinned_ids(items, everything[:0], 2).tolist() == []
    with pytest.raises(UserError, match="no slices"):
        thinned_ids(items, np.array([9]), 2)
    with pytest.raises(UserError, match="thinning=0"):
        thinned_ids(items, everything, 0)


times = st.integers(1, 16)


@given(count=st.integers(1, 60), share=st.floats(0, 1), times=times, more=times, seed=st.integers(0, 9))
def test_repeated_images(count, share, times, more, seed):
    ids = np.arange(count) * 3
    copies = repeated(ids, share=share, times=times, seed=seed)
    chosen = max(1, round(share * count)) if share else 0
    assert sorted(copies.tolist()) == sorted([times] * chosen + [1] * (count - chosen))
    # The same images whatever their copies; a larger share repeats these, too.
    if times > 1 and more > 1:
        np.testing.assert_array_equal(repeated(ids, share=share, times=more, seed=seed) > 1, copies > 1)
    larger = repeated(ids, share=(share + 1) / 2, times=2, seed=seed)
    assert (larger[copies > 1] > 1).all()


def test_repetition_out_of_range_is_refused():
    for wrong in ({"share": 1.1, "times": 2}, {"share": 0.1, "times": 0}, {"share": float("nan"), "times": 2}):
        with pytest.raises(UserError, match="duplicates"):
            repeated(np.arange(4), **wrong, seed=0)


def test_one_of_each_group_of_practically_identical_images_is_kept(tmp_path):
    """Copied, mirrored, turned, rescaled in grey, in a chain; a blank image is evidence of nothing."""
    drawn = draw("chest", range(24), size=(16, 16))
    images = drawn.images.copy()
    images[5] = images[2]
    images[9] = np.flip(images[2], 1)
    images[17] = np.rot90(images[5])
    images[11] = 20 + images[4] // 2  # halved, so rounded: still the same acquisition
    images[20] = make_copy(images[7], "flipped", rng=np.random.default_rng(0))[0]
    images[13] = images[14] = 7
    store = write_phantoms(tmp_path / "all", dataclasses.replace(drawn, images=images))
    everything = set(range(24))
    mesh = audit_mesh(1)
    assert set(distinct_ids(store, mesh=mesh).tolist()) == everything - {5, 9, 17, 11, 20}
    some = np.array([17, 9, 5, 3, 20, 13, 14, 11])  # the second and its kin, but not itself
    assert distinct_ids(store, some, mesh=mesh, symmetry="flips").tolist() == [3, 5, 11, 13, 14, 17, 20]
    assert distinct_ids(store, some[:1], mesh=mesh).tolist() == [17]
