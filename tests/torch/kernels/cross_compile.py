"""Compile every kernel for a Hopper GPU without one, and print what the assembler says as JSON.

The launchers run as they do on a GPU, on tensors of the CPU; each launch compiles and runs nothing.
"""

import itertools
import json
import math
import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path

os.environ.pop("TRITON_INTERPRET", None)

import torch
import triton
from triton import knobs
from triton.backends.compiler import GPUTarget
from triton.runtime.jit import JITFunction

from bnlib.torch.kernels import backward, forward, launch, plan

sys.path.append(str(Path(__file__).parents[3] / "benchmarks"))
import gpu_cases

H200 = plan.Device(multiprocessors=132, l2_bytes=50 << 20)
SHAPES = {
    "one": (32, 2048, 7, 7),
    "group": (32, 64, 56, 56),
    "eight channels": (128, 8, 112, 112),
    "split": (64, 4, 512, 512),
    "cache": (12, 4, 512, 512),
    "odd": (8, 64, 63, 63),
    "rows": (256, 1024),
    "long rows": (65536, 64),
}


class NoDriver:
    """Stands in for the driver of a GPU: names the target, and launches nothing."""

    def get_current_target(self):
        return GPUTarget("cuda", 90, 32)

    def get_current_device(self):
        return 0

    def get_current_stream(self, device):
        return 0


def compile_only(self, *args, grid, warmup, **kwargs):
    compiled = run(self, *args, grid=grid, warmup=True, **kwargs | options)
    found.append((self.__name__, kwargs["BLOCK_M"] * kwargs["BLOCK_C"], compiled))


def resources(cubin):
    """Return the registers of a kernel, and the bytes that its threads keep in memory: what was spilled."""
    with tempfile.NamedTemporaryFile(suffix=".cubin") as file:
        file.write(cubin)
        file.flush()
        command = [knobs.nvidia.cuobjdump.path, "--dump-resource-usage", file.name]
        said = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    used = {name: int(n) for name, n in re.findall(r"\b(REG|STACK|LOCAL):(\d+)", said)}
    return used["REG"], used["STACK"] + used["LOCAL"]


def moved(ptx, name, width=16):
    """Return the bytes that the instructions called ``name`` of ``width`` bytes move for a thread."""
    kinds = re.findall(rf"{name}\.global[\w:.]*?(?:\.v(\d))?\.b(\d+)", ptx)
    return sum(width for v, bits in kinds if int(v or 1) * int(bits) == 8 * width)


def launch_all(shape, channels_last, dtype, act):
    """Launch the forward, backward and evaluation passes for one kind of tensor."""
    x = torch.empty(shape, dtype=dtype)
    if channels_last:
        x = x.to(memory_format=torch.channels_last)
    c = shape[1]
    rows = [torch.empty(c) for _ in range(7)]
    added = x if act else None
    bits = torch.empty(x.numel(), dtype=torch.uint8) if act else None
    geometry = launch.geometry_of(x)
    once, twice = (
        launch.Launch(geometry, plan.make_plan(geometry, x.element_size(), n, H200)) for n in (1, 2)
    )
    forward.train(x, added, bits, (rows[0], rows[1], None), rows[2], rows[3], 0.1, 1e-5, once)
    forward.evaluate(x, added, bits, rows[0], rows[1], rows[2], rows[3], 1e-5, once)
    saved = backward.Saved(x, rows[4], rows[5], rows[6], rows[2], bits)
    backward.differentiate(x, saved, 1e-5, True, act, twice)


def launch_held():
    """Launch the fused forward pass in float32 once for each way to cut a timed shape into held tiles.

    Yield the shape and the layout. The tensors are small: kernels depend on none of their sizes.
    """
    x, bits, seen = torch.empty(16), torch.empty(16, dtype=torch.uint8), set()
    rows = [torch.empty(16) for _ in range(4)]
    for (n, c, *sides), channels_last in itertools.product(gpu_cases.SHAPES, (False, True)):
        places = math.prod(sides)
        size = (n * places, c, 1) if channels_last else (n, c, places)
        geometry = plan.Geometry(*size, channels_last)
        made = launch.Launch(geometry, plan.make_plan(geometry, 4, 1, H200))
        cut = *made.tile.values(), made.chunk, made.plan.members == 1
        if not made.plan.holds or cut in seen:
            continue
        seen.add(cut)
        forward.train(x, x, bits, (rows[0], rows[1], None), rows[2], rows[3], 0.1, 1e-5, made)
        yield (n, c, *sides), "channels last" if channels_last else "contiguous"


def examined(case, itemsize):
    """Return what the assembler says of the kernels that were found, each once, and forget them."""
    kernels = {compiled.asm["ptx"]: (name, tile, compiled) for name, tile, compiled in found}
    found.clear()
    rows = []
    for ptx, (name, tile, compiled) in kernels.items():
        threads = 32 * compiled.metadata.num_warps
        registers, spilled = resources(compiled.asm["cubin"])
        row = {"case": case, "kernel": name, "registers": registers, "threads": threads, "spilled": spilled}
        moves = {"loaded": moved(ptx, "ld") * threads, "stored": moved(ptx, "st") * threads}
        rows.append(row | moves | {"tile": tile * itemsize})
    return rows


def main(cases):
    """Print the rows of ``cases``, of the tiles that are held, and of kernels with too few registers."""
    rows = {"cases": [], "held": []}
    for name, layout, dtype, act in cases:
        kind = getattr(torch, dtype)
        launch_all(SHAPES[name], layout == "channels last", kind, act)
        rows["cases"] += examined((name, layout, dtype, act), kind.itemsize)
    for case in launch_held():
        rows["held"] += examined(case, 4)
    options["maxnreg"] = 32
    launch_all(SHAPES["one"], False, torch.float32, True)
    rows["starved"] = examined("one", 4)
    print(json.dumps(rows))


if __name__ == "__main__":
    found, options = [], {}
    run = JITFunction.run
    JITFunction.run = compile_only
    triton.runtime.driver.set_active(NoDriver())
    main(json.loads(sys.argv[1]))
