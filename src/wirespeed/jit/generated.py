"""Modules that are written at run time: a closure over compiled code is compiled anew in each process, a file is not.

The file is named by the digest of its text and never rewritten, so Numba finds the machine code of an earlier run
beside it. What its code calls and cannot import by name is put into the module before the code runs.
"""

import hashlib
import os
import sys
from collections.abc import Mapping
from importlib import util
from pathlib import Path
from typing import Any

from wirespeed.jit.cache import DIRECTORY


def digest_of(text: str) -> str:
    """What a file with this text is named by."""
    return hashlib.sha256(text.encode()).hexdigest()[:20]


def write_module(text: str, kind: str) -> Path:
    """Write the text once, as a module of its ``kind`` (a word); returns the file."""
    folder = DIRECTORY / f"{kind}s"
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{kind}_{digest_of(text)}.py"
    if not path.exists():
        scratch = path.with_suffix(f".{os.getpid()}")
        scratch.write_text(text)
        scratch.replace(path)
    return path


def load_module(path: Path, objects: Mapping[str, Any]) -> Any:
    """Import what :func:`write_module` wrote, with ``objects`` among its globals; the same as before if they are."""
    name = f"wirespeed_{path.stem}"
    known = sys.modules.get(name)
    if known is not None and all(vars(known).get(key) is value for key, value in objects.items()):
        return known
    spec = util.spec_from_file_location(name, path)
    assert spec is not None
    assert spec.loader is not None
    module = util.module_from_spec(spec)
    vars(module).update(objects)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module
