"""One sentence for a file that cannot be read, whatever its decoder raised."""

import contextlib
from collections.abc import Iterator

from memjax.data.readers.base import BadFile


@contextlib.contextmanager
def as_bad_file() -> Iterator[None]:
    """Turn any exception of the block into `BadFile`; on damaged bytes a decoder may raise whatever it likes."""
    try:
        yield
    except BadFile:
        raise
    except FileNotFoundError:
        raise BadFile("does not exist (a link that leads nowhere?)") from None
    except PermissionError:
        raise BadFile("may not be read; change its permissions") from None
    except MemoryError:
        raise BadFile("does not fit into memory; split it, or free memory") from None
    except Exception as error:
        raise BadFile(f"is damaged or cut off ({str(error) or type(error).__name__})") from None
