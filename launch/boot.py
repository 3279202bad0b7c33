"""What every launcher does before and after its work: flags, the log, exit statuses.

Exit status: 0 done, 1 our mistake (with a traceback), 2 the user's mistake (with one clear text), 130 interrupted;
launchers add their own (the audit: 3 copies found).
"""

import contextlib
import ctypes
import errno
import logging
import os
import shlex
import sys
from collections.abc import Callable, Sequence

from absl import app, flags

from memjax.errors import UserError

# XLA's own convolution fusion on processors is up to eight times slower, above all for weight gradients (BUILD_NOTES).
CONVOLUTION_FLAG = "--xla_cpu_experimental_ynn_fusion_type=-individual_convolution"

USER_ERROR = 2
INTERRUPTED = 130

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
    logging.getLogger("jax").setLevel(logging.WARNING)  # which backends are not there is no news
    app.run(lambda argv: sys.exit(_guarded(main)), flags_parser=_parse)


def say(text: str) -> None:
    """Tell the person at the terminal something; results go to files, this goes to standard error."""
    print(text, file=sys.stderr, flush=True)


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


def keep_freed_memory() -> None:
    """Let the allocator keep what is freed, in one heap, for the next block of images: fresh pages are dear.

    Without it every larger array that a device program needs for a moment is paid for again and again: searches of
    224x224 images take a fifth longer (BUILD_NOTES). Only glibc has the setting; elsewhere nothing happens.
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
        say(f"error: {' '.join(str(error).split()).rstrip('.')}; see --help.")
        sys.exit(USER_ERROR)
    except SystemExit:  # help was asked for and printed, which is no failure
        sys.exit(0)
    if len(rest) > 1:
        say(f"error: {rest[1]!r} is not a flag; write --flag=value. See --help.")
        sys.exit(USER_ERROR)
    return rest
