"""Two and three real processes give the answer of one, and each reads only its part of the gallery."""

import json
import os
import socket
import subprocess
import sys

import numpy as np
import pytest
from small_findings import make_store
from test_allpairs import smooth_images

from memjax.audit.pairs.above import pairs_above
from memjax.audit.pairs.allpairs import allpairs
from memjax.data.store import Store
from memjax.mesh import audit_mesh
from memjax.orientation import orientations

PROCESS = """
import json, sys
import jax
index, count, port, folder, plan = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3], sys.argv[4], sys.argv[5]
jax.distributed.initialize(f"localhost:{port}", count, index)
import numpy as np
from memjax.audit.pairs.above import pairs_above
from memjax.audit.pairs.allpairs import allpairs
from memjax.data.store import Store
from memjax.mesh import audit_mesh
from memjax.orientation import orientations
query, gallery = Store.open(folder + "/q"), Store.open(folder + "/g")
read = []
block = gallery.block
gallery.block = lambda start, stop: read.append((start, stop)) or block(start, stop)
group = orientations((16, 16), "all")
asked = {"group": group, "mesh": audit_mesh(2), "plan": plan}
found = allpairs(query, gallery, k=3, bins=20, **asked)
within = pairs_above(gallery, gallery, 0.8, within=True, **asked)
sides = {"q": found.query_to_gallery, "g": found.gallery_to_query, "within": within, "count": found.histogram}
arrays = {f"{side}_{name}": value for side, of in sides.items() for name, value in vars(of).items()}
np.savez(f"{folder}/{plan}{index}of{count}.npz", **arrays)
print(json.dumps([max(start for start, _ in read), min(stop for _, stop in read)]))
"""


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("localhost", 0))
        return found.getsockname()[1]


@pytest.fixture(scope="module")
def stores(tmp_path_factory):
    folder = tmp_path_factory.mktemp("stores")
    images = smooth_images(0, 61)
    images[40] = np.rot90(images[3])  # in the other process's part
    images[30] = images[5]
    query = smooth_images(1, 23)
    query[4] = np.fliplr(images[55])
    make_store(folder / "q", query)
    make_store(folder / "g", images)
    return folder


@pytest.mark.parametrize(("count", "plan"), [(2, "symmetric"), (2, "sketched"), (3, "auto")])
def test_several_processes_find_what_one_finds(stores, count, plan):
    port = str(free_port())
    environment = {**os.environ, "XLA_FLAGS": "--xla_force_host_platform_device_count=2"}
    running = [
        subprocess.Popen(
            [sys.executable, "-c", PROCESS, str(index), str(count), port, str(stores), plan],
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for index in range(count)
    ]
    ended = [process.communicate(timeout=240) for process in running]
    assert [process.returncode for process in running] == [0] * count, ended

    query, gallery = Store.open(stores / "q"), Store.open(stores / "g")
    asked = {"group": orientations((16, 16), "all"), "mesh": audit_mesh(1), "plan": plan}
    found = allpairs(query, gallery, k=3, bins=20, **asked)
    within = pairs_above(gallery, gallery, 0.8, within=True, **asked)
    cut = np.linspace(0, 61, count + 1).astype(int)
    for index, (said, _) in enumerate(ended):
        with np.load(stores / f"{plan}{index}of{count}.npz") as arrays:
            for side, of in (("q", found.query_to_gallery), ("g", found.gallery_to_query), ("within", within)):
                for name, value in vars(of).items():
                    if name == "score":
                        np.testing.assert_allclose(arrays[f"{side}_score"], value, atol=1e-6)
                    else:
                        np.testing.assert_array_equal(arrays[f"{side}_{name}"], value, err_msg=f"{side} {name}")
            assert arrays["count_count"].sum() == found.histogram.count.sum()
        last_start, first_stop = json.loads(said.splitlines()[-1])
        assert last_start < cut[index + 1]  # nothing behind its own part is read in blocks,
        assert first_stop > cut[index] or first_stop == 1  # nor before it, but for one image to know the shape
