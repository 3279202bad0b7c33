"""Train a model.

    python -m launch.train --config=configs/NAME.py[:variant] --data=STORE --workdir=RUN [--config.KEY=VALUE ...]

Without --data, configs that name phantoms draw them. The same command goes on where a run stopped. Several processes:
the same command for each, by srun, mpirun, on the hosts of a TPU slice, or with --coordinator=HOST:PORT --n_processes=N
--process_id=I (docs/clusters.md).
`kill -USR2 PID` profiles the next steps of a process into RUN/profile (docs/training.md).
Exit status: 0 trained, or stopped by SIGTERM after a save (--stopped_status=75: to be run again); 2 something is wrong
with what was given; 75 stopped by SIGUSR1 after a save, to be run again; 130 interrupted.
"""

from absl import flags
from ml_collections import config_flags

from launch import boot, hosts, profiling, training
from memjax.errors import UserError

_CONFIG = config_flags.DEFINE_config_file("config", None, "What to train: configs/NAME.py[:variant].")
_DATA = flags.DEFINE_string("data", None, "The image store to train on: its split `train`, if it has splits.")
_HELDOUT = flags.DEFINE_string(
    "heldout", None, "A store of patients not trained on; default: the split `heldout`, `val` or `test` of --data."
)
_WORKDIR = flags.DEFINE_string("workdir", None, "The run's folder.", required=True)
_CACHE = flags.DEFINE_string("cache", None, "Where compiled programs are kept; default: RUN/compiled.")
_STOP = flags.DEFINE_bool(
    "stop_on_memorization", False, "End when the monitor sees more copies than chance explains; keep the state before."
)
_CHANGE = flags.DEFINE_bool("allow_config_change", False, "Go on with a run although its config is another.")
_WORKERS = flags.DEFINE_integer("workers", 0, "Processes that load and augment images; 0: threads.", lower_bound=0)
_DEVICES = flags.DEFINE_integer("devices", None, "How many devices to use; default: all.", lower_bound=1)
_PROFILE = flags.DEFINE_list("profile", [], "Two steps between which the profiler runs, for example 20,30.")
_PROFILE_STEPS = flags.DEFINE_integer(
    "profile_steps", 10, "How many steps are profiled when the process hears SIGUSR2.", lower_bound=1
)
_KEEP = flags.DEFINE_integer(
    "keep_weights", 2, "How many of the weights that looks wrote are kept, the newest; 0: all.", lower_bound=0
)
_STOPPED = flags.DEFINE_enum(
    "stopped_status", "0", ["0", "75"], "Exit status after SIGTERM; 75 asks whoever started it to run it again."
)


def main() -> int:
    """Train, or go on training."""
    with profiling.ProfileRequests(_PROFILE_STEPS.value) as requests:
        return _train(requests)


def _train(requests: profiling.ProfileRequests) -> int:
    config, window = boot.config(_CONFIG, "configs/ddpm.py:smoke"), _window()
    workdir, cache = boot.place(_WORKDIR), boot.place_if_given(_CACHE)
    alike = {
        "stop_on_memorization": _STOP,
        "allow_config_change": _CHANGE,
        "devices": _DEVICES,
        "profile": _PROFILE,
        "keep_weights": _KEEP,
    }
    hosts.join({"config": config, "flags": {name: flag.value for name, flag in alike.items()}})
    boot.use_compilation_cache(cache or workdir / "compiled")
    from memjax.train.profiler import Profiling

    with boot.StopRequests() as stop:
        outcome = training.train(
            config,
            workdir,
            data=boot.place_if_given(_DATA),
            heldout=boot.place_if_given(_HELDOUT),
            stop_on_memorization=_STOP.value,
            allow_config_change=_CHANGE.value,
            workers=_WORKERS.value,
            n_devices=_DEVICES.value,
            keep_weights=_KEEP.value,
            profiling=Profiling(window=window, asked=requests),
            is_asked_to_stop=stop,
        )
    if not outcome.was_asked:
        return 0
    boot.say(f"stopped after step {outcome.step}, which is saved; the same command goes on")
    return stop.status(after_sigterm=int(_STOPPED.value))


def _window() -> tuple[int, int] | None:
    if not _PROFILE.value:
        return None
    if len(_PROFILE.value) != 2 or not all(text.isdecimal() for text in _PROFILE.value):
        raise UserError(f"--profile={','.join(_PROFILE.value)} must be two steps, for example 20,30.")
    first, last = map(int, _PROFILE.value)
    if first >= last:
        raise UserError(f"--profile={first},{last}: the second step must come after the first.")
    return first, last


if __name__ == "__main__":
    boot.run(main)
