"""Hessian products: against dense second derivatives, over chunks, through every kind of layer and ambient mode."""

import copy

import numpy as np
import pytest
import torch
from scipy.sparse.linalg import eigsh

from sgdscope import vectors
from sgdscope.evaluation import _PlainWeightNorm as plain_norm
from sgdscope.hessian import Hessian
from tests.cases import CASES, by_case, dense, diagonal, flat

BY_NAME = {case.name: case for case in CASES}


@pytest.mark.parametrize(**by_case())
@pytest.mark.parametrize("mode", ["train", "eval"])
@pytest.mark.parametrize("method", ["auto", "graph"])
def test_products_against_a_dense_hessian(case, mode, method):
    risk = case.risk(mode=mode)
    with torch.random.fork_rng([]):
        gradient, matrix = dense(risk, case.data())
    v, w = (vectors.random_like(risk.parameters, torch.Generator().manual_seed(s)) for s in (0, 1))
    with Hessian(risk, method=method) as hessian:
        assert (hessian.refusal == "") == (case.chain and method == "auto"), hessian.refusal
        found, image, (first, second) = hessian.gradient, hessian.product(v), hessian.products([v, w])
        curvature = hessian.curvature(v)
        assert hessian.cost == 5
    assert hessian.value == pytest.approx(risk.value(), rel=1e-12)
    scale = float(matrix.norm() * flat(v).norm())
    torch.testing.assert_close(flat(found), gradient, rtol=1e-10, atol=1e-12)
    for ours, x in ((image, v), (first, v), (second, w)):
        assert float((flat(ours) - matrix @ flat(x)).norm()) < 1e-10 * scale
    assert curvature == pytest.approx(float(flat(v) @ matrix @ flat(v)), abs=1e-10 * scale)
    torch.testing.assert_close(flat(risk.gradient()[1]), gradient, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize(**by_case(only=lambda case: case.name != "MultiheadAttention"))
@pytest.mark.parametrize("method", ["auto", "graph"])
def test_gauss_newton_products_against_dense_jacobians(case, method):
    risk = case.risk(mode="eval")
    data = case.data()
    inputs = data[0] if isinstance(data, tuple) else data["x"]
    weights = dict(zip(risk.names, (p.detach() for p in risk.parameters), strict=True))
    risk.model.eval()  # as torch.func will see it; the risk sets its own mode anyway

    def output(w):
        return torch.func.functional_call(risk.model, w, (inputs,))

    with torch.random.fork_rng([]), torch.nn.attention.sdpa_kernel(torch.nn.attention.SDPBackend.MATH), plain_norm():
        columns = torch.func.jacrev(output)(weights)
        f = output(weights).detach()
    jacobian = torch.cat([columns[n].reshape(f.numel(), -1) for n in risk.names], 1)
    batch = case.data()
    of_loss = torch.func.hessian(lambda f: case.loss(lambda _: f, copy.copy(batch)))(f).reshape(f.numel(), f.numel())
    matrix = jacobian.T @ of_loss @ jacobian
    v = vectors.random_like(risk.parameters, torch.Generator().manual_seed(0))
    with Hessian(risk, method=method, kind="gauss_newton") as hessian:
        found, gradient = hessian.product(v), hessian.gradient
    assert float((flat(found) - matrix @ flat(v)).norm()) < 1e-10 * float(matrix.norm() * flat(v).norm())
    torch.testing.assert_close(flat(gradient), flat(risk.gradient()[1]), rtol=1e-10, atol=1e-12)
    with Hessian(risk, method=method, kind="residual") as rest, Hessian(risk, method="graph") as hessian:
        whole = flat(found) + flat(rest.product(v))
        torch.testing.assert_close(whole, flat(hessian.product(v)), rtol=1e-9, atol=1e-11)


def test_a_loss_without_gauss_newton_matrix():
    risk = diagonal([1.0, 2.0])
    with pytest.raises(
        ValueError, match="expected a loss of the output of one call of the model, for its Gauss-Newton"
    ):
        Hessian(risk, kind="gauss_newton").__enter__()
    with pytest.raises(ValueError, match="expected kind 'hessian', 'gauss_newton' or 'residual', got 'fisher'"):
        Hessian(risk, kind="fisher")


@pytest.mark.parametrize(**by_case(only=lambda case: case.additive))
def test_chunked_is_unchunked(case):
    whole, chunked = case.risk(), case.risk(chunk_size=5)
    v = vectors.random_like(whole.parameters, torch.Generator().manual_seed(0))
    with Hessian(whole) as one, Hessian(chunked) as many:
        torch.testing.assert_close(flat(many.product(v)), flat(one.product(v)), rtol=1e-10, atol=1e-12)
        torch.testing.assert_close(flat(many.gradient), flat(one.gradient), rtol=1e-10, atol=1e-12)
        assert many.value == pytest.approx(one.value, rel=1e-12)
        assert many.cost == 3  # the gradient, and one pass that builds the graph and multiplies


@pytest.mark.parametrize("name", ["dropout", "BatchNorm"])
def test_over_chunks_it_is_the_derivative_of_the_same_gradient(name):
    # dropout masks of the Hessian's chunks must be those of the gradient's
    risk = BY_NAME[name].risk(chunk_size=5)
    v = vectors.random_like(risk.parameters, torch.Generator().manual_seed(0))
    ahead, behind = (risk.gradient(at=risk.displaced(v, e))[1] for e in (1e-7, -1e-7))
    with Hessian(risk) as hessian:
        image = flat(hessian.product(v))
    difference = (flat(ahead) - flat(behind)) / 2e-7
    assert float((image - difference).norm()) < 1e-6 * float(image.norm())


@pytest.mark.parametrize(
    "ambient", [torch.no_grad, torch.inference_mode, lambda: torch.autocast("cpu", dtype=torch.bfloat16)]
)
@pytest.mark.parametrize("chunk_size", [None, 5])
def test_ambient_modes_do_not_matter(ambient, chunk_size):
    risk = BY_NAME["mlp tanh"].risk(chunk_size=chunk_size)
    v = vectors.random_like(risk.parameters, torch.Generator().manual_seed(0))
    with Hessian(risk) as hessian:
        plain = hessian.product(v)
    with ambient(), Hessian(risk) as hessian:
        again = hessian.product(v)
    assert torch.equal(flat(plain), flat(again))


def test_a_loss_linear_in_the_parameters_has_none():
    risk = diagonal([0.0, 0.0])
    with Hessian(risk) as hessian:
        assert hessian.curvature([torch.ones(2, dtype=torch.float64)]) == 0
    linear = type(risk).of_function(lambda p: 3 * p[0].sum() + p[1].square().sum(), [torch.ones(2), torch.ones(1)])
    with Hessian(linear) as hessian:
        assert [x.tolist() for x in hessian.product([torch.ones(2), torch.ones(1)])] == [[0, 0], [2]]


def test_as_a_linear_operator():
    case = BY_NAME["frozen"]
    risk = case.risk()
    _, matrix = dense(risk, case.data())
    with Hessian(risk) as hessian:
        operator = hessian.linear_operator()
        assert operator.shape == (risk.parameter_count,) * 2
        top = eigsh(operator, k=2, return_eigenvectors=False, v0=np.ones(risk.parameter_count))
    assert sorted(top) == pytest.approx(sorted(torch.linalg.eigvalsh(matrix).tolist(), key=abs)[-2:], rel=1e-8) or (
        np.abs(top).max() == pytest.approx(float(torch.linalg.eigvalsh(matrix).abs().max()), rel=1e-8)
    )


def test_outside_its_block():
    risk = diagonal([1.0, 2.0])
    v = [torch.ones(2, dtype=torch.float64)]
    for hessian in (Hessian(risk), Hessian(risk, torch.zeros(1, 1))):
        with pytest.raises(RuntimeError, match=r"expected an open Hessian, got one outside its with block\nhint: with"):
            hessian.product(v)
    with Hessian(risk) as hessian:
        pass
    with pytest.raises(RuntimeError, match="open Hessian"):
        hessian.product(v)
    assert hessian.gradient[0].tolist() == pytest.approx((risk.parameters[0] * torch.tensor([1.0, 2.0])).tolist())


class LiveBytes(torch.utils._python_dispatch.TorchDispatchMode):
    """Bytes of the storages alive that were made inside, and their peak."""

    def __init__(self):
        super().__init__()
        self.alive = {}
        self.now = self.peak = 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        out = function(*args, **(kwargs or {}))
        for tensor in torch.utils._pytree.tree_leaves(out):
            if isinstance(tensor, torch.Tensor):
                self.note(tensor.untyped_storage())
        return out

    def note(self, storage):
        import weakref

        key = storage._cdata
        if key in self.alive:
            return
        self.alive[key] = size = storage.nbytes()
        self.now += size
        self.peak = max(self.peak, self.now)

        def gone():
            self.now -= self.alive.pop(key, 0)

        weakref.finalize(storage, gone)


def test_memory_of_a_product_over_chunks():
    chunk, chunks = 64, 4
    from torch import nn

    from sgdscope.risk import Risk
    from tests.cases import squared

    g = torch.Generator().manual_seed(0)
    data = torch.randn(chunk * chunks, 16, generator=g), torch.randn(chunk * chunks, 3, generator=g)
    layers = [nn.Linear(16, 64), nn.Tanh()]
    for _ in range(3):
        layers += [nn.Linear(64, 64), nn.Tanh()]
    risk = Risk(nn.Sequential(*layers, nn.Linear(64, 3)), squared, data, chunk_size=chunk)
    v = vectors.random_like(risk.parameters, g)

    def step():
        model = risk.model
        squared(model, tuple(t[:chunk] for t in data)).backward()
        with torch.no_grad():
            for p in model.parameters():
                p -= 0.1 * p.grad

    def product(risk):
        with Hessian(risk) as hessian:
            hessian.product(v)

    def peak(function, *args):
        with LiveBytes() as bytes_:
            function(*args)
        return bytes_.peak

    training = peak(step)
    assert training > 64 * 64 * 4 * 6
    assert peak(product, risk) <= 3 * training
