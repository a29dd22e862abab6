"""How gradients grow through the layers of a wide network with batch normalization at initialization.

The layer is ``h' = phi(BN(W h))`` with independent Gaussian weights. The growth is the factor from the
squared norm of the gradient for h' to that for h, in the limit of many units, once any two samples are
equally alike. It does not depend on the scale of the weights.
"""

from __future__ import annotations

import numpy as np

from bnlib.reference.validate import check_integer

__all__ = ["linear_growth", "relu_growth"]


def linear_growth(batch_size: int) -> float:
    """Return the growth of the squared gradient through one linear layer with batch normalization.

    ``(B - 2) / (B - 3)``

    Args:
        batch_size: B, at least 4; at 3 the expectation is infinite.

    Returns:
        The factor, which is above 1.

    Raises:
        TypeError: B is not an integer.
        ValueError: B is below 4.

    Source: derived in chapter 11; the theory of such networks is that of Yang et al. (2019), "A mean field
        theory of batch normalization", arXiv:1902.08129.
    """
    check_integer("batch_size", batch_size, 4)
    m = int(batch_size)
    return (m - 2) / (m - 3)


def relu_growth(batch_size: int) -> float:
    """Return the growth of the squared gradient through one ReLU layer with batch normalization.

    ``B T / (a (B - 1)(B - 3))``, with ``rho = -1 / (B - 1)`` the correlation of two normalized samples,
    ``J = (sqrt(1 - rho**2) + rho (pi - arccos rho)) / (2 pi)`` and ``a = 1/2 - J`` the variance after ReLU,
    ``p = 1/4 + arcsin(rho) / (2 pi)`` the share of units at which two samples are both above 0, and
    ``T = (B - 1)**2 / (2 B) + (B - 1) (p + J) / B - 1/2 + 1 / (2 B)`` what ReLU and the projection let pass.
    For large B it tends to ``pi / (pi - 1)``.

    Args:
        batch_size: B, at least 4; at 3 the expectation is infinite.

    Returns:
        The factor, which is above 1.

    Raises:
        TypeError: B is not an integer.
        ValueError: B is below 4.

    Source: as for ``linear_growth``; J is the kernel of Cho & Saul (2009), "Kernel methods for
        deep learning".
    """
    check_integer("batch_size", batch_size, 4)
    m = int(batch_size)
    rho = -1 / (m - 1)
    both = 1 / 4 + np.arcsin(rho) / (2 * np.pi)
    product = (np.sqrt(1 - rho**2) + rho * (np.pi - np.arccos(rho))) / (2 * np.pi)
    passed = (m - 1) ** 2 / (2 * m) + (m - 1) * (both + product) / m - 1 / 2 + 1 / (2 * m)
    return float(m * passed / ((1 / 2 - product) * (m - 1) * (m - 3)))
