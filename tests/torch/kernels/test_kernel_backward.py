import pytest
from cases import TURNS, cases, close, draw, exact, pieces

from bnlib.torch.kernels import backward
from bnlib.torch.kernels.launch import Launch


def differentiate(batch, launch, training, eps=1e-5):
    """Return the gradients for x, weight and bias."""
    x = batch.x.double()
    axes = (0, *range(2, x.ndim))
    if training:
        mean, var = x.mean(axes), x.var(axes, correction=0).float()
        shift = mean.float()
        residual = (mean - shift.double()).float()
    else:
        shift, residual, var = batch.running_mean, None, batch.running_var
    saved = backward.Saved(batch.x, shift, residual, var, batch.weight, None)
    dx, dadded, sums = backward.differentiate(batch.dy, saved, eps, training, False, launch)
    assert dadded is None
    assert dx.stride() == batch.x.stride()
    return dx, sums[1], sums[0]


def compare(batch, launch, training):
    gradients = differentiate(batch, launch, training)
    dtype, values = batch.x.dtype, launch.geometry.values
    expected = exact(batch, training, act=False)[1]
    close(gradients[0], expected[0], dtype)
    for ours, theirs in zip(gradients[1:], expected[1:], strict=True):
        close(ours, theirs, times=values**0.5)


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize(("shape", "layout", "dtype"), cases())
def test_gradients_agree_with_float64(shape, layout, dtype, training):
    batch = draw(shape, layout, dtype)
    compare(batch, Launch.of(batch.x, 2), training)


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("layout", ["contiguous", "channels last"])
@pytest.mark.parametrize("members", [1, 2, 3])
def test_any_cut_into_programs_gives_the_same(layout, members, training):
    batch = draw((3, 5, 6, 7), layout)
    at_once = 2 if layout == "contiguous" else 5
    compare(batch, pieces(batch.x, 16, members, at_once=at_once), training)


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize(("members", "groups"), TURNS)
def test_channels_that_take_turns_give_the_same(members, groups, training):
    batch = draw((3, 5, 6, 7))
    compare(batch, pieces(batch.x, 16, members, method="l2", groups=groups), training)


@pytest.mark.parametrize("layout", ["contiguous", "channels last"])
@pytest.mark.parametrize("cut", [(256, 1), (16, 3)])
def test_a_large_mean_costs_no_digit(layout, cut):
    batch = draw((4, 3, 6, 8), layout, mean=1e6)
    compare(batch, pieces(batch.x, *cut), training=True)


@pytest.mark.parametrize("cut", [(256, 1), (16, 3)])
def test_the_gradient_sums_to_zero_and_is_orthogonal_to_the_output(cut):
    batch = draw((4, 3, 6, 8))
    dx, _, _ = differentiate(batch, pieces(batch.x, *cut), training=True, eps=0.0)
    x = batch.x - batch.x.mean((0, 2, 3), keepdim=True)
    for product in (dx, dx * x):
        assert product.sum((0, 2, 3)).abs().max() <= 1e-4
    assert dx.abs().sum() > 1
