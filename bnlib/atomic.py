"""Replacing a file whole."""

import os
import tempfile
from pathlib import Path


def replace(path: Path, content: bytes) -> bool:
    """Replace a file's bytes and return whether they changed.

    An interrupt leaves either the old file or the new one, never a part. The file keeps its mode.
    """
    if path.exists() and path.read_bytes() == content:
        return False
    with tempfile.NamedTemporaryFile(
        dir=path.parent, prefix=f".{path.name}.", suffix=".part", delete=False
    ) as part:
        temporary = Path(part.name)
        try:
            part.write(content)
            part.flush()
            os.fsync(part.fileno())
            temporary.chmod(path.stat().st_mode & 0o777 if path.exists() else 0o644)
            os.replace(temporary, path)  # noqa: PTH105
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise
    return True
