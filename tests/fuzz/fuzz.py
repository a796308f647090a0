"""``python tests/fuzz/fuzz.py TARGET [libFuzzer's options]``: let atheris look for bytes that a parser fails on.

A run begins with ``.fuzz/TARGET.seeds`` and the inputs that reached new code before, which are in ``.fuzz/TARGET``. An
input that fails is written beside these, and given again by naming its file.
"""

import os
import sys
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
    options = sys.argv[2:]
    if all(each.startswith("-") for each in options):  # otherwise these are inputs, to be tried again
        kept = Path(os.environ.get("WIRESPEED_FUZZ", ".fuzz")) / sys.argv[1]
        begin = kept.with_name(f"{kept.name}.seeds")
        for folder in (kept, begin):
            folder.mkdir(parents=True, exist_ok=True)
        for number, seed in enumerate(seeds):
            (begin / f"seed{number}").write_bytes(seed)
        options += [str(kept), str(begin), f"-artifact_prefix={kept}/", "-max_len=1600"]

    def one(data: bytes) -> None:
        take(data)

    atheris.Setup([sys.argv[0], *options], one)
    atheris.Fuzz()  # ends the process


if __name__ == "__main__":
    main()
