"""Draw images from a trained model into an image store.

    python -m launch.sample --run=RUN --seeds=0:1000 --out=STORE [--steps=50 --method=ddim] [--step=STEP]

The image of a seed id depends on the weights and the sampler alone: not on which others are drawn, in which batches, on
which devices. The same command goes on after an interruption; a finished store is left as it is.
"""

from absl import flags

from launch import boot, sampling

_RUN = flags.DEFINE_string("run", None, "The folder that launch.train wrote.", required=True)
_SEEDS = flags.DEFINE_string("seeds", None, "Which images: FIRST:END, for example 0:1000.", required=True)
_OUT = flags.DEFINE_string("out", None, "The store to write.", required=True)
_STEP = flags.DEFINE_integer("step", None, "Weights after how many steps; default: the newest.", lower_bound=0)
_METHOD = flags.DEFINE_enum("method", None, ["ancestral", "ddim", "dpm++2m"], "The sampler; default: the run's.")
_STEPS = flags.DEFINE_integer("steps", None, "Its steps; default: the run's.", lower_bound=1)
_ETA = flags.DEFINE_float("eta", None, "DDIM: 0 deterministic, 1 as noisy as ancestral.", lower_bound=0, upper_bound=1)
_GUIDANCE = flags.DEFINE_float("guidance", None, "Labelled models: how far beyond the unlabelled prediction to go.")
_BATCH = flags.DEFINE_integer("batch_size", 64, "Images at a time, over all devices.", lower_bound=1)
_DEVICES = flags.DEFINE_integer("devices", None, "How many devices to use; default: all.", lower_bound=1)
_CACHE = flags.DEFINE_string("cache", None, "Where compiled programs are kept; default: RUN/compiled.")


def main() -> None:
    """Draw the images."""
    run, out = boot.place(_RUN), boot.place(_OUT)
    seeds = sampling.seed_range(_SEEDS.value)
    changes = {"method": _METHOD.value, "steps": _STEPS.value, "eta": _ETA.value, "guidance": _GUIDANCE.value}
    boot.keep_freed_memory()
    boot.use_compilation_cache(boot.place_if_given(_CACHE) or run / "compiled")
    store = sampling.sample(
        run,
        seeds,
        out,
        step=_STEP.value,
        changes={name: value for name, value in changes.items() if value is not None},
        batch_size=_BATCH.value,
        n_devices=_DEVICES.value,
    )
    boot.say(f"{out}: {len(store)} images of {' x '.join(map(str, store.manifest.shape))}")


if __name__ == "__main__":
    boot.run(main)
