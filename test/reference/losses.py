"""The losses whose fast form hides what they say, one cell at a time."""

import numpy as np
from scipy.special import expit, logsumexp
from scipy.stats import laplace


def laplace_mixture_nll(error, mixture, log_scale):
    """-log of a mixture's density; `mixture` is the logit of the wide component's weight."""
    wide = expit(mixture)
    density = (1 - wide) * laplace.pdf(error) + wide * laplace.pdf(error, scale=np.exp(log_scale))
    return -np.log(density)


def matching_loss(source, target, flow, visible):
    """Mean cross-entropy over visible cells; source, target [B,C,n,n], flow [B,2,S,S], visible [B,S,S]."""
    n = source.shape[-1]
    stride = visible.shape[-1] // n
    terms = []
    for b in range(len(source)):
        for y in range(n):
            for x in range(n):
                pixel = (b, stride * y + stride // 2, stride * x + stride // 2)
                if visible[pixel]:
                    u, v = x + flow[:, 0][pixel] / stride, y + flow[:, 1][pixel] / stride
                    terms.append(cross_entropy(source[b, :, y, x], target[b], u, v))
    return np.mean(terms) if terms else 0.0


def cross_entropy(feature, target, u, v):
    """Of the cells of target [C,n,n], given that the match of `feature` [C] lies at cell coordinates (u, v)."""
    channels, n = target.shape[:2]
    logits = np.array([[feature @ target[:, y, x] for x in range(n)] for y in range(n)]) / np.sqrt(channels)
    wanted = np.array([[max(0, 1 - abs(x - u)) * max(0, 1 - abs(y - v)) for x in range(n)] for y in range(n)])
    return -(wanted / wanted.sum() * (logits - logsumexp(logits))).sum()
