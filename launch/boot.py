"""What every launcher does before and after its work: flags, the log, exit statuses.

Exit status: 0 done, 1 our mistake (with a traceback), 2 the user's mistake (with one clear text), 75 stopped, to be run
again, 130 interrupted; launchers add their own (the audit: 3 copies found).
"""

import contextlib
import ctypes
import errno
import logging
import os
import shlex
import signal
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from absl import app, flags

from memjax.errors import UserError

# XLA's own convolution fusion on processors is up to eight times slower, above all for weight gradients (BUILD_NOTES).
CONVOLUTION_FLAG = "--xla_cpu_experimental_ynn_fusion_type=-individual_convolution"

USER_ERROR = 2
RUN_AGAIN = 75  # EX_TEMPFAIL of sysexits.h
INTERRUPTED = 130

at_end: list[Callable[[int], object]] = []  # called with the exit status before the process ends
at_step: list[Callable[[int], object]] = []  # called with each step that a training has come to

_DISK_OR_PLACE = (  # what the machine, or the place that the user chose, is to blame for
    errno.EDQUOT,
    errno.EEXIST,
    errno.EFBIG,
    errno.EIO,
    errno.EISDIR,
    errno.EMFILE,
    errno.ENAMETOOLONG,
    errno.ENOSPC,
    errno.ENOTDIR,
    errno.ENOTEMPTY,
    errno.EROFS,
    errno.ESTALE,
)


def run(main: Callable[[], int | None]) -> None:
    """Parse the flags, run `main` and exit with its status."""
    if CONVOLUTION_FLAG.split("=")[0] not in os.environ.get("XLA_FLAGS", ""):
        os.environ["XLA_FLAGS"] = f"{os.environ.get('XLA_FLAGS', '')} {CONVOLUTION_FLAG}".strip()
    logging.getLogger("jax").setLevel(logging.WARNING)  # which backends are not there is no news
    app.run(lambda argv: sys.exit(_guarded(main)), flags_parser=_parse)


def say(text: str) -> None:
    """Tell the person at the terminal something; results go to files, this goes to standard error."""
    print(text, file=sys.stderr, flush=True)


def place(flag: flags.FlagHolder[str | None]) -> Path:
    """Return the path that a flag names, `~` meaning the user's home (the shell does not look behind `--out=`)."""
    if not flag.value:
        raise UserError(f"--{flag.name} is empty; give a path.")
    return Path(flag.value).expanduser()


def place_if_given(flag: flags.FlagHolder[str | None]) -> Path | None:
    """Return the path that a flag names, None where it was not given."""
    return None if flag.value is None else place(flag)


def config(flag: flags.FlagHolder, example: str) -> dict[str, Any]:
    """Return the config that a flag names as plain values, with what the command line changes in it.

    Args:
      flag: of `config_flags.DEFINE_config_file`.
      example: a file that would do, for who gave none.

    Raises:
      UserError: none is given, or there is no such file.
    """
    from ml_collections import config_flags

    if not flags.FLAGS[flag.name].present:
        raise UserError(f"--{flag.name} is missing; give a file of configs/, for example --{flag.name}={example}.")
    file = Path(config_flags.get_config_filename(flags.FLAGS[flag.name]).partition(":")[0])
    if not file.is_file():
        raise UserError(f"--{flag.name}={file}: there is no such file; see {Path(example).parent}/.")
    return flag.value.to_dict()


def workers() -> int:
    """Return how many threads to use: the cores that this process may use."""
    return max(1, len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1)


def use_compilation_cache(folder: os.PathLike[str] | str) -> None:
    """Let JAX keep compiled programs in a folder, so that a second run starts at once."""
    import jax

    try:
        os.fspath(folder).encode()
    except UnicodeEncodeError:
        return  # XLA takes no path that is not UTF-8
    jax.config.update("jax_compilation_cache_dir", os.fspath(folder))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.5)


class StopRequests:
    """Say, after a step, whether the machine or the user wants us to stop: once for all processes, after the same step.

    SIGTERM, which whoever takes a machine away sends before; SIGUSR1, which Slurm sends before the time is over
    (`--signal=USR1@180`) and which asks for an exit status by which the command is run again; Ctrl-C, of which a second
    one interrupts at once. One process of several that hears it tells the others. To be used in a `with`, after which
    signals do what they did before.
    """

    def __init__(self):
        import jax

        self.was_interrupted = False
        self._runs_again = False
        self._asked = False
        self._is_alone = jax.process_count() == 1
        if not self._is_alone and not jax.distributed.is_initialized():
            raise UserError(
                f"this is one of {jax.process_count()} hosts of a TPU slice, which do not know each other; start the "
                "same command on all of them, with --cluster=tpu."
            )

    def __enter__(self) -> "StopRequests":
        heard = [signal.SIGINT, signal.SIGUSR1]
        if self._is_alone:
            heard.append(signal.SIGTERM)  # else JAX hears it, and tells the other processes
        self._before = {number: signal.signal(number, self._note) for number in heard}
        return self

    def __exit__(self, *exception: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def __call__(self, step: int) -> bool:
        """Return whether to stop after this step."""
        for told in at_step:
            told(step)
        if self._is_alone:
            return self._asked
        import numpy as np
        from jax.experimental import multihost_utils

        if not multihost_utils.reached_preemption_sync_point(step):
            return False
        heard = multihost_utils.process_allgather(np.array([self.was_interrupted, self._runs_again]))
        self.was_interrupted, self._runs_again = heard.any(axis=0).tolist()  # whoever heard it, all end alike
        return True

    def status(self, after_sigterm: int = 0) -> int:
        """Return the exit status of a run that stopped because it was asked to.

        Args:
          after_sigterm: what it is where nothing but SIGTERM asked.

        Raises:
          KeyboardInterrupt: it was the user who asked.
        """
        if self.was_interrupted:
            raise KeyboardInterrupt
        return RUN_AGAIN if self._runs_again else after_sigterm

    def _note(self, number: int, frame: object) -> None:
        if self.was_interrupted and number == signal.SIGINT:
            raise KeyboardInterrupt
        self.was_interrupted |= number == signal.SIGINT
        self._runs_again |= number == signal.SIGUSR1
        self._asked = True
        if not self._is_alone:
            signal.raise_signal(signal.SIGTERM)  # the one signal that JAX listens to


def steps_bar(what: str, unit: str) -> Callable[[int, int], object]:
    """Return what makes a progress bar from the first and the last count of something."""
    from tqdm import tqdm

    return lambda first, last: tqdm(
        total=last, initial=first, desc=what, unit=f" {unit}", unit_scale=False, disable=None, dynamic_ncols=True
    )


def keep_freed_memory() -> None:
    """Let the allocator keep what is freed, in one heap, for the next block of images: fresh pages are dear.

    Without it every larger array that a device program needs for a moment is paid for again and again: searches of
    224x224 images take a fifth longer (BUILD_NOTES). Training does without: there it costs up to a third, as measured
    there, too. Only glibc has the setting; elsewhere nothing happens.
    """
    arenas, no_mmap, top_pad, trim = -8, -4, -2, -1
    with contextlib.suppress(OSError, AttributeError):
        libc = ctypes.CDLL("libc.so.6")
        for setting, value in ((arenas, 1), (no_mmap, 0), (top_pad, 64 << 20), (trim, 2**31 - 1)):
            libc.mallopt(setting, value)


def command() -> str:
    """Return the command line as a person would type it again."""
    module = sys.modules["__main__"].__spec__
    return shlex.join(["python", "-m", module.name if module else sys.argv[0], *sys.argv[1:]])


def pairs_bar(what: str, pairs: int) -> Callable[[int], object]:
    """Show a search's progress in pairs a second, with the time left; returns what to call with pairs done."""
    from tqdm import tqdm

    bar = tqdm(total=pairs, desc=what, unit=" pairs", unit_scale=True, disable=None)

    def done(count: int) -> None:
        bar.update(count)
        if bar.n >= pairs:
            bar.close()

    return done


def _guarded(main: Callable[[], int | None]) -> int:
    """Return the exit status of `main`; what is our mistake comes through."""
    status = 1
    try:
        status = _status(main)
        return status
    finally:
        for told in at_end:
            told(status)


def _status(main: Callable[[], int | None]) -> int:
    try:
        return main() or 0
    except UserError as error:
        say(f"error: {error}")
    except KeyboardInterrupt:
        say("interrupted; run the same command again to go on")
        return INTERRUPTED
    except MemoryError as error:
        say(f"error: memory ran out ({error or 'no more is told'}); choose a smaller --size, or free memory.")
    except PermissionError as error:
        say(f"error: no permission for {error.filename}; choose another folder or mend its permissions.")
    except OSError as error:
        if error.errno not in _DISK_OR_PLACE:
            raise
        place = f" ({error.filename})" if error.filename else ""
        say(f"error: {error.strerror}{place}; make room or choose another folder, and run the same command again.")
    return USER_ERROR


def _parse(argv: Sequence[str]) -> list[str]:
    """Parse flags; a wrong one is the user's mistake, told in one sentence."""
    try:
        rest = flags.FLAGS(list(argv))
    except flags.Error as error:
        told = " ".join(str(error).split()).rstrip(".")
        what, _, where = told.partition(": Error whilst parsing config file: Traceback")
        said = f"{what}: {where.rsplit('Error: ', 1)[-1]}" if where else told  # a config's own words, without its lines
        say(f"error: {said}; see --help.")
        sys.exit(USER_ERROR)
    except AttributeError as error:  # how ml_collections says that a config has no such key
        say(f"error: the config has no key {_one_line(error)}")
        sys.exit(USER_ERROR)
    except OSError:  # how it says that it cannot read the file
        say("error: --config names no file that can be read; give the path of one in configs/.")
        sys.exit(USER_ERROR)
    except SystemExit:  # help was asked for and printed, which is no failure
        sys.exit(0)
    if len(rest) > 1:
        say(f"error: {rest[1]!r} is not a flag; write --flag=value. See --help.")
        sys.exit(USER_ERROR)
    return rest


def _one_line(error: Exception) -> str:
    """Return an error's words without line breaks, quotes and what JSON made of both."""
    return " ".join(str(error).replace("\\n", ". ").replace("\\'", "").replace('"', "").split()).strip("' ")
