"""`launch.plan`: what is read of compiled programs, what fits and what follows, and what it says to wrong input."""

import dataclasses
import importlib.util
import json
import math
import xml.etree.ElementTree as ET
from pathlib import Path

import hypothesis
import hypothesis.strategies as st
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import NamedSharding, PartitionSpec

from configs import ddpm, descriptor, latent3d, stylegan2
from launch.planning import planner, tell
from launch.planning.costs import Cost, bound, cost_of, told_need
from launch.planning.groups import crosses, groups_of
from launch.planning.growth import grown, speed, write_plot
from launch.planning.hlo import arrays, read_module
from launch.planning.machines import MACHINES
from launch.planning.planner import Planner
from launch.planning.products import _meetings
from launch.planning.programs import Program, _shares, train_program
from launch.planning.search import changed, first_fitting, largest_batch, savings, smallest_topology
from launch.planning.shapes import image_shape
from launch.planning.tally import Collective, tally
from launch.planning.topologies import Topology, family, parse
from memjax.errors import UserError
from memjax.mesh import train_mesh
from memjax.trees import count
from tests.launching import launch, noise, store

# A loop whose condition says how often it runs, a condition, slices of a large array in a fusion, and an exchange whose
# text stands in three places, in the words of the TPU's compiler.
_PROGRAM = (Path(__file__).parent / "references/plan_program.hlo").read_text()


def test_a_program_is_counted_as_often_as_it_runs():
    found = tally(read_module(_PROGRAM), [0, 1, 1, 1], shares=[0.25])
    assert dict(found.flops) == {"f32 exact": 100 * 2 * 8 * 128 * 128}
    assert dict(found.collectives) == {
        Collective("all-reduce", 4 * 8 * 128, 2, True): 100,
        Collective("all-gather", 2 * 64 * 128, 4, True): 1,
    }
    row, whole = 4 * 8 * 128, 2 * 64 * 128
    # Each time round: a slice is read and written, and read again with the weights; the rest stays on the chip. The
    # branch reads twice what it writes, a quarter of the time; the exchange reads where it begins and where it goes on.
    counting = 4 + 9  # the index of the slice, and the comparison
    assert found.moved_bytes == 100 * (2 * row + row + 4 * 128 * 128 + counting) + 0.25 * 3 * row + 2 * whole
    assert tally(read_module(_PROGRAM), [0] * 4).moved_bytes == found.moved_bytes + 0.75 * 3 * row
    assert found.unknown_loops == 0
    unknown = _PROGRAM.replace("constant(100)", "parameter(1)")
    assert tally(read_module(unknown), [0] * 4).unknown_loops == 1


def test_what_lies_on_the_chip_or_in_tiles_is_as_large_as_it_is_there():
    tiled, on_chip, plain = arrays("(bf16[3,5,100]{0,1,2:T(8,128)(2,1)}, f32[4,4]{1,0:S(1)}, /*x*/pred[7])")
    assert (tiled.held_bytes, tiled.size_bytes) == (100 * 8 * 128 * 2, 3000)
    assert (on_chip.held_bytes, on_chip.size_bytes) == (0, 64)
    assert plain.held_bytes == 7


@pytest.mark.parametrize(
    ("text", "groups"),
    [
        ("replica_groups={{0,2},{1,3}}, dimensions={0}", [[0, 2], [1, 3]]),
        ("replica_groups=[2,2]<=[4]", [[0, 1], [2, 3]]),
        ("replica_groups=[2,2]<=[2,2]T(1,0)", [[0, 2], [1, 3]]),
        ("replica_groups=mesh['a'=2,'b'=1,'c'=2] {'c'}, use_global_device_ids=true", [[0, 1], [2, 3]]),
        ("replica_groups=mesh['a'=2,'b'=2], device_ids=([2,2]T(1,0)) {'a'}", [[0, 1], [2, 3]]),
        ("replica_groups=mesh['a'=4] {'a':(1)2}", [[0, 2], [1, 3]]),
        ("source_target_pairs={{0,1},{1,0}}", [[0, 1], [1, 0]]),
        ("replica_groups={}", [[0, 1, 2, 3]]),
    ],
)
def test_groups_are_read_however_they_are_written(text, groups):
    found = groups_of(text, 4)
    assert found.tolist() == groups
    assert not crosses(found, [0] * 4)
    assert crosses(found, [0, 1, 1, 0]) == any({0, 3} & set(group) and {1, 2} & set(group) for group in groups)


@hypothesis.given(
    n=st.integers(1, 9),
    taps=st.integers(1, 5),
    stride=st.integers(1, 3),
    low=st.integers(0, 4),
    high=st.integers(0, 4),
    gap=st.integers(1, 3),
    spread=st.integers(1, 3),
)
def test_products_that_meet_padding_or_gaps_do_not_count(n, taps, stride, low, high, gap, spread):
    x, kernel = np.zeros((n - 1) * gap + 1), np.zeros((taps - 1) * spread + 1)
    x[::gap] = kernel[::spread] = 1
    x = np.pad(x, (low, high))
    hypothesis.assume(len(x) >= len(kernel))
    y = np.convolve(x, kernel, "valid")[::stride]
    assert _meetings(n, taps, len(y), stride=stride, low=low, gap=gap, spread=spread) == y.sum()


def test_a_sharded_program_costs_what_it_must(tmp_path):
    mesh = train_mesh(2, 8)
    layers, width, images = 3, 128, 16

    def loss(weights, x):
        return jnp.mean(jax.lax.scan(lambda h, w: (jnp.tanh(h @ w), None), x, weights)[0] ** 2)

    def of(shape, *axes):
        return jax.ShapeDtypeStruct(shape, jnp.float32, sharding=NamedSharding(mesh, PartitionSpec(*axes)))

    weights, x = of((layers, width, width), None, None, "fsdp"), of((images, width), ("data", "fsdp"))
    lowered = jax.jit(jax.grad(loss), out_shardings=weights.sharding).lower(weights, x)
    held = {"parameters": 4 * layers * width * width // 2, "batch": 4 * images * width // 8}
    program = Program(name="train", lowered=lowered, held=held, images=images, unit="images")
    cost = cost_of(program, parse("cpu:8"), remembered=tmp_path)
    assert cost.memory["padding"] == 0, "what it holds is what the compiler says"
    assert cost.memory["results"] == held["parameters"]
    products = 3 * layers - 1  # nobody wants the gradient of x
    assert cost.flops["f32"] == pytest.approx(products * 2 * images / 8 * width * width, rel=1 / products)
    by_kind = {}
    for what, times in cost.collectives:
        by_kind[what.kind, what.group] = by_kind.get((what.kind, what.group), 0) + what.size_bytes * times
    half = 4 * layers * width * width // 2
    assert by_kind.pop(("all-gather", 2)) in (half, 2 * half), "weights, forth and perhaps back"
    summed = sum(size for (kind, _), size in by_kind.items() if kind in ("all-reduce", "reduce-scatter"))
    assert half <= summed <= 3.1 * half and len(by_kind) <= 3, by_kind
    assert cost.fits and cost.unknown_loops == 0
    again = dataclasses.replace(program, lowered=_Refusing(lowered))
    assert cost_of(again, parse("cpu:8"), remembered=tmp_path) == cost
    quick = cost_of(program, parse("cpu:8"), quick=True, remembered=tmp_path)
    assert quick.is_quick and quick.flops == cost.flops, "less effort is another cost of the same work"
    assert "least effort" in tell.told(quick) and "least effort" not in tell.told(cost)


class _Refusing:
    """A lowered program that must not be compiled again."""

    def __init__(self, lowered):
        self.as_text = lowered.as_text


def test_a_training_step_is_held_as_its_state_is_split():
    config = ddpm.get_config("cxr5216,smoke").to_dict()
    program = train_program(changed(config, {"fsdp": 2, "model.width": 64}), (16, 16, 1), jax.devices()[:4])
    abstract = program.lowered.in_avals[0][0]
    numbers = count(abstract.params)
    assert 4 * numbers / 2 <= program.held["parameters"] < 4 * numbers / 1.5
    assert program.held["average"] == program.held["parameters"]
    assert program.held["optimizer"] == pytest.approx(2 * program.held["parameters"], rel=0.01)
    assert program.held["batch"] == 4 * (8 * 16 * 16 + 8) / 4
    with pytest.raises(UserError, match="fsdp=3 does not divide 4 devices; give one of 1, 2, 4"):
        train_program(changed(config, {"fsdp": 3}), (16, 16, 1), jax.devices()[:4])


def test_lazy_regularizers_are_due_as_often_as_they_are():
    config = stylegan2.get_config("brats20").to_dict()
    assert _shares(config) == [1 / 4, 1 / 16]
    assert _shares(changed(config, {"regularize.path_weight": 0.0, "regularize.r1_every": 2})) == [1 / 2]
    assert _shares(ddpm.get_config().to_dict()) == []


@pytest.mark.parametrize(
    ("name", "words", "shape"),
    [
        ("latent3d", "mrnet,autoencoder", (256, 256, 32, 1)),
        ("latent3d", "mrnet,ddpm", (32, 32, 4, 8)),
        ("latent3d", "mrnet,ddpm,low", (64, 64, 8, 8)),
        ("latent3d", "pccta,ddpm,kl", (32, 32, 32, 3)),
        ("latent3d", "pccta,ddpm,smoke", (8, 8, 8, 1)),
        ("ddpm", "brats21", (256, 256, 5)),
        ("ddpm", "brats21,smoke", (16, 16, 5)),
    ],
)
def test_the_images_of_a_config_are_known(name, words, shape):
    config = {"latent3d": latent3d, "ddpm": ddpm}[name].get_config(words).to_dict()
    assert image_shape(f"configs/{name}.py:{words}", config) == shape


def test_the_bound_is_the_longest_of_three():
    machine = MACHINES["h100"]
    inside, beyond = Collective("all-reduce", 10**9, 8, False), Collective("all-gather", 10**8, 3, True)
    found = bound(machine, {"bf16": 989e12, "f32 exact": 67e12}, 3352e9, [(inside, 2.0), (beyond, 5.0)])
    assert (found.compute_s, found.memory_s) == (2.0, 1.0)
    assert found.network_s == pytest.approx(2 * 2 * 7 / 8 * 1e9 / 450e9 + 5 * 2 * 1e8 / 50e9)
    assert (found.binds, found.seconds, found.utilisation) == ("compute", 2.0, 1.0)
    assert bound(machine, {"bf16": 989e12}, 4 * 3352e9, []).utilisation == 0.25


@pytest.mark.parametrize(
    ("text", "need"),
    [
        ("RESOURCE_EXHAUSTED: … required for HLO temporaries (24.00G) exceeds available HBM (15.75G).", 24 << 30),
        ("Ran out of memory in memory space hbm. Used 512.0M of 15.75G hbm.", 512 << 20),
        ("Ran out of something else.", None),
    ],
)
def test_what_a_refused_program_needs_is_told(text, need):
    assert told_need(text) == need


@hypothesis.given(
    fixed=st.integers(0, 1000),
    slope=st.floats(0.01, 50),
    power=st.floats(0.5, 2),
    unit=st.integers(1, 24),
    first=st.integers(1, 300),
)
def test_the_largest_batch_is_found_with_few_compiles(fixed, slope, power, unit, first):
    def need(batch):
        bytes_ = fixed + slope * batch**power
        return int(bytes_) if bytes_ < 3000 else None  # what is far too large is refused, who knows by how much

    batch, tried = largest_batch(need, have=1000, unit=unit, first=first)
    most = 1 << 16
    assert batch % unit == 0 and set(tried) >= {batch} - {0} and len(tried) <= 20
    assert batch == 0 or need(batch) <= 1000
    beyond = batch + max(unit, batch // 16 // unit * unit)
    assert beyond >= most or (need(beyond) or math.inf) > 1000


def test_a_straight_line_needs_four_compiles():
    batch, tried = largest_batch(lambda size: 100 + size, have=1000, unit=8, first=64)
    assert 848 <= batch <= 896 and len(tried) <= 4


def made(topology: str, need: int, *, images: int = 64, state: int = 10, seconds: float = 1.0) -> Cost:
    """Make up a cost."""
    return Cost(
        program="train",
        topology=topology,
        images=images,
        unit="images",
        memory={"parameters": state, "temporaries": need - state},
        need_bytes=need,
        flops={"bf16": seconds * parse(topology).of.flops["bf16"]},
        moved_bytes=0.0,
        collectives=[(Collective("all-reduce", 8, 4, False), 2.0)],
        unknown_loops=0,
        compile_s=1.0,
        is_quick=False,
    )


def test_settings_are_tried_until_one_fits():
    config = ddpm.get_config("brats20").to_dict()
    settings = list(savings(config, parse("v5e:2x4")))
    assert settings[:4] == [{}, {"fsdp": 8}, {"model.remat": True}, {"fsdp": 8, "model.remat": True}]
    assert settings[-1] == {"fsdp": 8, "model.remat": True, "microbatches": 8}, "64 images, one a device and part"
    assert changed(config, settings[2])["model"] == {**config["model"], "remat": True} and not config["model"]["remat"]
    parts = [
        one.get("microbatches") for one in savings({**config, "batch_size": 20, "microbatches": 2}, parse("v5e:1x1"))
    ]
    assert [n for n in dict.fromkeys(parts) if n] == [4, 10, 20], (
        "all that divide it, each at least twice the one before"
    )
    assert list(savings(stylegan2.get_config().to_dict(), parse("h100:1"))) == [{}]
    assert list(savings(descriptor.get_config("cxr").to_dict(), parse("h100:1"))) == [{}, {"model.remat": True}]
    have = MACHINES["v5e"].memory_bytes
    tried = first_fitting(settings, lambda one: made("v5e:2x4", have // (1 + one.get("model.remat", False)) + 1))
    assert [one for one, _ in tried] == settings[:3]
    assert "--config.model.remat=True" in tell.told_settings(tried).splitlines()[-1]
    assert tell.told_settings(tried).startswith("what") and tell.told_settings(tried[:2]).startswith("nothing")


class _Fake(Planner):
    """A plan whose training steps are made up: 8 parts of memory, shared by the devices, and one that all have."""

    def train(self, topology, setting):
        have = topology.of.memory_bytes
        images = setting.get("batch_size", self._config["batch_size"])
        shared = 8 * have * images // 64 // topology.n_devices // (1 + setting.get("model.remat", False))
        return made(str(topology), have // 16 + shared, images=images, state=have // 16)


def test_what_does_not_fit_says_the_smallest_topology_that_would(capsys):
    plan = _Fake(ddpm.get_config("brats20").to_dict(), (256, 256, 5), quick=False, remembered=None, tell=print)
    here = parse("v5e:2x2")
    found, sentence = plan.searched(here, plan.train(here, {}), is_whole=False)
    assert "v5e:4x4" in sentence and "does not fit on v5e:2x2" in sentence, sentence
    assert found["smallest_topology"]["topology"] == "v5e:4x4"
    found, sentence = plan.searched(parse("v5e:2x4"), plan.train(parse("v5e:2x4"), {}), is_whole=True)
    assert not sentence and found["settings"][-1]["changes"] == {"model.remat": True}
    assert 112 <= found["largest_batch"]["batch"] <= 120, "with what made it fit"
    assert "largest batch that fits" in capsys.readouterr().out
    never = lambda there: made(str(there), 2 * there.of.memory_bytes, state=2 * there.of.memory_bytes)  # noqa: E731
    assert smallest_topology(never(here), here, 64, never) is None
    parts = _Fake(
        {**ddpm.get_config("brats20").to_dict(), "microbatches": 8},
        (256, 256, 5),
        quick=False,
        remembered=None,
        tell=print,
    )
    found, sentence = parts.searched(here, parts.train(here, {}), is_whole=False)
    assert not found and "nor does it on any larger" in sentence, "8 images at a time do not divide over 16 devices"


def test_batches_that_are_tried_divide_into_the_groups_that_a_discriminator_compares(capsys):
    config = stylegan2.get_config("brats20").to_dict()
    plan = _Fake(config, (256, 256, 5), quick=False, remembered=None, tell=print)
    found, _ = plan.searched(parse("v5e:2x2"), plan.train(parse("v5e:2x2"), {"batch_size": 8}), is_whole=True)
    tried = found["largest_batch"]["tried"]
    assert len(tried) > 2 and not any(batch % config["discriminator"]["group"] for batch in tried), tried


def test_what_was_compiled_is_not_compiled_again(monkeypatch):
    program = Program(name="train", lowered=None, held={}, images=64, unit="images")
    monkeypatch.setattr(planner, "train_program", lambda config, shape, devices: program)
    monkeypatch.setattr(planner, "cost_of", lambda program, topology, quick, remembered: made(str(topology), 1 << 30))
    config, said = ddpm.get_config("cxr5216").to_dict(), []
    plan = Planner(config, (256, 256, 1), quick=False, remembered=None, tell=said.append)
    first = plan.train(parse("cpu:4"), {})
    assert plan.train(parse("cpu:4"), {"fsdp": 1, "batch_size": config["batch_size"]}) is first and len(said) == 1
    assert plan.train(parse("cpu:4"), {"fsdp": 2}) is not first and plan.train(parse("cpu:8"), {}) is not first


def test_a_table_has_a_row_a_program():
    fits, refused = made("h100:8", 70 << 30), dataclasses.replace(made("v5e:2x2", 20 << 30), flops=None)
    rows = tell.told_together("a.py", [fits, refused]).splitlines()[2:]
    assert rows[0] == "| a.py | train | h100:8 | 64 images | 70.00 GiB | 72.81 GiB | 1 s | compute | 100% |"
    assert "15.75 GiB: too little |  |" in rows[1]
    for topology, is_few in (("v5e:2x4", False), ("v5e:4x4", True), ("h100:2x8", False)):
        assert ("fewer than 8 images a device" in tell.told(made(topology, 1 << 30))) == is_few, "64 images"
    assert "XLA_PYTHON_CLIENT_MEM_FRACTION" in tell.told(fits) and "does not fit" in tell.told(refused)


def test_growth_goes_on_past_the_batch_and_is_drawn(tmp_path):
    config = {**ddpm.get_config("brats20").to_dict(), "batch_size": 16, "microbatches": 4}
    asked = []

    def cost(topology, setting):
        asked.append((topology.n_devices, setting["batch_size"], setting["microbatches"]))
        if topology.n_devices == 8:
            raise UserError("that cannot be.")
        return made(str(topology), 1 << 30, images=setting["batch_size"], seconds=1 / topology.n_devices)

    rows = grown(config, "v5e", 64, cost)
    assert asked == [(1, 16, 4), (4, 16, 4), (8, 16, 2), (16, 16, 1), (32, 32, 1), (64, 64, 1)]
    assert speed(rows[1][1]) == pytest.approx(64)
    asked.clear()
    grown({**config, "batch_size": 10, "microbatches": 2}, "h100", 8, cost)
    assert asked == [(1, 10, 2), (2, 12, 2), (4, 16, 2), (8, 16, 1)], "a batch that divides"
    told = tell.told_growth(rows).splitlines()
    assert len(told) == 7 and "that cannot be." in told[3]
    write_plot({"v5e": rows, "h100": grown(config, "h100", 4, cost)}, tmp_path / "growth.svg", "a_b $x$")
    every = {name: [(family(name)[0], made(str(family(name)[0]), 1 << 30))] for name in MACHINES}
    write_plot(every, tmp_path / "every.svg", "")
    told = {one.text for one in ET.parse(tmp_path / "every.svg").iter("{http://www.w3.org/2000/svg}text")}
    assert told >= set(MACHINES), "each machine has a line"
    assert ET.parse(tmp_path / "growth.svg").getroot().tag.endswith("svg")


def test_topologies_are_what_they_say():
    assert parse("h100:16") == parse("h100:2x8") == Topology("h100", "2x8")
    assert [parse(text).per_node for text in ("h100:2", "h100:2x8", "v5e:4x4")] == [2, 8, 16]
    assert str(parse("v5e:4x4").of_one_process) == "v5e:2x2" and str(parse("a100:4x8").of_one_process) == "a100:8"
    for name in MACHINES:
        sizes = [one.n_devices for one in family(name)]
        assert sizes == sorted(set(sizes)) and sizes[-1] == 256


def test_a_plan_is_told_and_written(tmp_path):
    out = tmp_path / "plan.json"
    images = store(tmp_path / "images", noise(2, 0, size=(16, 16))[..., None])
    command = ["--config=configs/descriptor.py:cxr", "--config.model.width=4", "--config.model.blocks=(0, 1)"]
    command += ["--config.model.groups=4", "--topology=cpu:4", "--programs=draw,audit", "--drawn=6"]
    run = launch("plan", *command, f"--data={images.path}", f"--out={out}", "--queries=40", "--gallery=90")
    assert run.status == 0, run.said
    programs = json.loads(out.read_text())["topologies"]["cpu:4"]["programs"]
    assert programs["draw"]["images"] == 8, "a multiple of the devices"
    pairs = programs["audit"]["images"]
    assert 40 * 90 <= pairs <= 40 * 120
    assert sum(programs["audit"]["flops"].values()) == 2 * pairs * 16 * 16 / 4
    gathered = [one for one in programs["audit"]["collectives"] if one["kind"] == "all-gather"]
    assert gathered and all(one["group"] == 4 for one in gathered), "every device gets the gallery block"
    assert programs["audit"]["memory"]["gallery block"] == pairs // 40 // 4 * (256 + 8 + 4) + pairs // 40 * 4, "bytes"
    assert programs["audit"]["fits"] and programs["audit"]["bound"]["seconds"] > 0


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (["--topology=v7:4x4"], ["no machine 'v7'", "v5e:1x1|2x2", "h100:1|2|4|8|2x8"]),
        (["--topology=v5e:3x3"], ["does not come as 3x3", "v5e:2x2, v5e:2x4"]),
        (["--topology=h100:12"], ["does not come as 12", "h100:8"]),
        ([], ["--topology is missing", "v5e:"]),
        (["--topology=cpu:8", "--shape=256"], ["--shape=256", "256,256,5"]),
        (["--topology=cpu:8", "--programs=fly"], ["--programs=fly", "train, draw, audit"]),
        (["--topology=cpu:8", "--plot=x.svg"], ["--growth"]),
        (["--topology=cpu:8", "--growth", "--plot=x.pdf"], ["x.pdf", ".svg or .png"]),
        (["--topology=cpu:8", "--programs=train", "--config.batch_size=12"], ["12", "8 devices"]),
        (["--topology=cpu:16"], ["began with 8 simulated devices"]),
    ],
)
def test_wrong_input_is_refused_in_a_sentence(flags, words):
    assert launch("plan", "--config=configs/ddpm.py:cxr5216,smoke", *flags).is_refusal(*words)


def test_a_missing_compiler_says_how_to_get_it(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name, package=None: None)
    config = "--config=configs/ddpm.py:brats20"
    assert launch("plan", config, "--topology=v5e:4x4").is_refusal("libtpu", "pip install -e '.[plan]'")
    assert launch("plan", config, "--topology=h100:8").is_refusal("pip install -e '.[plan-gpu]'", "5.5 GB")
