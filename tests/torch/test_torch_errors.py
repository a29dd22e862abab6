"""Bad input raises what PyTorch raises, with a message that says what was expected and what came."""

import pytest
import torch
import torch.nn.functional as F  # noqa: N812

import bnlib.torch

X, ONES, FOUR = torch.randn(4, 3, 5), torch.ones(3), torch.ones(4)
STATS = (ONES, ONES)

# name of the function, arguments, keywords, message
REFUSED = [
    ("batch_norm", (ONES, None, None), {"training": True}, r"at least 2 axes, \(N, C, ...\), got 1"),
    (
        "batch_norm",
        (X.long(), None, None),
        {"training": True},
        "to be float16, .*, got a tensor of torch.int64",
    ),
    ("batch_norm", (X > 0, None, None), {"training": True}, "got a tensor of torch.bool"),
    (
        "batch_norm",
        (X[:1, :, 0], None, None),
        {"training": True},
        r"more than 1 value per channel, got .* \(1, 3\)",
    ),
    ("batch_norm", (X, *STATS, FOUR), {}, r"expected weight of shape \(C,\) = \(3,\), got \(4,\)"),
    ("batch_norm", (X, *STATS, ONES, FOUR), {}, r"expected bias of shape \(C,\) = \(3,\), got \(4,\)"),
    ("batch_norm", (X, FOUR, ONES), {}, r"expected running_mean of shape \(C,\) = \(3,\), got \(4,\)"),
    ("batch_norm", (X, ONES, FOUR), {"training": True}, r"expected running_var of shape"),
    ("batch_norm", (X, ONES, None), {"training": True}, "or neither, got running_mean alone"),
    ("batch_norm", (X, None, ONES), {"training": True}, "or neither, got running_var alone"),
    ("batch_norm", (X, None, None), {}, "expected running_mean in evaluation, got None"),
    ("batch_norm", (X, ONES, None), {}, "expected running_var in evaluation, got None"),
    (
        "batch_norm",
        (X, *STATS, ONES.double()),
        {},
        "dtype torch.float32 for input of torch.float32, got torch.float64",
    ),
    ("batch_norm", (X, *STATS, ONES.half()), {}, "got torch.float16"),
    ("batch_norm", (X.double(), *STATS), {}, "expected running_mean of dtype torch.float64"),
    ("batch_norm", (X, *STATS, ONES.to("meta")), {}, "on the device of input, cpu, got meta"),
    ("batch_norm", (X, *STATS, [1, 1, 1]), {}, "expected weight to be a tensor, got list"),
    ("batch_norm", (X, *STATS), {"eps": "a"}, "expected eps to be a number, got str"),
    (
        "batch_norm",
        (X, *STATS),
        {"training": True, "momentum": "a"},
        "expected momentum to be a number, got str",
    ),
    ("batch_norm", (X, *STATS), {"training": True, "momentum": None}, "to be a number, got NoneType"),
    ("instance_norm", (X[:, :, 0],), {}, r"at least 3 axes, \(N, C, L, ...\), got 2"),
    ("instance_norm", (X[:, :, :1],), {}, r"more than 1 value per sample and channel, got .* \(4, 3, 1\)"),
    ("instance_norm", (X, ONES), {}, "or neither, got running_mean alone"),
    ("instance_norm", (X,), {"use_input_stats": False}, "expected running_mean in evaluation, got None"),
    ("instance_norm", (X,), {"weight": FOUR}, "expected weight of shape"),
    ("instance_norm", (X.long(),), {}, "got a tensor of torch.int64"),
    ("group_norm", (X, 2), {}, "expected num_groups to divide the 3 channels, got 2"),
    ("group_norm", (ONES, 1), {}, "at least 2 axes"),
    ("group_norm", (X, 3, FOUR), {}, "expected weight of shape"),
    ("group_norm", (ONES[None], 3), {}, "more than 1 value per group"),
    ("group_norm", (X.long(), 3), {}, "got a tensor of torch.int64"),
    ("layer_norm", (X, (4,)), {}, r"expected input of shape \(..., 4\), got \(4, 3, 5\)"),
    ("layer_norm", (X, (4, 4, 3, 5)), {}, r"expected input of shape \(..., 4, 4, 3, 5\)"),
    ("layer_norm", (X, ()), {}, r"expected normalized_shape of at least one axis, got \(\)"),
    ("layer_norm", (X, 5), {}, "expected normalized_shape to be a sequence of integers, got int"),
    (
        "layer_norm",
        (X, (5,), FOUR),
        {},
        r"expected weight of the shape normalized_shape = \(5,\), got \(4,\)",
    ),
    ("layer_norm", (X, (5,), None, FOUR), {}, "expected bias of the shape"),
    ("layer_norm", (X.long(), (5,)), {}, "got a tensor of torch.int64"),
    ("rms_norm", (X, (4,)), {}, "expected input of shape"),
    ("rms_norm", (X, ()), {}, "at least one axis"),
    ("rms_norm", (X, (5,), FOUR), {}, "expected weight of the shape"),
    ("rms_norm", (X.long(), (5,)), {}, "got a tensor of torch.int64"),
]


@pytest.mark.parametrize(("name", "arguments", "keywords", "message"), REFUSED)
def test_bad_input_raises_what_pytorch_raises(name, arguments, keywords, message):
    with pytest.raises(Exception) as theirs:  # noqa: PT011  # whatever it is, ours must be the same
        getattr(F, name)(*arguments, **keywords)
    with pytest.raises(type(theirs.value), match=message) as ours:
        getattr(bnlib.torch, name)(*arguments, **keywords)
    assert type(ours.value) is type(theirs.value)


@pytest.mark.parametrize("name", ["batch_norm", "instance_norm"])
def test_a_refused_call_leaves_the_running_statistics_alone(name):
    mean, var = torch.zeros(3), torch.ones(3)
    with pytest.raises(RuntimeError):
        bnlib.torch.batch_norm(X, mean, var, FOUR, training=True)
    with pytest.raises(RuntimeError):
        bnlib.torch.instance_norm(X, mean, var, FOUR)
    assert torch.equal(mean, torch.zeros(3))
    assert torch.equal(var, torch.ones(3))


# Where PyTorch's own error is no model


@pytest.mark.parametrize("x", [[1.0], None, 3])
def test_an_input_that_is_no_tensor_is_a_type_error(x):
    for call in (
        lambda: bnlib.torch.batch_norm(x, None, None, training=True),
        lambda: bnlib.torch.instance_norm(x),
        lambda: bnlib.torch.group_norm(x, 1),
        lambda: bnlib.torch.layer_norm(x, (1,)),
        lambda: bnlib.torch.rms_norm(x, (1,)),
    ):
        with pytest.raises(TypeError, match=f"expected input to be a tensor, got {type(x).__name__}"):
            call()


def test_no_group_is_refused_and_not_divided_by():
    with pytest.raises(RuntimeError, match="expected num_groups to divide the 3 channels, got 0"):
        bnlib.torch.group_norm(X, 0)


@pytest.mark.parametrize("eps", [float("nan"), float("inf"), -1.0])
def test_an_eps_that_is_negative_or_not_finite_is_refused(eps):
    message = f"expected eps to be finite and at least 0, got {eps}"
    for call in (
        lambda: bnlib.torch.layer_norm(X, (5,), eps=eps),
        lambda: bnlib.torch.batch_norm(X, *STATS, eps=eps),
        lambda: bnlib.torch.batch_norm(X, None, None, training=True, eps=eps),
    ):
        with pytest.raises(ValueError, match=message):
            call()
