"""Several processes at one search: each goes through its share, and what they found is put together by all.

A share is some of the gallery's blocks, of one cut for all (`Blocks.share`): every score is made by the same program of
the same images, however many processes there are. So the lists that come of all shares are, to the bit, those of one
process that had gone through all blocks.
"""

from pathlib import Path

from memjax.audit.pairs.resume import Arrays, Progress, read_arrays
from memjax.team import Team, wait_to_see


def file_of(unfinished: Path | None, index: int, team: Team) -> Path | None:
    """Return where a process keeps what it has found of a search that is kept at `unfinished`."""
    if team.count == 1:
        return unfinished
    assert unfinished is not None, "several processes search through a folder that they share"
    return unfinished.with_name(f"{unfinished.name}-{index}of{team.count}")


def together(found: Progress, unfinished: Path | None, team: Team) -> Progress:
    """Return what all processes have found.

    Args:
      found: by this one.
      unfinished: where the search is kept.
      team: the processes; all call this.

    Raises:
      UserError: they do not see one folder.
    """
    if team.count == 1:
        return found
    found.save()
    told = team.meet([found.key, found.done])
    files = [file_of(unfinished, index, team) for index in range(team.count)]
    return Progress.of([_seen(file, *key_and_done) for file, key_and_done in zip(files, told, strict=True) if file])


def forget(unfinished: Path | None, team: Team) -> None:
    """Remove what this process kept of a search that is finished, once no other one wants it."""
    team.meet()
    if (own := file_of(unfinished, team.index, team)) is not None:
        own.unlink(missing_ok=True)


def _seen(file: Path, key: str, done: int) -> Arrays:
    """Return what a process has found, once its file is to be seen here as it left it."""

    def look() -> Arrays | None:
        arrays = read_arrays(file, key)
        return arrays if arrays is not None and int(arrays["done"]) == done else None

    return wait_to_see(look, f"another process has written {file}")
