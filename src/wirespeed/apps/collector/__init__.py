"""collector: telemetry in (NetFlow, IPFIX, sFlow, statsd), aggregates out (Prometheus, Parquet).

::

    datagram ──▶ serve_flows ──▶ netflow5 ─┐
                     │  ├─────▶ sets ──▶ templates ──▶ program ─┤
                     │  └─────▶ sflow ──▶ sample ───────────────┤
                     │                                          ▼
                     │                                 row of one flow (flow.py)
                     │                                          ▼
                     │                         account: totals, top talkers, distinct hosts, ring of rows
                     ▼
                 exporters: sequence gaps, sampling, uptime        control side: windows ──▶ Prometheus, Parquet

Each worker has all of this for itself (:mod:`wirespeed.apps.collector.state`); control code reads it while they write.
"""
