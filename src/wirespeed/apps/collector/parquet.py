"""A collector's windows and flows as Parquet files, which any tool that reads tables opens.

::

    DIR/totals-20260102T030405Z-0001.parquet     a row for each window and kind of datagram
    DIR/talkers-...                              the largest sources, destinations, conversations and services
    DIR/metrics-...                              a row for each window and metric of statsd
    DIR/flows-...                                a row for each flow, if flows are wanted

A file is written as ``.partial`` and renamed when it is whole, after ``rotate_s`` seconds or ``rotate_rows`` rows:
whoever reads ``*.parquet`` never sees half of one. A full disk costs files, which are counted, and nothing else.
"""

import contextlib
import time
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from wirespeed.apps.collector.collector import CollectorError
from wirespeed.apps.collector.flow import FLOW_DTYPE, shown
from wirespeed.apps.collector.report import Talker, Window

_ADDRESSES = tuple(name for name in FLOW_DTYPE.names or () if FLOW_DTYPE[name].itemsize == 16)
_TIMES = ("start_ms", "end_ms", "received_ms")
_PERCENTILES = (50.0, 90.0, 99.0)


class Parquet:
    """Writes to a folder, which is made if it is not there.

    Args:
        folder: where.
        rotate_s: seconds after which a file is closed.
        rotate_rows: rows after which it is.
        flows: whether flows are written too.

    Raises:
        CollectorError: pyarrow is not installed, or the folder cannot be had.
    """

    def __init__(
        self, folder: Path | str, rotate_s: float = 300.0, rotate_rows: int = 1_000_000, flows: bool = False
    ) -> None:
        try:
            import pyarrow
            import pyarrow.parquet
        except ImportError:
            raise CollectorError("Parquet needs pyarrow: pip install 'wirespeed[collector]'") from None
        self._arrow, self.folder = pyarrow, Path(folder)
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise CollectorError(f"Parquet folder {folder}: {error.strerror}") from None
        self._rotate_s, self._rotate_rows, self.flows = rotate_s, rotate_rows, flows
        self._files: dict[str, _File] = {}
        self._numbers: dict[str, int] = {}
        self.failures = 0
        """Batches that could not be written."""
        self.last_failure = ""

    # What is written -----------------------------------------------------------------------------------------

    def write_window(self, window: Window) -> None:
        """The rows of a window that ended."""
        times = {"start_ms": window.start_ms, "end_ms": window.end_ms}
        rows: list[dict[str, Any]] = [
            {**times, "kind": lane, **sums, "distinct_sources": None, "distinct_destinations": None}
            for lane, sums in window.lanes.items()
        ]
        distinct = {"distinct_sources": window.distinct_sources, "distinct_destinations": window.distinct_destinations}
        every = {name: sum(sums[name] for sums in window.lanes.values()) for name in next(iter(window.lanes.values()))}
        rows.append({**times, "kind": "all", **every, **distinct})
        self._write_rows("totals", rows)
        lists = {"source": window.sources, "destination": window.destinations}
        lists |= {"conversation": window.conversations, "service": window.services}
        self._write_rows("talkers", [{**times, **row} for by, each in lists.items() for row in _talkers(by, each)])
        self._write_rows("metrics", [{**times, **row} for row in _metrics(window)])

    def write_flows(self, rows: NDArray[Any]) -> None:
        """Rows as :meth:`wirespeed.apps.collector.collector.Collector.take_rows` gives them."""
        if not self.flows or not len(rows):
            return
        columns = {}
        for name in FLOW_DTYPE.names or ():
            column = np.ascontiguousarray(rows[name])
            if name in _ADDRESSES:
                columns[name] = self._addresses(column)
            elif name in _TIMES:
                columns[name] = self._arrow.array(column.view(np.int64), self._arrow.timestamp("ms", "UTC"))
            else:
                columns[name] = self._arrow.array(column)
        self._write("flows", self._arrow.table(columns))

    def _addresses(self, column: NDArray[Any]) -> Any:
        """Addresses as text, each different one made once."""
        different, which = np.unique(column.view(np.uint64).reshape(-1, 2), axis=0, return_inverse=True)
        texts = self._arrow.array([shown(row.tobytes()) for row in different], self._arrow.string())
        return self._arrow.DictionaryArray.from_arrays(which.reshape(-1).astype(np.int32), texts).cast(texts.type)

    def _write_rows(self, name: str, rows: list[dict[str, Any]]) -> None:
        if not rows:
            return
        table = self._arrow.Table.from_pylist(rows, schema=self._schema(name))
        self._write(name, table)

    def _schema(self, name: str) -> Any:
        pa = self._arrow
        when, number, real, text = pa.timestamp("ms", "UTC"), pa.int64(), pa.float64(), pa.string()
        window = [("start_ms", when), ("end_ms", when)]
        counts = ("datagrams", "octets_received", "flows", "octets", "packets", "samples", "lost")
        columns = {
            "totals": [
                ("kind", text), *((each, number) for each in counts), ("distinct_sources", real),
                ("distinct_destinations", real),
            ],
            "talkers": [
                ("by", text), ("rank", number), ("source", text), ("source_port", number), ("destination", text),
                ("destination_port", number), ("protocol", number), ("octets", number), ("error", number),
            ],
            "metrics": [
                ("name", text), ("tags", pa.list_(text)), ("kind", text), ("value", real), ("change", real),
                ("updates", number), ("min", real), ("max", real), *((f"p{each:g}", real) for each in _PERCENTILES),
            ],
        }  # fmt: skip
        return pa.schema([*window, *columns[name]])

    # Files ---------------------------------------------------------------------------------------------------

    def _write(self, name: str, table: Any) -> None:
        try:
            file = self._files.get(name)
            if file is None:
                file = self._files[name] = _File(self._path(name), table.schema, time.monotonic() + self._rotate_s)
            file.write(table)
            if file.rows >= self._rotate_rows:
                self._close(name)
        except (OSError, self._arrow.ArrowException) as error:
            self._failed(name, error)

    def _path(self, name: str) -> Path:
        number = self._numbers[name] = self._numbers.get(name, 0) + 1
        return self.folder / f"{name}-{time.strftime('%Y%m%dT%H%M%SZ', time.gmtime())}-{number:04}.parquet"

    def _close(self, name: str) -> None:
        self._files.pop(name).close()

    def _failed(self, name: str, error: Exception) -> None:
        self.failures += 1
        self.last_failure = f"{self.folder}/{name}: {error}"
        file = self._files.pop(name, None)
        if file is not None:
            file.abandon()

    def rotate(self) -> None:
        """Close the files that are old enough; call it now and then."""
        for name in [name for name, file in self._files.items() if time.monotonic() >= file.until]:
            try:
                self._close(name)
            except (OSError, self._arrow.ArrowException) as error:
                self._failed(name, error)

    def close(self) -> None:
        """Close all files: they are whole then."""
        for file in self._files.values():
            file.until = 0.0
        self.rotate()


class _File:
    """One file while it is written."""

    def __init__(self, path: Path, schema: Any, until: float) -> None:
        from pyarrow.parquet import ParquetWriter

        self._path, self._partial = path, path.with_suffix(".parquet.partial")
        self.rows, self.until = 0, until
        self._writer = ParquetWriter(self._partial, schema, compression="zstd")

    def write(self, table: Any) -> None:
        self._writer.write_table(table)
        self.rows += table.num_rows

    def close(self) -> None:
        self._writer.close()
        self._partial.rename(self._path)

    def abandon(self) -> None:
        """Give up a file that cannot be written."""
        with contextlib.suppress(Exception):
            self._writer.close()
        self._partial.unlink(missing_ok=True)


def _talkers(by: str, listed: list[Talker]) -> list[dict[str, Any]]:
    rows = []
    for rank, talker in enumerate(listed, 1):
        row: dict[str, Any] = {"by": by, "rank": rank, "octets": talker.octets, "error": talker.error}
        if by == "conversation":
            names = ("source", "source_port", "destination", "destination_port", "protocol")
            row |= dict(zip(names, talker.key, strict=True))
        elif by == "service":
            row |= {"protocol": talker.key[0], "destination_port": talker.key[1]}
        else:
            row[by] = talker.key
        rows.append(row)
    return rows


def _metrics(window: Window) -> list[dict[str, Any]]:
    rows = []
    for metric in window.metrics:
        change, updates, distribution = window.metric_changes[metric.name, metric.tags, metric.kind]
        row: dict[str, Any] = {
            "name": metric.name, "tags": list(metric.tags), "kind": metric.kind, "value": metric.value,
            "change": change, "updates": updates,
        }  # fmt: skip
        if distribution is not None and distribution.count:
            found = distribution.percentiles(list(_PERCENTILES))
            row |= {"min": distribution.smallest / 1000, "max": distribution.largest / 1000}
            row |= {f"p{name:g}": value / 1000 for name, value in zip(_PERCENTILES, found, strict=True)}
        rows.append(row)
    return rows


__all__ = ["Parquet"]
