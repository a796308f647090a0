"""``python tests/fuzz/fuzz.py TARGET [libFuzzer's options]``: let atheris look for bytes that a parser fails on.

Inputs that reach new code are kept in ``.fuzz/TARGET`` and are where the next run begins; an input that fails is
written beside them, and given again by naming its file.
"""

import os
import sys
import tempfile
from pathlib import Path

os.environ["NUMBA_DISABLE_JIT"] = "1"
sys.path.insert(0, str(Path(__file__).parent))

import atheris

with atheris.instrument_imports(include=["wirespeed.apps", "wirespeed.stack", "wirespeed.wire", "wirespeed.traffic"]):
    from targets import TARGETS


def main() -> None:
    """Fuzz the target that is named, for ever or as long as the options say."""
    if len(sys.argv) < 2 or sys.argv[1] not in TARGETS:
        sys.exit(f"usage: fuzz.py TARGET [options of libFuzzer]; targets: {', '.join(TARGETS)}")
    with atheris.instrument_imports(include=["wirespeed.apps", "wirespeed.stack", "wirespeed.wire"]):
        take, seeds = TARGETS[sys.argv[1]]()
    with tempfile.TemporaryDirectory(prefix="wirespeed-fuzz-") as begin:
        for number, seed in enumerate(seeds):
            (Path(begin) / f"seed{number}").write_bytes(seed)
        options = sys.argv[2:]
        given = [each for each in options if not each.startswith("-")]
        if not given:  # otherwise these are inputs, to be tried again
            kept = Path(os.environ.get("WIRESPEED_FUZZ", ".fuzz")) / sys.argv[1]
            kept.mkdir(parents=True, exist_ok=True)
            options += [str(kept), begin, f"-artifact_prefix={kept}/", "-max_len=1600"]

        def one(data: bytes) -> None:
            take(data)

        atheris.Setup([sys.argv[0], *options], one)
        atheris.Fuzz()


if __name__ == "__main__":
    main()
