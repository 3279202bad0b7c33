"""The pipeline: batch k is a function of (seed, k), however it is loaded; what loads it ends when it should."""

import contextlib
import itertools
import multiprocessing
import os
import pickle
import signal
import subprocess
import sys
import threading
import time

import numpy as np
import psutil
import pytest
from absl import flags
from hypothesis import given, settings
from hypothesis import strategies as st

from memjax.data.augment import Augmentation
from memjax.data.manifest import Manifest
from memjax.data.pipeline import Pipeline, held_out_batches
from memjax.data.store import NewItem, Store, StoreWriter
from memjax.data.views import Views
from memjax.errors import UserError

SHAPE = (4, 4, 2)
EVERYTHING = Augmentation(flip_axes=(0, 1), quarter_turns=True, rotate_degrees=20.0, rotate_p=1.0, intensity=0.2)


def written(path, n, labels=("b", "a"), shape=SHAPE, dtype="uint8", patients=("",), latent=None):
    images = np.random.default_rng(n).integers(0, 200, (n, *shape)).astype(dtype)
    images[..., -1] //= 100  # the last channel holds labels
    with StoreWriter(path, shape=shape, dtype=dtype, settings="test") as writer:
        new = [
            NewItem(image=image, source=f"{i}.png", label=labels[i % len(labels)], patient=patients[i % len(patients)])
            for i, image in enumerate(images)
        ]
        writer.add("all", new)
        manifest = Manifest(axes=("row", "column"), channels=("grey", "organ"), label_channels=(1,), latent=latent)
        return writer.finish(manifest)


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    return written(tmp_path_factory.mktemp("pipeline") / "s", 23)


@pytest.fixture
def parsed_flags():
    """Grain starts processes only once absl's flags are parsed, as they are in launchers."""
    flags.FLAGS.mark_as_parsed()
    yield
    flags.FLAGS.unparse_flags()


def take(pipeline, steps, first=0, **kwargs):
    with contextlib.closing(pipeline.batches(first, **kwargs)) as batches:
        return list(itertools.islice(batches, steps))


def assert_same(found, wanted):
    assert len(found) == len(wanted)
    for one, other in zip(found, wanted, strict=True):
        assert one.keys() == other.keys()
        for name in one:
            assert one[name].dtype == other[name].dtype
            np.testing.assert_array_equal(one[name], other[name], name)


def test_a_batch_is_the_images_of_its_ids(store):
    pipeline = Pipeline(store=store, batch_size=5, seed=1, with_labels=True)
    assert pipeline.classes == ("a", "b")
    for step, batch in enumerate(take(pipeline, 12)):
        ids = pipeline.ids_at(step)
        assert {name: values.dtype for name, values in batch.items()} == {
            "image": np.float32,
            "id": np.int32,
            "label": np.int32,
        }
        np.testing.assert_array_equal(batch["id"], ids)
        np.testing.assert_allclose(batch["image"], store.images[ids] / 127.5 - 1, atol=1e-6)
        assert [pipeline.classes[place] for place in batch["label"]] == [store.items[i].label for i in ids]


@settings(max_examples=25)
@given(batch_size=st.integers(1, 23), seed=st.integers(0, 99), part=st.booleans())
def test_epochs_are_fresh_permutations_and_nothing_is_dropped(store, batch_size, seed, part):
    ids = np.arange(22, 0, -1) if part and batch_size < 23 else None
    n = 23 if ids is None else 22
    pipeline = Pipeline(store=store, batch_size=batch_size, seed=seed, ids=ids)
    steps = -(-4 * n // batch_size)
    seen = np.concatenate([pipeline.ids_at(step) for step in range(steps)])[: 4 * n].reshape(4, n)
    assert all(sorted(epoch) == sorted(range(23) if ids is None else ids) for epoch in seen)
    assert len(set(map(tuple, seen))) == 4


@pytest.mark.parametrize("hosts", [1, 2, 4])
@pytest.mark.parametrize("augmentation", [None, EVERYTHING])
def test_hosts_together_see_what_one_sees(store, hosts, augmentation):
    pipeline = Pipeline(store=store, batch_size=8, seed=2, augmentation=augmentation, with_labels=True)
    whole = take(pipeline, 7)
    rows = np.random.default_rng(0).permutation(8).reshape(hosts, -1)  # whatever rows a mesh gives to a host
    parts = [take(pipeline, 7, rows=np.sort(own)) for own in rows]
    back = np.argsort(np.concatenate([np.sort(own) for own in rows]))
    together = [
        {name: np.concatenate([part[name] for part in step])[back] for name in step[0]}
        for step in zip(*parts, strict=True)
    ]
    assert_same(together, whole)


def test_only_own_rows_are_read(store, monkeypatch):
    read = []
    monkeypatch.setattr(Store, "unit_range", lambda self, ids, out: read.append(ids))
    pipeline = Pipeline(store=store, batch_size=8, seed=2)
    take(pipeline, 1, rows=slice(2, 5))
    assert {len(ids) for ids in read} == {3}


@settings(max_examples=10)
@given(first=st.integers(0, 40))
def test_it_starts_anywhere(store, first):
    pipeline = Pipeline(store=store, batch_size=5, seed=3, augmentation=EVERYTHING)
    assert_same(take(pipeline, 2, first), take(pipeline, first + 2)[first:])


def test_it_starts_anywhere_at_once(store):
    start = time.process_time()
    take(Pipeline(store=store, batch_size=5, seed=3, augmentation=EVERYTHING), 1, 10**12)
    assert time.process_time() - start < 1


def test_no_seed_gives_what_another_gives(store):
    firsts = [take(Pipeline(store=store, batch_size=8, seed=seed, augmentation=EVERYTHING), 2) for seed in range(6)]
    assert len({batch["image"].tobytes() for two in firsts for batch in two}) == 12


def test_an_image_is_augmented_anew_every_time(store):
    pipeline = Pipeline(store=store, batch_size=1, seed=0, augmentation=EVERYTHING, ids=np.array([4]))
    images = [batch["image"] for batch in take(pipeline, 6)]
    assert len({image.tobytes() for image in images}) == 6
    assert {value for image in images for value in np.unique(image[..., 1])} == set(
        np.unique(store.unit_range(np.array([4]))[..., 1])  # the label channel
    )


def test_augmentation_switched_off_is_none(store):
    off = Augmentation(enabled=False, flip_axes=(0,), intensity=0.5)
    plain, switched = (take(Pipeline(store=store, batch_size=8, seed=2, augmentation=a), 3) for a in (None, off))
    assert_same(switched, plain)


@pytest.mark.parametrize("workers", [1, 2])
def test_processes_give_what_threads_give(store, parsed_flags, workers):
    wanted = take(Pipeline(store=store, batch_size=6, seed=5, augmentation=EVERYTHING, with_labels=True), 5, 3)
    pipeline = Pipeline(store=store, batch_size=6, seed=5, augmentation=EVERYTHING, with_labels=True, workers=workers)
    with contextlib.closing(pipeline.batches(3)) as batches:
        found = list(itertools.islice(batches, 5))
        assert_same(found, wanted)
        assert {type(values) for batch in found for values in batch.values()} == {np.ndarray}  # not shared memory's
        assert len(multiprocessing.active_children()) >= workers
    deadline = time.monotonic() + 20
    while multiprocessing.active_children() and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not multiprocessing.active_children()


def test_what_goes_to_a_process_is_small(tmp_path):
    large = written(tmp_path / "s", 40, shape=(64, 64, 2))
    large.unit_range(np.arange(2))  # now it is mapped
    pipeline = Pipeline(store=large, batch_size=4, seed=0, views=Views())
    assert len(pickle.dumps(pipeline)) < 20_000 < large.images.nbytes
    assert_same(take(pickle.loads(pickle.dumps(pipeline)), 2), take(pipeline, 2))


def test_closed_it_leaves_no_thread(store):
    def loading():
        return [thread for thread in threading.enumerate() if thread.name.startswith("grain-prefetch")]

    batches = Pipeline(store=store, batch_size=6, seed=5).batches(0)
    next(batches)
    assert loading()
    batches.close()
    deadline = time.monotonic() + 20
    while loading() and time.monotonic() < deadline:
        time.sleep(0.01)
    assert not loading()
    with pytest.raises(StopIteration):
        next(batches)


PROGRAM = """
import sys, time
from absl import flags
from memjax.data.pipeline import Pipeline
from memjax.data.store import Store

if __name__ == "__main__":
    flags.FLAGS.mark_as_parsed()
    batches = Pipeline(store=Store.open(sys.argv[1]), batch_size=6, seed=0, workers=int(sys.argv[2])).batches(0)
    for _ in range(3):
        next(batches)
    print("running", flush=True)
    if sys.argv[3] == "wait":
        sys.stdin.read()
        print(next(batches)["id"].sum(), flush=True)
"""


@contextlib.contextmanager
def program(tmp_path, *arguments):
    (tmp_path / "program.py").write_text(PROGRAM, encoding="utf-8")
    command = [sys.executable, "-W", "error", str(tmp_path / "program.py"), *map(str, arguments)]
    environment = {**os.environ, "PYTHONPATH": os.getcwd()}
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    with subprocess.Popen(command, env=environment, text=True, **pipes) as running:
        try:
            assert running.stdout.readline() == "running\n", running.communicate()
            yield running
        finally:
            running.kill()


@pytest.mark.parametrize("workers", [0, 1])
def test_a_program_that_forgets_to_close_ends_quietly(store, tmp_path, workers):
    with program(tmp_path, store.path, workers, "end") as running:
        assert running.communicate(timeout=60) == ("", "")
        assert running.returncode == 0


def test_workers_survive_signals_to_the_job_but_not_their_parent(store, tmp_path):
    with program(tmp_path, store.path, 1, "wait") as running:
        workers = psutil.Process(running.pid).children()
        for worker in workers:
            if "spawn_main" in " ".join(worker.cmdline()):
                worker.send_signal(signal.SIGTERM)
                worker.send_signal(signal.SIGINT)
        time.sleep(0.3)
        assert all(worker.status() != psutil.STATUS_ZOMBIE for worker in workers)
        running.kill()
        gone, alive = psutil.wait_procs(workers, timeout=20)
        assert gone and not alive


@pytest.mark.parametrize("workers", [0, 1])
def test_the_users_mistake_comes_through(tmp_path, parsed_flags, workers):
    pipeline = Pipeline(store=written(tmp_path / "s", 9), batch_size=4, seed=0, workers=workers)
    os.truncate(tmp_path / "s" / "images.npy", 300)
    with contextlib.closing(pipeline.batches(0)) as batches, pytest.raises(UserError) as caught:
        next(batches)
    assert str(caught.value).startswith(f"{tmp_path}/s/images.npy ")
    assert str(caught.value).endswith(("it changed while it was read.", "prepare the store again."))


def test_too_few_images_are_refused(store):
    with pytest.raises(UserError, match=rf"batch_size=24, but {store.path} has only 23 images.* at most 23"):
        Pipeline(store=store, batch_size=24, seed=0)
    with pytest.raises(UserError, match=r"batch_size=4, .* only 3 images"):
        Pipeline(store=store, batch_size=4, seed=0, ids=np.array([1, 5, 9]))


@pytest.mark.parametrize("ids", [[0, 1, 1], [0, 23, 1], [-1, 2, 3]])
def test_ids_that_name_no_image_are_refused(store, ids):
    with pytest.raises(UserError, match=r"ids must name images of .*, 0 to 22, each once"):
        Pipeline(store=store, batch_size=2, seed=0, ids=np.array(ids))


@pytest.mark.parametrize(("name", "value"), [("batch_size", 0), ("seed", -1), ("workers", -1)])
def test_numbers_below_their_least_are_refused(store, name, value):
    with pytest.raises(UserError, match=f"{name}={value} is too small"):
        Pipeline(**{"store": store, "batch_size": 2, "seed": 0, name: value})


def test_augmentation_that_does_not_fit_is_refused(store):
    with pytest.raises(UserError, match=r"augment\.flip_axes=\(2,\)"):
        Pipeline(store=store, batch_size=2, seed=0, augmentation=Augmentation(flip_axes=(2,)))


def test_labels_that_are_missing_are_refused(tmp_path):
    bare = written(tmp_path / "s", 6, labels=("x", "", "y"))
    with pytest.raises(UserError, match=r"2 of 6 images have no label \(the first: image 1 of"):
        Pipeline(store=bare, batch_size=2, seed=0, with_labels=True)
    pipeline = Pipeline(store=bare, batch_size=2, seed=0, with_labels=True, ids=np.array([5, 2]))
    assert pipeline.classes == ("x", "y")  # of the whole store
    assert take(pipeline, 1)[0]["label"].tolist() == [1, 1]


@pytest.mark.parametrize("n", [0, 1, 4, 6])
def test_held_out_images_come_once_and_the_tail_is_masked(store, n):
    ids = np.array([7, 3, 22, 0, 11, 5])[:n]
    batches = list(held_out_batches(store, ids, 4))
    assert len(batches) == -(-n // 4)
    for batch in batches:
        assert batch["image"].shape == (4, *SHAPE)
        assert batch["image"].dtype == np.float32 and batch["id"].dtype == np.int32 and batch["mask"].dtype == bool
        np.testing.assert_array_equal(batch["image"], store.unit_range(batch["id"]))
    assert [i for batch in batches for i in batch["id"][batch["mask"]]] == ids.tolist()


@pytest.fixture(scope="module")
def people(tmp_path_factory):
    """Images of patients c (0, 5, 10), a (1, 6, 11), nobody known (2, 7), a (3, 8), and b (4, 9)."""
    return written(tmp_path_factory.mktemp("people") / "s", 12, patients=("c", "a", "", "a", "b"))


PATIENT = np.array([2, 0, -1, 0, 1] * 3)[:12]


@pytest.mark.parametrize("pair", ["image", "patient"])
def test_views_come_beside_what_comes_without_them(people, pair):
    how = {"store": people, "batch_size": 4, "seed": 3, "augmentation": EVERYTHING, "with_labels": True}
    plain, pipeline = take(Pipeline(**how), 6), Pipeline(**how, views=Views(), pair=pair)
    batches = take(pipeline, 6)
    assert_same([{name: batch[name] for name in plain[0]} for batch in batches], plain)
    for batch in batches:
        assert batch.keys() - plain[0].keys() == {"view", "patient"}
        assert batch["view"].shape == batch["image"].shape and batch["view"].dtype == np.float32
        assert batch["patient"].dtype == np.int32
        np.testing.assert_array_equal(batch["patient"], PATIENT[batch["id"]])
    assert_same(take(pipeline, 2, 4), batches[4:])
    assert_same(take(pipeline, 6, rows=slice(1, 3)), [{k: v[1:3] for k, v in batch.items()} for batch in batches])
    assert len({batch["view"].tobytes() for batch in take(Pipeline(**how | {"seed": 4}, views=Views()), 6)}) == 6


def test_a_view_is_of_the_image_in_the_store_whatever_augments_the_image(people):
    others = ("turn_p", "rotate_p", "elastic_p", "shift_p", "blur_p", "contrast_p", "noise_p")
    flips = Views(flip_axes=(1,), flip_p=1.0, **dict.fromkeys(others, 0.0))
    for batch in take(Pipeline(store=people, batch_size=4, seed=3, augmentation=EVERYTHING, views=flips), 6):
        np.testing.assert_array_equal(batch["view"], people.unit_range(batch["id"])[:, :, ::-1])


def test_the_other_image_is_of_the_same_patient_and_trained_on(people):
    ids = np.array([0, 10, 1, 3, 6, 8, 2, 7, 4])  # two of c, four of a, two of nobody known, one of b
    pipeline = Pipeline(store=people, batch_size=9, seed=0, ids=ids, views=Views(enabled=False), pair="patient")
    partners = {id_: set() for id_ in ids.tolist()}
    for batch in take(pipeline, 40):
        for id_, view in zip(batch["id"].tolist(), batch["view"], strict=True):
            partners[id_] |= {i for i in range(12) if np.array_equal(people.unit_range(np.array([i]))[0], view)}
    a = {1, 3, 6, 8}
    alone = {id_: {id_} for id_ in (2, 7, 4)}
    assert partners == {0: {10}, 10: {0}, **{id_: a - {id_} for id_ in a}, **alone}


def test_held_out_images_have_the_same_view_in_any_batch(people):
    ids = np.array([4, 0, 7, 5, 3])
    whole = next(held_out_batches(people, ids, 5, Views()))
    parts = list(held_out_batches(people, ids, 2, Views()))
    np.testing.assert_array_equal(whole["patient"], PATIENT[ids])
    for name in ("image", "view", "patient", "id"):
        np.testing.assert_array_equal(np.concatenate([part[name] for part in parts])[:5], whole[name], name)
    assert not np.array_equal(whole["view"], whole["image"])
    assert next(held_out_batches(people, ids, 5)).keys() == {"image", "id", "mask"}


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ({"views": Views(enabled=False)}, r"config\.views varies nothing, so .* set views\.enabled to True and give"),
        (
            {"views": Views(enabled=False), "pair": "patient", "ids": np.array([0, 1, 2])},
            r"varies nothing, and no patient in .* has two images, so",
        ),
        ({"ids": np.array([1, 6, 3])}, r"all 3 images to train on of .* are of one patient"),
        ({"pair": "twin"}, r"config\.pair='twin' is not known; give image or patient"),
        ({"views": Views(flip_axes=(2,))}, r"views\.flip_axes=\(2,\) names axis 2"),
    ],
)
def test_pairs_that_teach_nothing_are_refused(people, given, told):
    with pytest.raises(UserError, match=told):
        Pipeline(**{"store": people, "batch_size": 2, "seed": 0, "views": Views(), **given})


def test_views_of_latents_are_refused(tmp_path):
    latents = written(tmp_path / "s", 6, latent={"autoencoder": "0"})
    with pytest.raises(UserError, match="holds latents, views are of images"):
        Pipeline(store=latents, batch_size=2, seed=0, views=Views())
