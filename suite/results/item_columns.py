"""An item table as bytes and back, without pickle."""

from __future__ import annotations

import json
import struct
import zlib
from typing import Any

import numpy as np
from numpy.typing import NDArray

from suite.results.item_table import ItemTable

# Speed counts: the bytes stay on this machine.
_LEVEL = 1
_LENGTH = struct.Struct("<I")
_PLAIN = ("keys", "doc_ids", "prompts", "answers", "confidence")


class DamagedColumnsError(Exception):
    """Bytes that are no item table; the caller reads the samples file instead."""


def pack_table(table: ItemTable) -> bytes:
    """All columns of a table, compressed; task and filter are the caller's."""
    columns: list[tuple[str, str, NDArray[Any]]] = [
        ("", name, getattr(table, name)) for name in _PLAIN
    ]
    columns += [("", "clusters", table.clusters)] if table.clusters is not None else []
    columns += [("metrics", name, values) for name, values in table.metrics.items()]
    columns += [("weights", name, values) for name, values in table.weights.items()]
    columns += [("answers", name, values) for name, values in table.answers_by_length.items()]
    header = json.dumps(
        [(kind, name, values.dtype.str, len(values)) for kind, name, values in columns]
    ).encode()
    parts = [_LENGTH.pack(len(header)), header, *(values.tobytes() for *_, values in columns)]
    return zlib.compress(b"".join(parts), _LEVEL)


def unpack_table(task: str, filter_name: str, packed: bytes) -> ItemTable:
    """The table that was packed, in arrays of its own.

    Raises:
        DamagedColumnsError: The bytes are not what `pack_table` gives.
    """
    try:
        data = zlib.decompress(packed)
        (length,) = _LENGTH.unpack_from(data)
        header = json.loads(data[_LENGTH.size : _LENGTH.size + length])
        offset = _LENGTH.size + length
        columns: dict[str, dict[str, NDArray[Any]]] = {
            kind: {} for kind in ("", "metrics", "weights", "answers")
        }
        for kind, name, dtype, count in header:
            # A copy, because columns begin at odd places and callers may write to theirs.
            values = np.frombuffer(data, np.dtype(dtype), count, offset).copy()
            offset += values.nbytes
            columns[kind][name] = values
        return ItemTable(
            task=task,
            filter=filter_name,
            metrics=columns["metrics"],
            weights=columns["weights"],
            answers_by_length=columns["answers"],
            **columns[""],
        )
    except (zlib.error, struct.error, ValueError, LookupError, TypeError) as error:
        raise DamagedColumnsError(f"{task}: {error}") from error
