import copy

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import fx, nn
from torch.nn.utils import parametrize

import bnlib.torch
from bnlib.torch.surgery import Fold, Refusal, convert, fold_batch_norm

PADDINGS = ["zeros", "reflect", "replicate", "circular"]
CONV = [nn.Conv1d, nn.Conv2d, nn.Conv3d]
CONV_TRANSPOSE = [nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d]
NORM = [nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d]


class Double(nn.Module):
    def forward(self, x):
        return 2 * x


class OwnBatchNorm(nn.BatchNorm1d):
    def forward(self, x):
        return super().forward(x) + 1


class RenamedBatchNorm(nn.BatchNorm1d):
    pass


class OwnLinear(nn.Linear):
    pass


class Model(nn.Module):
    """A model that runs a function of its parts and its input."""

    def __init__(self, function, **parts):
        super().__init__()
        self.function = function
        for name, part in parts.items():
            setattr(self, name, part)

    def forward(self, x):
        return self.function(self, x)


def randomize(model, seed=0, mean=2.0):
    """Give the batch norms random statistics and parameters, one gamma of 0 and one negative; evaluate."""
    generator = torch.Generator().manual_seed(seed)

    def draw(like):
        return torch.randn(like.shape, generator=generator, dtype=torch.float64)

    for m in model.modules():
        if isinstance(m, nn.modules.batchnorm._BatchNorm):
            m.running_mean.copy_(mean * draw(m.running_mean))
            m.running_var.copy_(draw(m.running_var).square() + 0.2)
            if m.weight is not None:
                m.weight.data.copy_(draw(m.weight))
                m.bias.data.copy_(draw(m.bias))
                m.weight.data[-1] = -1.5
                m.weight.data[0] = 0
    return model.eval()


def linear_net(**kwargs):
    torch.manual_seed(0)
    return randomize(nn.Sequential(nn.Linear(3, 4, **kwargs), nn.BatchNorm1d(4), nn.ReLU(), nn.Linear(4, 2)))


def assert_equal_outputs(model, folded, x, tolerance):
    with torch.no_grad():
        want, got = model(x), folded(x)
    assert got.dtype == want.dtype
    scale = max(1.0, want.abs().max().item())
    torch.testing.assert_close(got, want, rtol=0, atol=tolerance * scale)


# Folding


@st.composite
def layers(draw, channels, axes):
    """Draw a layer with its number of output channels."""
    bias = draw(st.booleans())
    if axes == 0:
        out = draw(st.integers(1, 4))
        return nn.Linear(channels, out, bias), out
    groups = draw(st.sampled_from([g for g in (1, 2, 3) if channels % g == 0]))
    out = groups * draw(st.integers(1, 3))
    kernel, dilation, stride = draw(st.integers(1, 3)), draw(st.integers(1, 2)), draw(st.integers(1, 2))
    common = {"stride": stride, "dilation": dilation, "groups": groups, "bias": bias}
    if draw(st.booleans()):
        extra = draw(st.integers(0, max(stride, dilation) - 1))
        layer = CONV_TRANSPOSE[axes - 1](channels, out, kernel, output_padding=extra, **common)
    else:
        mode = draw(st.sampled_from(PADDINGS))
        # "same" size and more, so that a deep stack has something left to convolve
        layer = CONV[axes - 1](channels, out, kernel, padding=2, padding_mode=mode, **common)
    return layer, out


@st.composite
def stacks(draw):
    axes = draw(st.integers(0, 3))
    channels = first = draw(st.integers(1, 6))
    torch.manual_seed(draw(st.integers(0, 2**31)))
    modules = []
    for _ in range(draw(st.integers(1, 2))):
        layer, channels = draw(layers(channels, axes))
        norm = NORM[max(axes, 1) - 1](channels, affine=draw(st.booleans()), eps=draw(st.floats(1e-6, 1)))
        modules += [layer, norm, draw(st.sampled_from([nn.Identity, nn.Tanh]))()]
    model = randomize(nn.Sequential(*modules), draw(st.integers(0, 2**31)))
    model = convert(model).model if draw(st.booleans()) else model
    return model, torch.randn(2, first, *[5] * axes)


@given(stacks(), st.sampled_from([(torch.float32, 1e-5), (torch.float64, 1e-10)]))
def test_outputs_are_equal_and_no_batch_norm_is_left(case, precision):
    (model, x), (dtype, tolerance) = case, precision
    model, x = model.to(dtype), x.to(dtype)
    done = fold_batch_norm(model, x)
    norms = [name for name, m in model.named_children() if isinstance(m, nn.modules.batchnorm._BatchNorm)]
    assert done.folded == tuple(Fold(name, str(int(name) - 1)) for name in norms)
    assert done.refused == ()
    assert isinstance(done.model, fx.GraphModule)
    assert not any(isinstance(m, nn.modules.batchnorm._BatchNorm) for m in done.model.modules())
    assert_equal_outputs(model, done.model, x, tolerance)


@given(stacks())
def test_the_model_is_not_changed(case):
    model, x = case
    before, keys = copy.deepcopy(model.state_dict()), [*model.named_modules()]
    folded = fold_batch_norm(model, x).model
    for p in folded.parameters():
        p.data += 1
    torch.testing.assert_close(model.state_dict(), before, rtol=0, atol=0)
    assert [*model.named_modules()] == keys


@pytest.mark.parametrize("layer", [nn.Conv2d(3, 4, 3), nn.ConvTranspose2d(3, 4, 3, padding=2)])
def test_large_means_cost_what_the_docstring_says(layer):
    model = randomize(nn.Sequential(layer, nn.BatchNorm2d(4, affine=False)))
    x = torch.randn(8, 3, 6, 6) + 1e3
    with torch.no_grad():
        h = layer(x)
    model[1].running_mean.copy_(h.mean((0, 2, 3)))
    model[1].running_var.copy_(h.var((0, 2, 3)))
    folded = fold_batch_norm(model).model
    ratio = (model[1].running_mean.abs() / model[1].running_var.sqrt()).max().item()
    assert ratio > 100
    with torch.no_grad():
        want = copy.deepcopy(model).double()(x.double())
    error = (folded(x).double() - want).abs().max().item()
    assert error <= 16 * 2**-24 * ratio
    exact = fold_batch_norm(model.double(), x.double()).model
    assert_equal_outputs(model, exact, x.double(), 1e-10)


def test_sync_batch_norm_and_a_subclass_without_code_fold():
    model = randomize(
        nn.Sequential(nn.Linear(3, 4), nn.SyncBatchNorm(4), nn.Tanh(), nn.Linear(4, 4), RenamedBatchNorm(4))
    )
    x = torch.randn(5, 3)
    done = fold_batch_norm(model, x)
    assert [f.batch_norm for f in done.folded] == ["1", "4"]
    assert_equal_outputs(model, done.model, x, 1e-5)


def test_batch_norms_in_a_row_fold_one_after_the_other():
    model = randomize(nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.BatchNorm1d(4)))
    x = torch.randn(5, 3)
    done = fold_batch_norm(model, x)
    assert done.folded == (Fold("1", "0"), Fold("2", "0"))
    assert_equal_outputs(model, done.model, x, 1e-5)


def test_the_order_of_the_calls_counts_not_that_of_the_names():
    parts = {"second": nn.BatchNorm1d(4), "first": nn.BatchNorm1d(4), "layer": nn.Linear(3, 4)}
    model = randomize(Model(lambda m, x: m.second(m.first(m.layer(x))), **parts))
    x = torch.randn(5, 3)
    done = fold_batch_norm(model, x)
    assert done.folded == (Fold("first", "layer"), Fold("second", "layer"))
    assert_equal_outputs(model, done.model, x, 1e-5)


def test_a_residual_network_of_nested_blocks():
    def block(m, x):
        return x + m.two(m.conv2(m.one(m.conv1(x)).relu()))

    def make():
        convs = {f"conv{i}": nn.Conv2d(4, 4, 3, padding=1, bias=False) for i in (1, 2)}
        return Model(block, **convs, one=nn.BatchNorm2d(4), two=bnlib.torch.BatchNorm2d(4))

    model = randomize(nn.Sequential(make(), nn.Sequential(make()), nn.Flatten(), nn.Linear(64, 3)))
    x = torch.randn(2, 4, 4, 4)
    done = fold_batch_norm(model, x)
    assert done.folded[2:] == (Fold("1.0.one", "1.0.conv1"), Fold("1.0.two", "1.0.conv2"))
    assert len(done.folded) == 4
    assert_equal_outputs(model, done.model, x, 1e-5)


def test_a_layer_that_shares_its_weight_leaves_it_to_the_other():
    model = linear_net()
    model.add_module("4", nn.Linear(2, 3))
    model.add_module("5", nn.Linear(3, 4))
    model[5].weight = model[0].weight
    model[5].bias = model[0].bias
    x = torch.randn(5, 3)
    done = fold_batch_norm(model, x)
    assert len(done.folded) == 1
    assert_equal_outputs(model, done.model, x, 1e-5)
    assert torch.equal(done.model.get_parameter("5.weight"), model[5].weight)


def test_more_arguments_and_outputs():
    class Two(nn.Module):
        def __init__(self):
            super().__init__()
            self.layer, self.norm = nn.Linear(3, 4), nn.BatchNorm1d(4)

        def forward(self, x, y, scale=1):
            x.mul_(2)
            return {"sum": [self.norm(self.layer(x)) + y], "best": y.argmax(1), "scale": scale}

    model = randomize(Two())
    args = torch.randn(5, 3), torch.randn(5, 4), 3
    before = args[0].clone()
    done = fold_batch_norm(model, args)
    assert torch.equal(args[0], before)
    assert len(done.folded) == 1
    want, got = (m(*copy.deepcopy(args)) for m in (model, done.model))
    torch.testing.assert_close(got, want)


@pytest.mark.parametrize("bias", [False, True])
def test_what_is_frozen_stays_frozen(bias):
    model = linear_net(bias=bias)
    model[0].weight.requires_grad = False
    layer = fold_batch_norm(model).model.get_submodule("0")
    assert not layer.weight.requires_grad
    assert layer.bias.requires_grad == bias
    assert isinstance(layer.weight, nn.Parameter)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_beside_float32_statistics(dtype):
    model = linear_net().to(dtype)
    model[1].float()
    x = torch.randn(5, 3).to(dtype)
    done = fold_batch_norm(model, x)
    layer = done.model.get_submodule("0")
    assert layer.weight.dtype == layer.bias.dtype == dtype
    assert len(done.folded) == 1


@pytest.mark.parametrize("layer", [nn.Conv2d(4, 6, 3), nn.ConvTranspose2d(4, 6, 3, groups=2)])
def test_the_layout_in_memory_stays(layer):
    model = randomize(nn.Sequential(layer, nn.BatchNorm2d(6))).to(memory_format=torch.channels_last)
    before = model[0].weight.stride()
    assert fold_batch_norm(model).model.get_parameter("0.weight").stride() == before


def test_modes_stay_and_what_trains_is_not_moved_by_the_example():
    inner = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4))
    model = nn.Sequential(inner, nn.Dropout(), nn.Linear(4, 4), nn.BatchNorm1d(4))
    randomize(model)
    model[1].train(), model[3].train()
    done = fold_batch_norm(model, torch.randn(5, 3))
    assert [f.batch_norm for f in done.folded] == ["0.1"]
    modes = {name: m.training for name, m in done.model.named_modules()}
    assert modes == {"": False, "0": False, "0.0": False, "1": True, "2": False, "3": True}
    assert torch.equal(done.model.get_buffer("3.running_mean"), model[3].running_mean)
    assert done.model.get_buffer("3.num_batches_tracked") == 0


def test_random_numbers_are_not_used_up():
    model = linear_net()
    state = torch.get_rng_state()
    fold_batch_norm(model.append(nn.Dropout().train()), torch.randn(5, 3, generator=torch.Generator()))
    assert torch.equal(torch.get_rng_state(), state)


def test_folding_twice_does_nothing_more():
    first = fold_batch_norm(linear_net()).model
    second = fold_batch_norm(first)
    assert second.folded == second.refused == ()
    assert_equal_outputs(first, second.model, torch.randn(5, 3), 0)


def test_the_report_is_readable():
    model = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4).eval(), nn.BatchNorm1d(4))
    assert str(fold_batch_norm(model)) == "1 folded\n  1 into 0\n1 refused\n  2: it is in training mode"
    assert repr(fold_batch_norm(nn.Sequential(nn.ReLU()))) == "0 folded"


# Refusals


def refusals(model, x=None):
    """Return the reasons; what is refused stays and computes the same."""
    done = fold_batch_norm(model, x)
    assert done.folded == ()
    return [r.reason for r in done.refused]


def hooked(m, kind):
    getattr(m, f"register_{kind}")(lambda *_: None)
    return m


def parametrized(m):
    parametrize.register_parametrization(m, "weight", Double())
    return m


def replaced(m):
    m.forward = lambda x: x
    return m


def stack(layer, norm):
    return nn.Sequential(layer, norm).eval()


L, B = (lambda: nn.Linear(3, 4)), (lambda: nn.BatchNorm1d(4))
HOOKS = ["forward_hook", "forward_pre_hook", "full_backward_hook", "full_backward_pre_hook"]
NO_LAYER = "and not Linear, Conv or ConvTranspose"
AXIS = "axis 1 is not that of the channels for both"
COMPUTED = "computed by torch.nn.utils.parametrize"


@pytest.mark.parametrize(
    ("model", "reason"),
    [
        (nn.Sequential(L(), B()), "it is in training mode"),
        (stack(L(), nn.BatchNorm1d(4, track_running_stats=False)), "it has no running statistics"),
        (stack(L(), nn.LazyBatchNorm1d()), "it is lazy and has not seen an input"),
        (stack(nn.LazyLinear(4), B()), "0 before it is lazy and has not seen an input"),
        (stack(L(), OwnBatchNorm(4)), "its type OwnBatchNorm has a forward of its own"),
        (stack(L(), replaced(B())), "the forward of it has been replaced"),
        (stack(replaced(L()), B()), "the forward of 0 has been replaced"),
        (stack(L(), parametrized(B())), f"its parameters are {COMPUTED}"),
        (stack(parametrized(L()), B()), f"the parameters of 0 are {COMPUTED}"),
        *[(stack(L(), hooked(B(), kind)), "it has hooks") for kind in HOOKS],
        *[(stack(hooked(L(), kind), B()), "0 has hooks") for kind in HOOKS],
        (stack(nn.ReLU(), B()), f"it follows 0, of type ReLU {NO_LAYER}"),
        (
            stack(nn.MaxPool1d(2), B()),
            f"it follows 0, of type MaxPool1d {NO_LAYER}",
        ),
        (nn.Sequential(B()).eval(), "it follows the argument input, not a layer"),
        (stack(OwnLinear(3, 4), B()), "it follows the function linear, not a layer"),
        (
            stack(nn.Conv2d(3, 4, 1), B()),
            f"{AXIS} Conv2d and BatchNorm1d",
        ),
        (stack(L(), nn.BatchNorm2d(4)), f"{AXIS} Linear and BatchNorm2d"),
        (stack(L(), nn.BatchNorm3d(4)), f"{AXIS} Linear and BatchNorm3d"),
        (stack(L(), nn.BatchNorm1d(5)), "it has 5 features, and 0 has 4 channels"),
        (stack(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(2)), "it has 2 features, and 0 has 4 channels"),
    ],
)
def test_a_pair_that_cannot_be_folded(model, reason):
    assert refusals(model) == [reason]


def using(function, **parts):
    return Model(function, **{"a": nn.Linear(3, 4), "b": nn.BatchNorm1d(4), **parts}).eval()


@pytest.mark.parametrize(
    ("model", "reason"),
    [
        (
            using(lambda m, x: m.b(h := m.a(x)) + h),
            "the output of a is used elsewhere too",
        ),
        (using(lambda m, x: m.b(m.a(x)) + m.a(2 * x)), "a is called from 2 places"),
        (using(lambda m, x: m.b(m.a(x)) + m.b(x[:, [0, 1, 2, 0]])), "it is called from 2 places"),
        (using(lambda m, x: m.a(x)), "it is called nowhere in the traced graph"),
        (using(lambda m, x: m.b(m.a(x)) @ m.a.weight), "the model reads a.weight"),
        (
            using(lambda m, x: m.b(m.a(x)) + m.b.running_var),
            "the model reads b.running_var",
        ),
        (
            using(lambda m, x: m.b(m.a(x).add_(1))),
            "it follows the method add_, not a layer",
        ),
        (using(lambda m, x: m.b(m.w), w=nn.Parameter(torch.ones(5, 4))), "the attribute w"),
        (
            using(lambda m, x: m.b(torch.relu(m.a(x)))),
            "it follows the function relu, not a layer",
        ),
    ],
)
def test_a_use_that_forbids_folding(model, reason):
    x = torch.randn(5, 3)
    done = fold_batch_norm(model, x)
    assert done.folded == ()
    assert [r.batch_norm for r in done.refused] == ["b"]
    assert reason in done.refused[0].reason
    assert_equal_outputs(model, done.model, x, 0)


@pytest.mark.parametrize(
    ("layer", "norm", "shape", "got"),
    [
        (nn.Linear(3, 4), nn.BatchNorm1d(4), (2, 4, 3), "(2, 4, 4)"),
        (nn.Conv1d(3, 4, 1), nn.BatchNorm1d(4), (3, 4), "(4, 4)"),
        (nn.Conv2d(3, 4, 1), nn.SyncBatchNorm(4), (3, 4, 5), "(4, 4, 5)"),
    ],
)
def test_the_example_tells_the_axes(layer, norm, shape, got):
    model = randomize(nn.Sequential(layer, norm))
    kinds = f"{type(layer).__name__} and {type(norm).__name__}"
    want = f"axis 1 of an output of shape {got} is not that of the channels for both {kinds}"
    assert refusals(model, torch.randn(shape)) == [want]
    # Without it, the usual number of axes is taken for granted.
    assert fold_batch_norm(model).refused == ()


def test_what_float16_cannot_hold():
    model = linear_net().half()
    model[1].running_mean.fill_(6e4)
    model[1].running_var.fill_(1e-2)
    assert refusals(model) == ["the folded weight or bias is not finite in torch.float16"]


def test_a_refusal_keeps_nothing_else_from_folding():
    model = linear_net()
    model.append(nn.BatchNorm1d(2))
    done = fold_batch_norm(model)
    assert done.folded == (Fold("1", "0"),)
    assert done.refused == (Refusal("4", "it is in training mode"),)


# Errors


def branching(m, x):
    return m.a(x) if x.sum() > 0 else x


def counting(m, x):
    raise KeyError("missing part")


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: fold_batch_norm(3), TypeError, "expected model to be a torch.nn.Module, got int"),
        (lambda: fold_batch_norm(linear_net(), [1]), TypeError, "a tensor or a tuple of arguments, got list"),
        (
            lambda: fold_batch_norm(Model(branching, a=L())),
            ValueError,
            "that torch.fx can trace, got Model: TraceError: symbolically traced variables",
        ),
        (lambda: fold_batch_norm(Model(counting)), ValueError, "got Model: KeyError: 'missing part'"),
        (lambda: fold_batch_norm(nn.BatchNorm1d(4)), ValueError, "got BatchNorm1d alone"),
        (
            lambda: fold_batch_norm(hooked(linear_net(), "forward_hook")),
            ValueError,
            "expected a model without hooks of its own, which a graph leaves out, got Sequential",
        ),
        (
            lambda: fold_batch_norm(linear_net(), torch.randn(5, 3), tolerance=0.0),
            RuntimeError,
            "expected outputs that agree to 0 of 1",
        ),
    ],
)
def test_errors(call, error, message):
    with pytest.raises(error, match=message):
        call()


def test_the_cause_of_a_failed_trace_is_kept():
    with pytest.raises(ValueError, match="fx can trace") as caught:
        fold_batch_norm(Model(counting))
    assert isinstance(caught.value.__cause__, KeyError)


def test_a_difference_is_found(monkeypatch):
    monkeypatch.setattr("bnlib.torch.surgery.fold.scale_channels", lambda layer, weight, scale: weight)
    with pytest.raises(RuntimeError, match="expected outputs that agree to 1e-05"):
        fold_batch_norm(linear_net(), torch.randn(5, 3))
    assert len(fold_batch_norm(linear_net(), torch.randn(5, 3), tolerance=100.0).folded) == 1
