"""Closed-form inverses against the library's, and what is no inverse named."""

from __future__ import annotations

import torch
from hypothesis import given, settings, strategies as st

from flowpose_ros.geometry.spd import inverse_spd6


def random_spd(seed: int, spread: float = 2.0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    J = torch.randn(20, 40, 6, generator=generator) * torch.logspace(0, -spread, 6)
    return J.transpose(1, 2) @ J


@settings(deadline=None)
@given(st.integers(0, 10_000), st.floats(0, 3))
def test_the_inverse_is_the_librarys(seed, spread):
    H = random_spd(seed, spread)
    inverse, positive = inverse_spd6(H)
    expected = torch.linalg.inv(H.double())
    assert positive.all() and inverse.dtype == H.dtype
    error = (inverse - expected).abs().amax((1, 2)) / expected.abs().amax((1, 2))
    assert error.max() < 1e-6


@settings(deadline=None)
@given(st.integers(0, 10_000), st.integers(0, 5))
def test_a_negative_eigenvalue_is_noticed_wherever_it_is(seed, which):
    values, vectors = torch.linalg.eigh(random_spd(seed).double())
    values[:, which] *= -1
    H = vectors @ torch.diag_embed(values) @ vectors.transpose(1, 2)
    inverse, positive = inverse_spd6(H)
    assert not positive.any() and torch.isfinite(inverse).all()


def test_nothing_known_is_not_positive():
    assert not inverse_spd6(torch.zeros(2, 6, 6))[1].any()


def test_gradients_are_those_of_the_library():
    H = random_spd(3).double().requires_grad_()
    found, = torch.autograd.grad(inverse_spd6(H)[0].square().sum().log(), H)
    expected, = torch.autograd.grad(torch.linalg.inv(H).square().sum().log(), H)
    # The inverse reads each off-diagonal block once; a symmetric change moves both alike.
    torch.testing.assert_close(found + found.transpose(1, 2), expected + expected.transpose(1, 2), rtol=1e-4, atol=0)
