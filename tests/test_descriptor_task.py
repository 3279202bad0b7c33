"""The descriptor in training: its gradient, what it learns of people it never saw, alike on eight devices."""

import csv

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from compiling import QUICK
from launching import launch, store

from configs import descriptor as configs
from memjax.artifacts.metrics import read_metrics
from memjax.artifacts.weights import read_weights
from memjax.data.halves import half_of
from memjax.data.phantoms import draw
from memjax.data.pipeline import Pipeline, held_out_batches
from memjax.data.store import Store
from memjax.data.views import Views
from memjax.errors import UserError
from memjax.keys import key_at, key_for
from memjax.mesh import put, replicated, state_shardings, train_mesh
from memjax.objectives import contrastive
from memjax.train.descriptor import Loss
from memjax.train.tasks import make_task
from memjax.trees import norm

BATCH, SIZE = 16, (16, 16)
KEY = key_for(0, "init")
VIEWS = Views(turn_p=0.0, elastic=0.0, blur=0.0)


def config(*words, **changes):
    c = configs.get_config(",".join(["cxr", "smoke", *words]))
    c.batch_size = BATCH
    c.update_from_flattened_dict(changes)
    return c.to_dict()


def task(*words, mesh=None, shape=(*SIZE, 1), **changes):
    return make_task(config(*words, **changes), shape=shape, mesh=mesh or train_mesh(n_devices=1))


def ready(mesh):
    """Return the task, what makes its first state, and its compiled step."""
    one = task(mesh=mesh, **{"optim.lr": 3e-3, "model.dropout": 0.1})
    shardings = state_shardings(mesh, jax.eval_shape(one.init, KEY))
    first = jax.jit(one.init, out_shardings=shardings, compiler_options=QUICK)
    step = jax.jit(one.step, donate_argnums=0, out_shardings=(shardings, replicated(mesh)), compiler_options=QUICK)
    return one, lambda: first(KEY), step


@pytest.fixture(scope="module")
def run():
    return ready(train_mesh(n_devices=1))


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    """Two chests each of 20 people to train on and of 12 others, the second a little changed."""
    drawn = draw("chest", range(32), size=SIZE).images
    noise = np.random.default_rng(0).integers(-20, 20, drawn.shape)
    both = np.concatenate([drawn, np.clip(drawn.astype(int) + noise, 0, 255).astype(np.uint8)])
    split = ["train"] * 20 + ["heldout"] * 12
    patients = [f"p{i:02d}" for i in range(32)]
    return store(tmp_path_factory.mktemp("data") / "store", both, patient=patients * 2, split=split * 2)


def batches(images, pair="image", n=200):
    ids = np.array([item.id for item in images.items if item.split == "train"])
    several = Pipeline(store=images, batch_size=BATCH, seed=0, ids=ids, views=VIEWS, pair=pair).batches()
    found = [next(several) for _ in range(n)]
    several.close()
    return found


def heldout(images):
    ids = np.array([item.id for item in images.items if item.split == "heldout"])
    return [put(train_mesh(n_devices=1), one) for one in held_out_batches(images, ids, BATCH, VIEWS)]


def test_it_learns_to_know_images_of_people_it_never_saw(images, run):
    one, first, step = run
    state = first()
    before = one.evaluate(state, {"heldout": heldout(images)})
    told = []
    for batch in batches(images):
        state, found = step(state, put(train_mesh(n_devices=1), batch))
        told.append(jax.device_get(found))
    after = one.evaluate(state, {"heldout": heldout(images)})
    assert step._cache_size() == 1
    assert after["heldout/view_recall"] > before["heldout/view_recall"] + 0.2
    assert after["heldout/auc"] > max(0.9, before["heldout/auc"]) and after["heldout/loss"] < before["heldout/loss"]
    assert set(after) == {f"heldout/{name}" for name in (
        "loss", "view_recall", "view_mrr", "auc", "patient_recall", "patient_mrr")}  # fmt: skip
    assert np.mean([row["loss"] for row in told[-20:]]) < np.mean([row["loss"] for row in told[:20]]) / 2
    assert np.mean([row["batch_recall"] for row in told[-20:]]) > np.mean([row["batch_recall"] for row in told[:20]])
    shown = one.preview(state, {"heldout": heldout(images)})["nearest_heldout"]
    whole = images.unit_range(np.array([item.id for item in images.items if item.split == "heldout"]))
    assert shown.shape == (24, *SIZE, 1)
    np.testing.assert_array_equal(shown[::3], whole[:8])
    nearest = [np.flatnonzero((whole == image).all((1, 2, 3))).tolist() for image in shown[2::3]]
    assert all(len(found) == 1 and found[0] != own for own, found in enumerate(nearest))


def test_the_loss_is_what_its_words_say():
    rng = np.random.default_rng(0)
    image, view = (jnp.asarray(rng.normal(size=(8, 3)), jnp.float32) for _ in range(2))
    batch = {"id": jnp.arange(8), "patient": jnp.array([0, 0, 1, 1, -1, -1, 2, 3])}
    is_stranger = contrastive.strangers(batch["id"], batch["patient"])

    def triplets(image, view, negative):
        return contrastive.triplet(image, view, image[negative], margin=0.7)

    long, unit = (image, view), (contrastive.unit(image), contrastive.unit(view))
    relatives = contrastive.relatives(batch["patient"])
    for words, expected in [
        ({"temperature": 0.2}, contrastive.nt_xent(*long, is_stranger, temperature=0.2)),
        ({"positives": "patients"}, contrastive.nt_xent(*long, is_stranger, relatives, temperature=0.07)),
        ({"kind": "triplet"}, triplets(*long, contrastive.semi_hard(*long, is_stranger))),
        ({"kind": "triplet", "unit": True}, triplets(*unit, contrastive.semi_hard(*unit, is_stranger))),
        ({"kind": "triplet", "mining": "following"}, triplets(*long, contrastive.following(is_stranger))),
    ]:
        loss = jax.jit(Loss(margin=0.7, **words), compiler_options=QUICK)
        np.testing.assert_allclose(loss(image, view, batch), expected, rtol=1e-5)
        alone = {"id": jnp.arange(8), "patient": jnp.zeros(8, int)}  # nobody to be told from
        if "positives" not in words:
            np.testing.assert_allclose(loss(image, view, alone), 0, atol=1e-6)


def test_the_gradient_is_that_of_the_loss(images, run):
    one, first, step = run
    state = first()
    batch = {name: jnp.asarray(value) for name, value in batches(images, n=1)[0].items()}
    dropout_key = key_at(key_for(0, "dropout"), 0)

    def asked(params):
        pairs = jnp.stack([batch["image"], batch["view"]], 1).reshape(-1, *SIZE, 1)
        image, view = (one.descriptor.apply(params, pairs, dropout_key)[i::2] for i in (0, 1))
        return Loss()(image, view, batch).mean()

    value, gradient = jax.jit(jax.value_and_grad(asked), compiler_options=QUICK)(state.params)
    _, told = step(state, batch)
    assert float(told["loss"]) == pytest.approx(float(value), rel=1e-4)
    assert float(told["grad_norm"]) == pytest.approx(float(norm(gradient)), rel=1e-3) and told["grad_norm"] > 0


def test_negatives_are_those_of_the_whole_batch_on_any_number_of_devices(images, run):
    told = {}
    eight = train_mesh(fsdp=2)
    for mesh, (_, first, step) in ((train_mesh(n_devices=1), run), (eight, ready(eight))):
        state, told[mesh.size] = first(), []
        for batch in batches(images, n=3):
            state, found = step(state, put(mesh, batch))
            told[mesh.size].append({name: float(value) for name, value in found.items()})
        placed = put(mesh, {**batch, "desc": np.random.default_rng(0).normal(size=(2, BATCH, 3))[0]})
        for mining in ("semi_hard", "following"):
            losses = jax.jit(Loss(kind="triplet", mining=mining))(placed["desc"], 1.1 * placed["desc"], placed)
            told[mesh.size].append({str(i): float(value) for i, value in enumerate(losses)})
    assert set(told) == {1, 8}
    for mine, other in zip(told[1], told[8], strict=True):
        assert other == pytest.approx(mine, rel=2e-3, abs=1e-5)


def test_what_fills_a_batch_up_does_not_count(images, run):
    one, first, _ = run
    state = first()
    whole = {name: jnp.concatenate([part[name] for part in heldout(images)])[:24] for name in heldout(images)[0]}
    once = one.evaluate(state, {"heldout": [whole]})
    parts = one.evaluate(state, {"heldout": heldout(images)})  # 16 and 8, the latter filled up
    once.pop("heldout/loss"), parts.pop("heldout/loss")  # among as many as are in a batch
    assert parts == pytest.approx(once, rel=1e-4)
    assert one.evaluate(state, {"heldout": []}) == {} == one.preview(state, {"heldout": []})


def test_a_run_by_command_ends_with_its_best_weights(tmp_path):
    """Of volumes, phantoms that the config draws; half of their people."""
    flags = ["half=0", "every.evaluate=1", "stop.metric=heldout/auc"]
    done = launch(
        "train", "--config=configs/descriptor.py:smoke,triplet", f"--workdir={tmp_path}", "--devices=1",
        *(f"--config.{flag}" for flag in flags),
    )  # fmt: skip
    assert done.status == 0 and "heldout/auc was best after step" in done.said
    rows = [row for row in read_metrics(tmp_path / "metrics.jsonl") if "heldout/auc" in row]
    best = max(rows, key=lambda row: (row["heldout/auc"], row["step"]))["step"]
    assert read_weights(tmp_path / "weights")[1]["step"] == best
    train = Store.open(tmp_path / "data" / "train")
    with (tmp_path / "exposures.csv").open() as file:
        seen = {row["source"] for row in csv.DictReader(file) if int(row["exposures"])}
    half = {train.items[i].source for i in half_of(train, np.arange(12), 0)}
    assert seen <= half and len(half) < 12
    assert (tmp_path / "previews" / "nearest_heldout_00000004.png").exists()


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"loss.kind": "arcface"}, ["'arcface'", "ntxent or triplet"]),
        ({"loss.temperature": 0.0}, ["temperature=0.0"]),
        ({"loss.kind": "triplet", "loss.positives": "patients"}, ["config.pair=patient"]),
        ({"batch_size": 1}, ["config.batch_size=1"]),
        ({"batch_size": 0}, ["batch of 0"]),
    ],
)
def test_what_it_refuses(changes, words):
    with pytest.raises(UserError) as told:
        task(**changes)
    assert all(word in str(told.value) for word in words), told.value


def test_what_training_refuses_before_it_begins(images, tmp_path):
    one = store(tmp_path / "one", images.images[:16], patient=["p"] * 16)
    into = f"--workdir={tmp_path / 'run'}"
    config_ = "--config=configs/descriptor.py:cxr,smoke"
    for given, told in [
        ([f"--data={one.path}", "--config.stop.patience=0"], ["are of one patient", "at least 2"]),
        ([f"--data={one.path}"], ["heldout/view_mrr", "config.stop.patience=0"]),
        ([f"--data={images.path}", "--config.views.enabled=False"], ["config.views varies nothing"]),
        ([f"--data={images.path}", "--config.every.evaluate=0"], ["config.stop.patience", "evaluate=STEPS"]),
        ([f"--data={images.path}", "--config.every.monitor=2"], ["a descriptor draws none"]),
        ([f"--data={images.path}", "--config.half=2"], ["half=2"]),
    ]:
        assert launch("train", config_, into, *given).is_refusal(*told)


def test_it_draws_nothing():
    one = task()
    with pytest.raises(UserError, match="draws no images"):
        one.draw(jax.eval_shape(one.init, KEY), np.arange(3))
