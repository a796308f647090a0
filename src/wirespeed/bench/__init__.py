"""Benches: one question each, answered beside a peer in the same run.

A figure alone says little on a machine whose clock moves by 30 % within an hour; a ratio of two
figures taken in turns says what was asked. So every bench here has the same shape:

- :mod:`~wirespeed.bench.pairing` runs ours and the peer in turns and voids disturbed pairs;
- :mod:`~wirespeed.bench.result` is the row that comes out, as JSON and as a table;
- the peers: :mod:`~wirespeed.bench.testpmd` (DPDK), :mod:`~wirespeed.bench.pcap_peers` (libpcap, dpkt);
- the input: :mod:`~wirespeed.bench.capture`.

Nothing is imported here, so that ``import wirespeed.bench`` costs nothing and needs no peer.
"""
