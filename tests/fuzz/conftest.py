"""The folder's own module of targets."""

import sys
from pathlib import Path

sys.path.append(str(Path(__file__).parent))
