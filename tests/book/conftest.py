import sys
from pathlib import Path

# The tools are scripts, not a package.
sys.path.insert(0, str(Path(__file__).parents[2] / "tools"))
