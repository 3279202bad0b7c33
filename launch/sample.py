"""Draw images from a trained model into an image store.

    python -m launch.sample --run=RUN --seeds=0:1000 --out=STORE [--steps=50 --method=ddim] [--psi=0.7] [--step=STEP]
    python -m launch.sample --run=RUN --seeds=0:8 --film=FILE.png [--frames=30]

The image of a seed id depends on the weights and the sampler alone: not on which others are drawn, in which batches, on
which devices. The same command goes on after an interruption; a finished store is left as it is. Several processes,
each with its own devices: the same command for each, as for launch.train (docs/clusters.md).
"""

from absl import flags

from launch import boot, hosts, sampling
from memjax.errors import UserError

_RUN = flags.DEFINE_string("run", None, "The folder that launch.train wrote.", required=True)
_SEEDS = flags.DEFINE_string("seeds", None, "Which images: FIRST:END, for example 0:1000.", required=True)
_OUT = flags.DEFINE_string("out", None, "The store to write.")
_FILM = flags.DEFINE_string("film", None, "StyleGAN: write an animated PNG of the way from image to image instead.")
_FRAMES = flags.DEFINE_integer("frames", 30, "--film: pictures from one image to the next.", lower_bound=1)
_STEP = flags.DEFINE_integer("step", None, "Weights after how many steps; default: the newest.", lower_bound=0)
_METHOD = flags.DEFINE_enum(
    "method", None, ["ancestral", "ddim", "dpm++2m"], "Diffusion: the sampler; default: the run's."
)
_STEPS = flags.DEFINE_integer("steps", None, "Diffusion: its steps; default: the run's.", lower_bound=1)
_ETA = flags.DEFINE_float("eta", None, "DDIM: 0 deterministic, 1 as noisy as ancestral.", lower_bound=0, upper_bound=1)
_GUIDANCE = flags.DEFINE_float("guidance", None, "Labelled models: how far beyond the unlabelled prediction to go.")
_PSI = flags.DEFINE_float("psi", None, "StyleGAN: truncation, 0 the mean image to 1 none; default: the run's.")
_LAYERS = flags.DEFINE_integer(
    "truncated_layers", None, "StyleGAN: how many styles, from the coarsest; default: the run's."
)
_AUTOENCODER = flags.DEFINE_string(
    "autoencoder", None, "Models of latents: the autoencoder's run; default: where it was when the latents were made."
)
_BATCH = flags.DEFINE_integer("batch_size", 64, "Images at a time, over all devices of a process.", lower_bound=1)
_DEVICES = flags.DEFINE_integer("devices", None, "How many devices a process uses; default: all.", lower_bound=1)
_CACHE = flags.DEFINE_string("cache", None, "Where compiled programs are kept; default: RUN/compiled.")


def main() -> None:
    """Draw the images."""
    run, out, film = boot.place(_RUN), boot.place_if_given(_OUT), boot.place_if_given(_FILM)
    if (out is None) == (film is None):
        raise UserError("give either --out=STORE, for images, or --film=FILE.png, for a film of a StyleGAN.")
    seeds = sampling.seed_range(_SEEDS.value)
    asked = {
        "method": _METHOD.value,
        "steps": _STEPS.value,
        "eta": _ETA.value,
        "guidance": _GUIDANCE.value,
        "psi": _PSI.value,
        "layers": _LAYERS.value,
    }
    changes = {name: value for name, value in asked.items() if value is not None}
    # The weights are named now: a run that goes on may write newer ones before the last process looks.
    step = _STEP.value if _STEP.value is not None else sampling.newest_weights(run)
    alike = {"run": run, "step": step, "autoencoder": _AUTOENCODER.value, "seeds": _SEEDS.value, "out": out}
    team = hosts.join({**alike, "sampler": changes}, in_step=False)
    boot.keep_freed_memory()
    boot.use_compilation_cache(boot.place_if_given(_CACHE) or run / "compiled")
    if film is not None:
        if team.count > 1:
            raise UserError("--film is drawn by one process; start one, or say --cluster=none.")
        sampling.film(run, seeds, film, step=step, frames=_FRAMES.value, changes=changes)
        boot.say(f"{film}: {len(seeds) * _FRAMES.value} pictures")
        return
    assert out is not None
    store = sampling.sample(
        run,
        seeds,
        out,
        step=step,
        changes=changes,
        autoencoder=boot.place_if_given(_AUTOENCODER),
        batch_size=_BATCH.value,
        n_devices=_DEVICES.value,
        team=team,
    )
    if team.index == 0:
        boot.say(f"{out}: {len(store)} images of {' x '.join(map(str, store.manifest.shape))}")


if __name__ == "__main__":
    boot.run(main)
