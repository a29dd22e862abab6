import pytest
import torch

import bnlib.torch
from bnlib.torch.kernels.dispatch import MOST_VALUES, fits
from bnlib.torch.kernels.launch import Launch, geometry_of
from bnlib.torch.kernels.plan import Device, Geometry, hold, make_plan, power_of_two

H200 = Device(multiprocessors=132, l2_bytes=50 << 20)
SMALL = Device(multiprocessors=20, l2_bytes=4 << 20)
GEOMETRIES = [
    Geometry(32, 64, 12544, False),
    Geometry(256, 64, 12544, False),
    Geometry(32, 2048, 49, False),
    Geometry(256, 2048, 49, False),
    Geometry(4, 128, 1 << 20, False),
    Geometry(20, 6, 65536, False),
    Geometry(136000, 16, 16, False),
    Geometry(2, 1, 3, False),
    Geometry(100352, 64, 1, True),
    Geometry(1568, 2048, 1, True),
    Geometry(128, 64, 1, True),
    Geometry(1 << 20, 1024, 1, True),
    Geometry(7, 3, 1, True),
]
every = pytest.mark.parametrize(
    ("geometry", "itemsize", "tensors", "device"),
    [(g, i, t, d) for g in GEOMETRIES for i in (2, 4) for t in (1, 2) for d in (H200, SMALL)],
)


@every
def test_a_plan_covers_each_value_once(geometry, itemsize, tensors, device):
    plan = make_plan(geometry, itemsize, tensors, device)
    assert plan.block_m == power_of_two(plan.block_m)
    assert plan.block_c == power_of_two(plan.block_c)
    assert plan.block_m % 8 == 0  # whole bytes of bits
    assert 1 <= plan.channels_at_once <= geometry.channels
    if plan.holds:
        assert plan.members * plan.block_m >= geometry.values
        assert (plan.members - 1) * plan.block_m < geometry.values  # nobody without a value
        assert plan.channels_at_once == geometry.channels
    else:
        assert plan.members <= -(-geometry.values // plan.block_m)
        assert plan.in_one_launch == (plan.method == "l2" and not geometry.channels_last)
    assert geometry.channels_last or plan.block_c == 1


@every
def test_a_barrier_never_waits_for_a_program_that_cannot_start(geometry, itemsize, tensors, device):
    plan = make_plan(geometry, itemsize, tensors, device)
    if plan.method == "group" or (plan.method == "l2" and plan.in_one_launch):
        assert plan.members * plan.groups <= 2 * device.multiprocessors


@every
def test_what_goes_through_the_cache_fits_it(geometry, itemsize, tensors, device):
    plan = make_plan(geometry, itemsize, tensors, device)
    held = geometry.values * plan.channels_at_once * itemsize * tensors
    if plan.method == "l2":
        assert held <= min(25 << 20, device.l2_bytes // 2)
    if plan.method == "split":
        least = held if geometry.channels_last else held // geometry.channels
        assert least > min(25 << 20, device.l2_bytes // 2)
        assert plan.channels_at_once == geometry.channels


@every
def test_the_chip_is_not_left_idle(geometry, itemsize, tensors, device):
    plan = make_plan(geometry, itemsize, tensors, device)
    bytes_moved = geometry.values * geometry.channels * itemsize
    if bytes_moved >= 4 << 20:
        programs = plan.groups or -(-plan.channels_at_once // plan.block_c)
        assert programs * plan.members >= device.multiprocessors / 2


@pytest.mark.parametrize(
    ("geometry", "methods"),
    [
        (Geometry(32, 2048, 49, False), ("one", "one")),
        (Geometry(32, 64, 3136, False), ("group", "group")),
        (Geometry(256, 64, 12544, False), ("l2", "l2")),
        (Geometry(4, 128, 1 << 20, False), ("l2", "split")),
        (Geometry(20, 6, 65536, False), ("group", "l2")),
        (Geometry(1568, 2048, 1, True), ("group", "group")),
        (Geometry(65536, 64, 1, True), ("l2", "split")),
        (Geometry(1 << 20, 1024, 1, True), ("split", "split")),
        (Geometry(64, 64, 1, True), ("one", "one")),
    ],
)
def test_the_method_follows_the_bytes_of_a_channel(geometry, methods):
    assert tuple(make_plan(geometry, 4, tensors, H200).method for tensors in (1, 2)) == methods


@pytest.mark.parametrize(("channels", "groups"), [(3, 3), (5, 5), (6, 3), (64, 5), (66, 5), (16, 4)])
def test_groups_that_take_turns_end_together(channels, groups):
    plan = make_plan(Geometry(192, channels, 12544, False), 2, 1, H200)  # of which 5 channels fit the cache
    assert (plan.method, plan.groups) == ("l2", groups)
    assert plan.members == 2 * H200.multiprocessors // groups


def test_half_of_the_bytes_fit_where_all_of_them_do_not():
    geometry = Geometry(65536, 128, 1, True)
    assert make_plan(geometry, 4, 1, H200).method == "split"
    assert make_plan(geometry, 2, 1, H200).method == "l2"


def test_channels_whose_neighbours_cannot_be_loaded_together_are_held_in_smaller_tiles():
    odd, even = Geometry(64, 64, 63, False), Geometry(64, 64, 64, False)
    assert hold(odd, 4, 1, H200).block_m < hold(even, 4, 1, H200).block_m


def test_a_group_in_two_launches_makes_the_same_sums():
    plan = make_plan(Geometry(32, 64, 3136, False), 4, 1, H200)
    twin = plan.in_two_launches()
    assert (plan.method, twin.method) == ("group", "split")
    assert (twin.members, twin.block_m, twin.block_c) == (plan.members, plan.block_m, plan.block_c)
    cached = make_plan(Geometry(256, 64, 12544, False), 4, 1, H200)
    assert cached.in_one_launch
    twin = cached.in_two_launches()
    assert (twin.method, twin.in_one_launch, twin.members) == ("l2", False, cached.members)
    one = make_plan(Geometry(32, 2048, 49, False), 4, 1, H200)
    assert one.in_two_launches() is one


@pytest.mark.parametrize(
    "shape", [(6, 4), (6, 4, 5), (6, 4, 5, 3), (6, 4, 2, 3, 5), (6, 4, 1, 1), (1, 1, 4, 4), (4, 1)]
)
def test_offsets_of_a_geometry_are_those_of_the_tensor(shape):
    full = torch.arange(torch.Size(shape).numel()).view(shape)
    for x in (full, full.movedim(1, -1).contiguous().movedim(-1, 1)):
        g = geometry_of(x)
        i, c = torch.arange(g.values)[:, None], torch.arange(g.channels)[None, :]
        at = (
            i * g.channels + c
            if g.channels_last
            else (i // g.positions * g.channels + c) * g.positions + i % g.positions
        )
        flat = x.as_strided((x.numel(),), (1,))
        expected = x.movedim(1, -1).reshape(-1, shape[1])
        assert torch.equal(flat[at], expected)


def test_what_is_not_packed_has_no_geometry():
    x = torch.zeros(8, 6, 4, 4)
    for view in (x[:, ::2], x[..., :3], x.transpose(2, 3), x[:1].expand(8, 6, 4, 4), torch.zeros(6, 8).T):
        assert geometry_of(view) is None
        assert not fits(view)
        with pytest.raises(ValueError, match="expected a packed tensor, got strides"):
            Launch.of(view, 1)


def test_what_fits():
    x, row = torch.zeros(8, 6, 4, 4), torch.zeros(6)
    assert fits(x, row, None)
    assert not fits(x, torch.zeros(12)[::2])
    assert fits(x, added=x.clone())
    assert not fits(x, added=x.contiguous(memory_format=torch.channels_last))
    assert not fits(x, added=x.half())
    assert not fits(torch.zeros(1, 70000, 2))
    assert not fits(torch.zeros(1).expand(2**31, 1))
    assert fits(torch.empty(2**31 - 2**22, 1, device="meta"))
    assert not fits(torch.empty(2**31 - 2**21, 1, device="meta"))


@pytest.mark.parametrize("tensors", [1, 2])
@pytest.mark.parametrize("itemsize", [2, 4])
@pytest.mark.parametrize("channels_last", [False, True])
def test_no_loop_over_what_fits_steps_past_two_to_the_31(channels_last, itemsize, tensors):
    most = Geometry(MOST_VALUES, 1, 1, True) if channels_last else Geometry(1, 1, MOST_VALUES, False)
    plan = make_plan(most, itemsize, tensors, H200)
    assert plan.members * plan.block_m > 2**16
    assert most.values + plan.members * plan.block_m < 2**31


def test_on_the_cpu_nothing_goes_to_the_kernels():
    assert not bnlib.torch.kernels.suits(torch.zeros(4, 3))


def test_launches_cover_all_channels():
    geometry = Geometry(20, 6, 65536, False)
    plan = make_plan(geometry, 4, 2, H200).in_two_launches()
    slices = list(Launch(geometry, plan).slices())
    assert len(slices) > 1
    assert [a for a, _, _ in slices] == [0, *(b for _, b, _ in slices[:-1])]
    assert slices[-1][1] == 6
    assert all(grid == (plan.members, last - first) for first, last, grid in slices)
