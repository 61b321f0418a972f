"""Packed rows as they are read: memory-mapped, shared by all trials and workers of a machine. See `packing.py`."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

ROWS_A_BATCH = 1024  # of the Arrow stream


@dataclass(frozen=True)
class PackInfo:
    """What packing a domain gave. `tokens` are those of text, without padding, `loss_tokens` those of them that are
    learned; `examples` those packed.

    truncated: examples longer than a row, cut to it. dropped: examples with nothing left to learn.
    """

    layout: str
    seq_len: int
    rows: int
    tokens: int
    loss_tokens: int
    examples: int
    truncated: int
    dropped: int

    def __str__(self) -> str:
        lost = [
            f"{self.truncated} longer than {self.seq_len} tokens and cut" if self.truncated else "",
            f"{self.dropped} with nothing to learn left out" if self.dropped else "",
        ]
        return (
            f"{self.examples:,} examples in {self.rows:,} rows, {self.tokens:,} tokens, {self.loss_tokens:,} learned"
            + "".join(f"; {some}" for some in lost if some)
        )


class PackedRows:
    """Memory-mapped rows of one domain. Pickles as its folder."""

    def __init__(self, folder: str | Path) -> None:
        import pyarrow as pa

        self.folder = Path(folder)
        self.info = PackInfo(**json.loads((self.folder / "info.json").read_text()))
        self._chunks: dict[str, list[np.ndarray[Any, np.dtype[np.int32]]]] = {}
        with pa.memory_map(str(self.folder / "rows.arrow")) as file:
            for batch in pa.ipc.open_stream(file):
                for name in batch.schema.names:
                    flat = batch.column(name).flatten().to_numpy(zero_copy_only=True)
                    self._chunks.setdefault(name, []).append(flat.reshape(len(batch), -1))
        self.lengths = np.load(self.folder / "lengths.npy", mmap_mode="r")
        self.learned = np.load(self.folder / "learned.npy", mmap_mode="r")

    def __reduce__(self) -> tuple[Any, ...]:
        return PackedRows, (str(self.folder),)

    def __len__(self) -> int:
        return self.info.rows

    def __getitem__(self, row: int) -> dict[str, np.ndarray[Any, np.dtype[np.int32]]]:
        if not 0 <= row < self.info.rows:
            raise IndexError(f"row {row} of {self.info.rows}")
        chunk, at = divmod(row, ROWS_A_BATCH)
        return {name: chunks[chunk][at] for name, chunks in self._chunks.items()}
