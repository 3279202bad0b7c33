"""Read the tensors of a file that PyTorch wrote, without PyTorch. Nothing inside a file is ever executed.

Such a file holds a pickle: a program that may call anything it can import. Here its operations are read one by one, and
only those are followed that make dictionaries, lists, numbers, and tensors from stored numbers; at any other the file
is refused. `torch.save` writes a zip archive since PyTorch 1.6, and wrote a row of pickles before; both are read.
"""

import contextlib
import io
import math
import os
import pickletools
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from memjax.data.readers.base import BadFile
from memjax.data.readers.damage import as_bad_file

_MAGIC = 0x1950A86A20F9469CFC6C  # the first pickle of the older form
_OLDER = b"\x80\x02"  # how the older form begins: a pickle of protocol 2
_DTYPES = {
    "DoubleStorage": "<f8",
    "FloatStorage": "<f4",
    "HalfStorage": "<f2",
    "LongStorage": "<i8",
    "IntStorage": "<i4",
    "ShortStorage": "<i2",
    "CharStorage": "<i1",
    "ByteStorage": "<u1",
    "BoolStorage": "?",
}


def is_torch_file(path: Path) -> bool:
    """Say whether a file looks like one that `torch.save` wrote.

    Raises:
      BadFile: it cannot be read at all.
    """
    with as_bad_file(), path.open("rb") as file:
        head = file.read(2)
        if head != b"PK":
            return head == _OLDER
    with contextlib.suppress(zipfile.BadZipFile), zipfile.ZipFile(path) as archive:
        return _pickle_in(archive) is not None
    return False


def read_torch(path: Path) -> dict[str, np.ndarray]:
    """Return the tensors of a state_dict by name, in the file's order; what is no tensor is passed over.

    Raises:
      BadFile: it is damaged, or holds anything but dictionaries, lists, numbers and tensors of numbers.
    """
    with as_bad_file():
        if zipfile.is_zipfile(path):
            with zipfile.ZipFile(path) as archive:
                tree, stored = _read_archive(archive)
        else:
            with path.open("rb") as file:
                tree, stored = _read_row(file)
        if not isinstance(tree, dict):
            raise BadFile("holds no state_dict, which is a dictionary of tensors by name")
        return {
            name: _array(tensor, stored)
            for name, tensor in tree.items()
            if isinstance(name, str) and isinstance(tensor, _Tensor)
        }


class _Global(NamedTuple):
    """Something that a pickle names to be imported: nothing is."""

    module: str
    name: str


class _Storage(NamedTuple):
    """Numbers in a row, elsewhere in the file."""

    key: str
    dtype: np.dtype
    size: int

    @property
    def size_bytes(self) -> int:
        return self.size * self.dtype.itemsize


class _Tensor(NamedTuple):
    """Some of a storage's numbers, in a shape; offset and strides in numbers."""

    storage: _Storage
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]


def _pickle_in(archive: zipfile.ZipFile) -> str | None:
    """Return the name of the pickle in PyTorch's archive: FOLDER/data.pkl."""
    return next((name for name in archive.namelist() if name.count("/") == 1 and name.endswith("/data.pkl")), None)


def _read_archive(archive: zipfile.ZipFile) -> tuple[Any, dict[str, np.ndarray]]:
    name = _pickle_in(archive)
    if name is None:
        raise BadFile("is a zip archive, but none that PyTorch wrote")
    folder = name.removesuffix("data.pkl")
    if f"{folder}constants.pkl" in archive.namelist():
        raise BadFile("is a TorchScript program, which would have to be run; give a state_dict")
    if f"{folder}byteorder" in archive.namelist() and _member(archive, f"{folder}byteorder") != b"little":
        raise BadFile("was written on a big-endian machine; write it again on another")
    found = _Unpickled(io.BytesIO(_member(archive, name)))
    stored = {}
    for storage in found.storages.values():
        content = _member(archive, f"{folder}data/{storage.key}")
        if len(content) != storage.size_bytes:
            raise BadFile(f"is damaged: data/{storage.key} is not the {storage.size_bytes} bytes that it should be")
        stored[storage.key] = np.frombuffer(content, storage.dtype)
    return found.value, stored


def _member(archive: zipfile.ZipFile, name: str) -> bytes:
    """Return a file in the archive; its checksum is verified. PyTorch compresses none, and what is may be endless."""
    if archive.getinfo(name).compress_type != zipfile.ZIP_STORED:
        raise BadFile("is a compressed archive, which PyTorch never writes; take the file as it was")
    return archive.read(name)


def _read_row(file: io.BufferedReader) -> tuple[Any, dict[str, np.ndarray]]:
    """Read the older form: four pickles, one of keys, then the numbers of each key."""
    if file.read(2) != _OLDER:
        raise BadFile("is no file that PyTorch wrote")
    file.seek(0)
    if _Unpickled(file).value != _MAGIC:
        raise BadFile("is a pickle, but none that PyTorch wrote")
    _Unpickled(file)  # the version of the form, which never changed
    if not _Unpickled(file).value["little_endian"]:
        raise BadFile("was written on a big-endian machine; write it again on another")
    found = _Unpickled(file)
    left = os.fstat(file.fileno()).st_size
    stored = {}
    for key in _Unpickled(file).value:
        storage = found.storages[key]
        size = int.from_bytes(file.read(8), "little")
        if size != storage.size or file.tell() + storage.size_bytes > left:
            raise BadFile(f"is damaged or cut off: {storage.size} numbers of {storage.dtype} are not all there")
        stored[key] = np.frombuffer(file.read(storage.size_bytes), storage.dtype)
    return found.value, stored


def _array(tensor: _Tensor, stored: Mapping[str, np.ndarray]) -> np.ndarray:
    flat, (_, offset, shape, strides) = stored[tensor.storage.key], tensor
    numbers = (offset, *shape, *strides)
    if len(shape) != len(strides) or not all(isinstance(n, int) and n >= 0 for n in numbers):
        raise BadFile("is damaged: a tensor has no shape")
    last = offset + sum((n - 1) * stride for n, stride in zip(shape, strides, strict=True))
    # More positions than numbers: strides of zero can ask for any amount of memory.
    if math.prod(shape) and (last >= flat.size or math.prod(shape) > flat.size):
        raise BadFile("is damaged: a tensor reaches beyond its numbers")
    steps = [stride * flat.itemsize for stride in strides]
    return np.lib.stride_tricks.as_strided(flat[offset:], shape, steps).copy()


class _Unpickled:
    """The value of one pickle, read from where a file is; `storages` are those it names, by key.

    Each operation takes from the stack or puts onto it, as the standard library's `pickletools` describes them.
    """

    def __init__(self, file: io.BytesIO | io.BufferedReader):
        self.storages: dict[str, _Storage] = {}
        self._stack: list[Any] = []
        self._marks: list[int] = []
        self._memo: dict[int, Any] = {}
        for operation, argument, _ in pickletools.genops(file):  # ends with the operation STOP
            self._follow(operation.name, argument)
        self.value = self._stack.pop()

    def _follow(self, name: str, argument: Any) -> None:
        stack = self._stack
        match name:
            case "PROTO" | "FRAME" | "STOP":
                pass
            case (
                "BININT" | "BININT1" | "BININT2" | "LONG1" | "BINFLOAT" | "BINUNICODE" | "SHORT_BINUNICODE" | "UNICODE"
            ):
                stack.append(argument)
            case "NONE" | "NEWTRUE" | "NEWFALSE":
                stack.append({"NONE": None, "NEWTRUE": True, "NEWFALSE": False}[name])
            case "EMPTY_DICT" | "EMPTY_LIST" | "EMPTY_TUPLE":
                stack.append({"EMPTY_DICT": dict, "EMPTY_LIST": list, "EMPTY_TUPLE": tuple}[name]())
            case "MARK":
                self._marks.append(len(stack))
            case "TUPLE":
                stack.append(tuple(self._since_mark()))
            case "TUPLE1" | "TUPLE2" | "TUPLE3":
                stack.append(tuple(self._last(int(name[-1]))))
            case "APPEND" | "APPENDS":
                items = self._last(1) if name == "APPEND" else self._since_mark()
                self._top(list).extend(items)
            case "SETITEM" | "SETITEMS":
                items = self._last(2) if name == "SETITEM" else self._since_mark()
                self._top(dict).update(zip(items[::2], items[1::2], strict=True))
            case "BINPUT" | "LONG_BINPUT" | "MEMOIZE":
                self._memo[len(self._memo) if argument is None else argument] = stack[-1]
            case "BINGET" | "LONG_BINGET":
                stack.append(self._memo[argument])
            case "GLOBAL":
                stack.append(_Global(*argument.split(" ")))
            case "BINPERSID":
                stack.append(self._storage(*stack.pop()))
            case "REDUCE":
                called, arguments = self._last(2)
                stack.append(_called(called, arguments))
            case "BUILD":
                stack.pop()
                self._top(dict)  # what an OrderedDict of modules remembers of their versions: not asked for
            case _:
                raise BadFile(f"is a pickle with more than tensors in it (operation {name}), so it is not read")

    def _since_mark(self) -> list[Any]:
        return self._last(len(self._stack) - self._marks.pop())

    def _last(self, count: int) -> list[Any]:
        if not 0 <= count <= len(self._stack):
            raise BadFile("is damaged: its pickle takes more than it has")
        at = len(self._stack) - count
        items = self._stack[at:]
        del self._stack[at:]
        return items

    def _top(self, kind: type) -> Any:
        if type(self._stack[-1]) is not kind:
            raise BadFile("is a pickle with more than tensors in it, so it is not read")
        return self._stack[-1]

    def _storage(self, what: str, kind: _Global, key: str, device: str, size: int, view: Any = None) -> _Storage:
        if what != "storage" or kind.module != "torch" or kind.name not in _DTYPES or view is not None:
            raise BadFile(f"has tensors of a kind that is not read ({kind.name}); save them as float32")
        storage = _Storage(key, np.dtype(_DTYPES[kind.name]), size)
        if self.storages.setdefault(key, storage) != storage or size < 0:
            raise BadFile("is damaged: its tensors contradict each other")
        return storage


def _called(called: Any, arguments: tuple[Any, ...]) -> Any:
    """Return what the few calls give that a state_dict needs."""
    match called, arguments:
        case ("collections", "OrderedDict"), ():
            return {}
        case ("torch._utils", "_rebuild_tensor_v2" | "_rebuild_tensor"), (_Storage(), _, tuple(), tuple(), *_):
            return _Tensor(*arguments[:4])
        case ("torch._utils", "_rebuild_parameter"), (_Tensor(), *_):
            return arguments[0]
    name = ".".join(called) if isinstance(called, _Global) else type(called).__name__
    raise BadFile(f"is a pickle that calls {name}, which no tensors need, so it is not read")
