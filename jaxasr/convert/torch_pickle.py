"""What a pickle of torch's says, read by an interpreter that makes plain data and calls nothing; and one of tensors."""

import pickletools
import struct
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np

from jaxasr.errors import CheckpointError

DTYPES: Mapping[str, Any] = {
    "torch.FloatStorage": np.float32,
    "torch.DoubleStorage": np.float64,
    "torch.HalfStorage": np.float16,
    "torch.BFloat16Storage": jnp.bfloat16,
    "torch.LongStorage": np.int64,
    "torch.IntStorage": np.int32,
    "torch.ShortStorage": np.int16,
    "torch.CharStorage": np.int8,
    "torch.ByteStorage": np.uint8,
    "torch.BoolStorage": np.bool_,
    "torch.ComplexFloatStorage": np.complex64,
    "torch.ComplexDoubleStorage": np.complex128,
}
MOST_DIMENSIONS = 32


class Storage(NamedTuple):
    """Numbers in a file of their own, which tensors share."""

    kind: str
    """Of `DTYPES`."""
    key: str
    numel: int


class Tensor(NamedTuple):
    """Numbers of a storage; counts of numbers, not of bytes."""

    storage: Storage
    offset: int
    size: tuple[int, ...]
    stride: tuple[int, ...]


def load(content: bytes, path: object) -> Any:
    """What a pickle holds: dictionaries, lists, tuples, texts, numbers, `Storage`s and `Tensor`s.

    Keys of dictionaries are texts and whole numbers from 0: tuples of tuples could take for ever to hash.

    Raises:
      CheckpointError: it asks for anything else.
      ValueError, LookupError, TypeError, AttributeError: it is damaged.

    >>> load(dump({"a": np.zeros((2, 3), np.float32)}), "model.pt")["a"].size
    (2, 3)
    """
    return _Machine(path).run(content)


class _Symbol(NamedTuple):
    """What a pickle asks for by its name; no pickle can make one otherwise."""

    name: str


def _dictionary() -> dict[Any, Any]:
    return {}


def _is_count(x: Any) -> bool:
    return isinstance(x, int) and 0 <= x < 1 << 63


def _tensor(storage: Any, offset: Any, size: Any, stride: Any, *_: Any) -> Tensor | None:
    fits = isinstance(size, tuple) and isinstance(stride, tuple) and len(size) == len(stride) <= MOST_DIMENSIONS
    if isinstance(storage, Storage) and fits and all(map(_is_count, (offset, *size, *stride))):
        return Tensor(storage, offset, size, stride)
    return None


def _parameter(tensor: Any, *_: Any) -> Tensor | None:
    return tensor if isinstance(tensor, Tensor) else None


MAKERS: Mapping[str, Callable[..., Any]] = {
    "collections.OrderedDict": _dictionary,
    "torch._utils._rebuild_tensor_v2": _tensor,
    "torch._utils._rebuild_parameter": _parameter,
}
"""All that a pickle may call; what they make, or None where the arguments are none for it."""


class _Machine:
    """The stack and the memo of a pickle's instructions; `run` goes through those."""

    def __init__(self, path: object):
        self._path = path
        self._stack: list[Any] = []
        self._marks: list[int] = []
        self._memo: dict[int, Any] = {}

    def run(self, content: bytes) -> Any:
        for opcode, argument, _ in pickletools.genops(content):
            if opcode.name == "STOP":
                break
            if opcode.name not in INSTRUCTIONS:
                raise self._not_plain(f"the pickle instruction {opcode.name}")
            INSTRUCTIONS[opcode.name](self, argument)
        return self._stack.pop()

    def push(self, x: Any) -> None:
        self._stack.append(x)

    def tuple_of(self, number: int) -> None:
        self.push(tuple(self._popped(len(self._stack) - number)))

    def tuple_marked(self) -> None:
        self.push(tuple(self._popped(self._marks.pop())))

    def mark(self) -> None:
        self._marks.append(len(self._stack))

    def memoize(self, number: int | None) -> None:
        self._memo[len(self._memo) if number is None else number] = self._stack[-1]

    def remember(self, number: int) -> None:
        self.push(self._memo[number])

    def append(self, start: int) -> None:
        items = self._popped(start)
        self._stack[-1].extend(items)

    def append_one(self) -> None:
        self.append(len(self._stack) - 1)

    def append_marked(self) -> None:
        self.append(self._marks.pop())

    def set_items(self, start: int) -> None:
        items = self._popped(start)
        for key, value in zip(items[::2], items[1::2], strict=True):
            if not (isinstance(key, str) or _is_count(key)):
                raise self._not_plain(f"a dictionary that has a {type(key).__name__} for a key")
            self._stack[-1][key] = value

    def set_one(self) -> None:
        self.set_items(len(self._stack) - 2)

    def set_marked(self) -> None:
        self.set_items(self._marks.pop())

    def symbol(self, name: str) -> None:
        if name not in MAKERS and name not in DTYPES:
            raise CheckpointError(
                f"{self._path}: it asks for {name}; tensors, dictionaries, lists, numbers and texts alone were "
                "expected, since by other names a file could run anything; save the parameters alone: "
                "torch.save(model.state_dict(), NEW)."
            )
        self.push(_Symbol(name))

    def symbol_on_stack(self) -> None:
        module, name = self._popped(len(self._stack) - 2)
        if not isinstance(module, str) or not isinstance(name, str):
            raise self._not_plain("a name that is no text")
        self.symbol(f"{module}.{name}")

    def storage(self) -> None:
        match self._stack.pop():
            case (_, _Symbol(kind), str(key), _, numel) if kind in DTYPES and _is_count(numel):
                self.push(Storage(kind, key, numel))
            case _:
                raise self._not_plain("numbers of no known storage")

    def call(self) -> None:
        symbol, arguments = self._popped(len(self._stack) - 2)
        maker = MAKERS.get(symbol.name) if isinstance(symbol, _Symbol) else None
        made = None if maker is None else maker(*arguments)
        if made is None:
            raise self._not_plain("a call with other arguments than a tensor's")
        self.push(made)

    def build(self) -> None:
        """Leaves out attributes, which the dictionaries of torch's modules have."""
        self._stack.pop()
        if not isinstance(self._stack[-1], dict):
            raise self._not_plain("attributes for what is no dictionary")

    def _popped(self, start: int) -> list[Any]:
        if start < 0:
            raise self._not_plain("instructions that take more than there is")
        items = self._stack[start:]
        del self._stack[start:]
        return items

    def _not_plain(self, came: str) -> CheckpointError:
        return CheckpointError(
            f"{self._path}: {came}; tensors and plain data as torch.save writes them were expected; save the "
            "parameters alone: torch.save(model.state_dict(), NEW)."
        )


INSTRUCTIONS: Mapping[str, Callable[[_Machine, Any], None]] = {
    **dict.fromkeys(("PROTO", "FRAME"), lambda machine, _: None),
    **dict.fromkeys(
        ("BININT", "BININT1", "BININT2", "LONG1", "LONG4", "BINFLOAT", "BINUNICODE", "SHORT_BINUNICODE", "BINUNICODE8"),
        _Machine.push,
    ),
    "NONE": lambda machine, _: machine.push(None),
    "NEWTRUE": lambda machine, _: machine.push(True),
    "NEWFALSE": lambda machine, _: machine.push(False),
    "EMPTY_TUPLE": lambda machine, _: machine.push(()),
    "EMPTY_LIST": lambda machine, _: machine.push([]),
    "EMPTY_DICT": lambda machine, _: machine.push({}),
    "TUPLE1": lambda machine, _: machine.tuple_of(1),
    "TUPLE2": lambda machine, _: machine.tuple_of(2),
    "TUPLE3": lambda machine, _: machine.tuple_of(3),
    "TUPLE": lambda machine, _: machine.tuple_marked(),
    "MARK": lambda machine, _: machine.mark(),
    **dict.fromkeys(("BINPUT", "LONG_BINPUT", "MEMOIZE"), _Machine.memoize),
    **dict.fromkeys(("BINGET", "LONG_BINGET"), _Machine.remember),
    "APPEND": lambda machine, _: machine.append_one(),
    "APPENDS": lambda machine, _: machine.append_marked(),
    "SETITEM": lambda machine, _: machine.set_one(),
    "SETITEMS": lambda machine, _: machine.set_marked(),
    "GLOBAL": lambda machine, name: machine.symbol(name.replace(" ", ".", 1)),
    "STACK_GLOBAL": lambda machine, _: machine.symbol_on_stack(),
    "BINPERSID": lambda machine, _: machine.storage(),
    "REDUCE": lambda machine, _: machine.call(),
    "BUILD": lambda machine, _: machine.build(),
}
"""Those by which protocols 2 to 5 write plain data."""


# --- written -----------------------------------------------------------------------------------------------------

KINDS = {np.dtype(dtype): kind for kind, dtype in DTYPES.items()}


def dump(tensors: Mapping[str, np.ndarray]) -> bytes:
    """A pickle of a dictionary of these tensors, of any shapes, each a storage, which are called 0, 1, ... in order.

    Raises:
      CheckpointError: torch has no such dtype.

    >>> load(dump({"a": np.zeros(2, np.float32), "b": np.zeros(2, np.int64)}), "model.pt").keys()
    dict_keys(['a', 'b'])
    """
    dictionary = _symbol("collections.OrderedDict") + b")R"
    items = b"".join(
        _text(name) + _symbol("torch._utils._rebuild_tensor_v2") + _arguments(name, key, x, dictionary) + b"R"
        for key, (name, x) in enumerate(tensors.items())
    )
    return b"\x80\x02" + dictionary + b"(" + items + b"u."


def _arguments(name: str, key: int, x: np.ndarray, hooks: bytes) -> bytes:
    """What a tensor is made of: its storage, offset, size and stride, no gradient, no hooks."""
    if x.dtype not in KINDS:
        raise CheckpointError(
            f"{name}: {x.dtype}; one of {', '.join(map(str, KINDS))} was expected, which torch has; convert it first."
        )
    stride = [int(np.prod(x.shape[axis + 1 :], dtype=np.int64)) for axis in range(x.ndim)]
    storage = _tuple(_text("storage"), _symbol(KINDS[x.dtype]), _text(str(key)), _text("cpu"), _number(x.size)) + b"Q"
    size, strides = (_tuple(*map(_number, counts)) for counts in (x.shape, stride))
    return _tuple(storage, _number(0), size, strides, b"\x89", hooks)


def _symbol(name: str) -> bytes:
    return "c{}\n{}\n".format(*name.rsplit(".", 1)).encode()


def _text(text: str) -> bytes:
    encoded = text.encode()
    return b"X" + struct.pack("<I", len(encoded)) + encoded


def _number(number: int) -> bytes:
    return b"\x8a\x08" + struct.pack("<q", number)


def _tuple(*items: bytes) -> bytes:
    return b"(" + b"".join(items) + b"t"
