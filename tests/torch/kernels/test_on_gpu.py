"""What needs a GPU: barriers, large tensors, graphs, streams. The tests beside this one run there too."""

from typing import get_args

import pytest
import torch
from cases import Batch, close, compare

from bnlib.torch import BatchNorm2d, batch_norm, kernels
from bnlib.torch.kernels.launch import Launch
from bnlib.torch.kernels.plan import Method

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU")

by_torch_compile = pytest.mark.filterwarnings(
    "ignore:.*should not be instantiated:DeprecationWarning",
    "ignore:TensorFloat32 tensor cores:UserWarning",  # of products of matrices, of which there is none
)

LARGE = [
    (32, 2048, 7, 7),
    (32, 64, 56, 56),
    (64, 64, 112, 112),
    (128, 256, 14, 14),
    (8, 4, 1024, 1024),
    (16, 4, 512, 512),
    (4096, 64),
    (65536, 512),
    (20, 6, 65536),
    (3, 7, 127, 131),
    (1000, 24, 9),
]


def draw(shape, layout, dtype, seed):
    generator = torch.Generator("cuda").manual_seed(seed)

    def normal(*size, dtype=torch.float32):
        return torch.randn(size, generator=generator, device="cuda", dtype=dtype)

    x, added, dy = (normal(*shape, dtype=dtype) for _ in range(3))
    if layout == "channels last":
        x, added, dy = (t.contiguous(memory_format=torch.channels_last) for t in (x, added, dy))
    rows = [normal(shape[1]) for _ in range(4)]
    return Batch(x + 0.5, rows[0], rows[1], added, dy, rows[2] * 0.1, rows[3].abs() + 0.5)


@pytest.mark.parametrize("act", [False, True])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
@pytest.mark.parametrize(
    ("shape", "layout"),
    [
        (s, layout)
        for s in LARGE
        for layout in ("contiguous", "channels last")
        if len(s) == 4 or layout == "contiguous"
    ],
)
def test_large_batches_agree_with_float64(shape, layout, dtype, act):
    for seed in range(2):
        batch = draw(shape, layout, dtype, seed)
        assert kernels.suits(batch.x, batch.weight, added=batch.added)
        compare(batch, act)
        torch.cuda.empty_cache()


@pytest.mark.parametrize("tensors", [1, 2])  # forward, backward
def test_all_methods_are_among_them(tensors):
    made = {
        Launch.of(torch.empty(s, dtype=dtype, device="cuda"), tensors).plan.method
        for s in LARGE
        for dtype in (torch.float32, torch.float16)
    }
    assert made == set(get_args(Method))


@pytest.mark.parametrize("layout", ["contiguous", "channels last"])
@pytest.mark.parametrize("shape", [(32, 64, 56, 56), (64, 16, 224, 224)])
def test_float32_keeps_its_digits_at_a_mean_of_a_million(shape, layout):
    batch = draw(shape, layout, torch.float32, 0)
    x = batch.x + 1e6
    wide = x.double()
    expected = (wide - wide.mean((0, 2, 3), keepdim=True)) * torch.rsqrt(
        wide.var((0, 2, 3), correction=0, keepdim=True) + 1e-5
    )
    assert (batch_norm(x, None, None, training=True) - expected).abs().max() <= 1e-6


def test_barriers_hold_through_a_thousand_launches():
    batch = draw((32, 64, 56, 56), "contiguous", torch.float16, 0)
    first = batch_norm(batch.x, None, None, batch.weight, batch.bias, training=True)
    for _ in range(1000):
        again = batch_norm(batch.x, None, None, batch.weight, batch.bias, training=True)
    assert torch.equal(first, again)


def test_offsets_beyond_two_to_the_31():
    x = torch.randn(2**31 // (64 * 4096) + 1, 64, 64, 64, device="cuda", dtype=torch.float16)
    y = batch_norm(x, None, None, training=True)
    tail, mean = x[-1].double(), x.mean((0, 2, 3), dtype=torch.float64)
    var = torch.stack([x[:, c].double().var(correction=0) for c in range(64)])
    close(y[-1], (tail - mean[:, None, None]) * torch.rsqrt(var + 1e-5)[:, None, None], torch.float16)


def test_a_captured_graph_and_another_stream():
    batch = draw((32, 64, 56, 56), "contiguous", torch.float32, 0)
    x = batch.x.clone()
    expected = batch_norm(x, None, None, training=True)
    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        other = batch_norm(x, None, None, training=True)
    torch.cuda.current_stream().wait_stream(side)
    assert torch.equal(other, expected)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        y = batch_norm(x, None, None, training=True)
    for seed in range(3):
        x.copy_(draw((32, 64, 56, 56), "contiguous", torch.float32, seed).x)
        graph.replay()
        assert torch.equal(y, batch_norm(x, None, None, training=True))


@by_torch_compile
def test_torch_compile_by_inductor():
    layer = BatchNorm2d(8, device="cuda")
    x = torch.randn(16, 8, 12, 12, device="cuda", requires_grad=True)
    y = torch.compile(lambda t: layer(t.sin()).relu(), fullgraph=True)(x)
    (dx,) = torch.autograd.grad(y.square().sum(), x)
    fresh = BatchNorm2d(8, device="cuda")
    expected = fresh(x.sin()).relu()
    torch.testing.assert_close(y, expected)
    torch.testing.assert_close(dx, torch.autograd.grad(expected.square().sum(), x)[0])
    torch.testing.assert_close(layer.running_var, fresh.running_var)


@by_torch_compile
@pytest.mark.parametrize("mode", ["reduce-overhead", "max-autotune"])
def test_torch_compile_by_graphs_of_cuda(mode):
    shape = (32, 64, 56, 56)  # whose channels are shared by programs, which need tickets
    fast, plain = (BatchNorm2d(shape[1], device="cuda") for _ in range(2))
    torch._dynamo.reset()
    compiled = torch.compile(lambda t: fast(t.sin()).relu(), fullgraph=True, mode=mode)
    for seed in range(5):  # eager, recorded, replayed
        torch.compiler.cudagraph_mark_step_begin()
        batch = draw(shape, "contiguous", torch.float32, seed)
        results = []
        for function in (compiled, lambda t: plain(t.sin()).relu()):
            x = batch.x.clone().requires_grad_()
            y = function(x)
            (dx,) = torch.autograd.grad(y, x, batch.dy)
            results.append((y.detach().clone(), dx.clone()))
        torch.testing.assert_close(*results)
    torch.testing.assert_close(fast.running_var, plain.running_var)
