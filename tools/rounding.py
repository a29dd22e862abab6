"""Put every random initial weight off by about one rounding error, as another processor might.

Training amplifies such a difference, so what is true only by the luck of one rounding shows itself.
"""

import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch.nn import init

DRAWS = ("kaiming_uniform_", "normal_", "uniform_")
"""The functions of ``torch.nn.init`` by which PyTorch's layers and ours get their weights."""


def disturb(seed: int) -> None:
    """Let the functions that draw weights change each by a few units in the last place, each time alike."""

    def disturbed(draw: Callable[..., torch.Tensor]) -> Callable[..., torch.Tensor]:
        @functools.wraps(draw)
        def draw_and_change(tensor: torch.Tensor, *arguments: Any, **options: Any) -> torch.Tensor:
            drawn = draw(tensor, *arguments, **options)
            generator = torch.Generator().manual_seed(seed)
            change = torch.randn(drawn.shape, generator=generator, dtype=drawn.dtype)
            with torch.no_grad():
                return drawn.mul_(1 + 2 * torch.finfo(drawn.dtype).eps * change)

        return draw_and_change

    for name in DRAWS:
        setattr(init, name, disturbed(getattr(init, name)))


def ipython_folder(folder: Path, seed: int) -> Path:
    """Make a folder for ``IPYTHONDIR`` from which every kernel starts with `disturb`, and return it."""
    startup = folder / "profile_default" / "startup"
    startup.mkdir(parents=True)
    call = f'__import__("runpy").run_path({str(Path(__file__).resolve())!r})["disturb"]({seed})\n'
    (startup / "rounding.py").write_text(call)
    return folder
