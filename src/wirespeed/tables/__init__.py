"""tables: what packets are looked up in. Written by control code, read by workers, never locked.

A table lives in a :class:`~wirespeed.mem.region.Region`. Its Python class is the control side; ``.address``
and ``.View`` are the data side, and a graph replaces a table that a node uses by ``View(address)``. The
lookup methods have the same names on both, so that the same node also runs as plain Python.
"""

from wirespeed.tables.lpm import Lpm4, Lpm4View, LpmStats
from wirespeed.tables.poptrie import Poptrie4, Poptrie4View, PoptrieStats
from wirespeed.tables.routes import load_routes
from wirespeed.tables.tally import Tally, TallyView
from wirespeed.tables.toeplitz import Toeplitz, ToeplitzView

__all__ = [
    "Lpm4", "Lpm4View", "LpmStats", "Poptrie4", "Poptrie4View", "PoptrieStats", "Tally", "TallyView", "Toeplitz",
    "ToeplitzView", "load_routes",
]  # fmt: skip
