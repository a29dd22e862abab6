"""The share of images that a network tells right."""

import numpy as np
import torch
from torch import nn

from bnlib.lab.accuracy import ROWS, accuracy


def test_the_share_of_images_whose_largest_logit_is_their_label():
    x = np.random.default_rng(0).normal(size=(3 * ROWS + 1, 2, 2)).astype(np.float32)
    y = x.reshape(len(x), -1).argmax(1)
    assert accuracy(nn.Flatten(), x, y) == 1
    y[: ROWS + 1] += 1
    assert accuracy(nn.Flatten(), torch.from_numpy(x), torch.from_numpy(y)) == 2 * ROWS / len(x)
