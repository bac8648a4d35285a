"""Columns of numbers and hashes as text of a JSON file: compressed, and exact to the last bit."""

from __future__ import annotations

import base64
import re
import zlib
from typing import Any

import numpy as np
from numpy.typing import NDArray

# Byte strings, integers, floats; nothing else is ever read.
_KIND = re.compile(r"\|S\d{1,3}|<i8|<f4|<f8")


def pack(column: NDArray[Any]) -> dict[str, Any]:
    """Plain data of a one-dimensional column of bytes, int64, float32 or float64."""
    kind = column.dtype.newbyteorder("<") if column.dtype.kind in "if" else column.dtype
    if not _KIND.fullmatch(kind.str):
        raise TypeError(f"a column of {column.dtype} is not packed")
    facts = {"kind": kind.str, "length": len(column)}
    content = np.ascontiguousarray(column, dtype=kind).tobytes()
    hashes = _hashes(column) if kind.kind == "S" else None
    if hashes is not None:
        content, facts["digits"] = hashes
    return {**facts, "zlib": base64.b64encode(zlib.compress(content, 9)).decode()}


def unpack(data: Any) -> NDArray[Any]:
    """The column that `pack` was given.

    Raises:
        ValueError: It is no such column, or is damaged.
    """
    try:
        kind, length = str(data["kind"]), int(data["length"])
        if not _KIND.fullmatch(kind) or length < 0:
            raise ValueError(f"a column of kind {kind!r} and length {length}")
        width, digits = np.dtype(kind).itemsize, int(data.get("digits", 0))
        if digits and (kind[1] != "S" or digits % 2 or not 0 < digits <= width):
            raise ValueError(f"a column of kind {kind!r} with {digits} digits")
        size = length * (digits // 2 or width)
        # Never more than is told of, whatever the text would grow to.
        stream = zlib.decompressobj()
        content = stream.decompress(base64.b64decode(data["zlib"], validate=True), size + 1)
    except (KeyError, TypeError, AttributeError, zlib.error) as error:
        raise ValueError(f"a damaged column ({type(error).__name__}: {error})") from error
    if len(content) != size:
        raise ValueError(f"a column of {length} rows has {len(content)} bytes instead of {size}")
    if digits:
        return np.frombuffer(content.hex().encode(), dtype=f"S{digits}").astype(kind)
    return np.frombuffer(content, dtype=kind).copy()


def _hashes(column: NDArray[np.bytes_]) -> tuple[bytes, int] | None:
    """The bytes that a column of equally long hexadecimal hashes stands for, and its digits.

    As digits they would take an eighth more space, compressed.
    """
    lengths = np.unique(np.char.str_len(column))
    if len(lengths) != 1 or lengths[0] == 0 or lengths[0] % 2:
        return None
    text = b"".join(column.tolist())
    try:
        content = bytes.fromhex(text.decode("ascii"))
    except ValueError:
        return None
    return (content, int(lengths[0])) if content.hex().encode() == text else None
