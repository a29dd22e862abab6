import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]


def test_every_place_agrees_with_the_address_in_the_configuration():
    command = [sys.executable, ROOT / "tools" / "adopt.py", "--check"]
    finished = subprocess.run(command, capture_output=True, text=True)
    assert finished.returncode == 0, finished.stderr
