"""Embed the images of a store with a trained descriptor, into files that any program reads.

    python -m launch.embed --run=RUN --input=STORE --out=DIR --name=train|synthetic|heldout

DIR is what `launch.audit --embeddings=NAME=DIR` takes: NAME.npy, NAME.csv, about.json.
"""

from absl import flags

from launch import boot, embedding, inputs

_RUN = flags.DEFINE_string("run", None, "The folder that launch.train wrote, of task descriptor.", required=True)
_INPUT = flags.DEFINE_string("input", None, "The image store.", required=True)
_OUT = flags.DEFINE_string("out", None, "The folder to write to.", required=True)
_NAME = flags.DEFINE_enum("name", "train", ["train", "synthetic", "heldout"], "What the images are to the audit.")
_STEP = flags.DEFINE_integer("step", None, "Weights after how many steps; default: the newest.", lower_bound=0)
_BATCH = flags.DEFINE_integer("batch_size", 32, "Images at a time, over all devices.", lower_bound=1)
_DEVICES = flags.DEFINE_integer("devices", None, "How many devices to use; default: all.", lower_bound=1)
_CACHE = flags.DEFINE_string("cache", None, "Where compiled programs are kept; default: RUN/compiled.")


def main() -> None:
    """Embed one store."""
    from memjax.data.embeddings import write_embeddings
    from memjax.data.store import Store
    from memjax.mesh import audit_mesh

    run, given = boot.place(_RUN), boot.place(_INPUT)
    out = inputs.check_output(_OUT, {"input": given})
    boot.keep_freed_memory()
    boot.use_compilation_cache(boot.place_if_given(_CACHE) or run / "compiled")
    store = Store.open(given)
    mesh = audit_mesh(_DEVICES.value)
    name, embed, facts = embedding.embedder_of(run, None, mesh, step=_STEP.value, batch_size=_BATCH.value)
    vectors = embed(store)
    about = {
        "name": name,
        "invariant_to": facts.invariant_to,
        "training_store": facts.trained_on.store if facts.trained_on else "",
        "weights": facts.digest,
        "step": facts.step,
    }
    write_embeddings(out, _NAME.value, store, vectors, about)
    boot.say(f"{out}: {vectors.shape[0]} vectors of {vectors.shape[1]} numbers of {given}")


if __name__ == "__main__":
    boot.run(main)
