"""Which setting of DPDK's testpmd is the fastest on this machine, and how fast is it?"""

import argparse
import tempfile
from pathlib import Path

from rich.console import Console

from wirespeed.bench.capture import write_capture
from wirespeed.bench.synthetic import forward_frames
from wirespeed.bench.testpmd import MODES, calibrate, version

arguments = argparse.ArgumentParser(description=__doc__)
arguments.add_argument("--mode", choices=MODES, default="macswap", help="what testpmd does to a packet")
arguments.add_argument("--size", type=int, default=60, help="bytes of a frame, without FCS")
arguments.add_argument("--null", action="store_true", help="net_null (60 B, copied) in place of net_pcap")
arguments.add_argument("--rounds", type=int, default=5, help="turns of each setting")
given = arguments.parse_args()

console = Console()
with tempfile.TemporaryDirectory() as folder, console.status("starting") as status:
    source = Path(folder) / "forward.pcap"
    write_capture(source, forward_frames(size=given.size))
    found = calibrate(None if given.null else source, given.mode, rounds=given.rounds, progress=status.update)
console.print(version())
for setting, pps in sorted(found.figures.items(), key=lambda item: -item[1]):
    console.print(f"{pps / 1e6:7.1f} Mpps  {setting}")
