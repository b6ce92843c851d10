"""The network of `lite-fast` with normalisation folded into the convolutions, for cheaper gradients."""

from __future__ import annotations

from typing import Any

from torch import Tensor
from torch.nn import functional


def folded_features(network: Any, pixel_values: Tensor) -> Tensor:
    """Do what ``network.extract_features`` does in evaluation mode, with fewer steps to remember for the way back.

    With fixed statistics, normalisation is linear in a convolution's output, so ``γ/σ`` goes into the weights and
    ``β - μγ/σ`` becomes a bias; the gradients of weights, γ and β are the same. And padding that is equal on both sides
    needs no copy.

    Shapes: `pixel_values` (B, 3, 224, 224) → (B, 1280, 7, 7).
    """
    x = _convolve(network._conv_stem, network._bn0, pixel_values, clip=True)
    for block in network._blocks:
        x = _block(block, x)
    return _convolve(network._conv_head, network._bn1, x, clip=True)


def _block(block: Any, inputs: Tensor) -> Tensor:
    """Expand, convolve each channel by itself, project; the input is added where shapes allow."""
    settings = block._block_args
    x = inputs
    if settings.expand_ratio != 1:
        x = _convolve(block._expand_conv, block._bn0, x, clip=True)
    x = _convolve(block._depthwise_conv, block._bn1, x, clip=True)
    x = _convolve(block._project_conv, block._bn2, x, clip=False)
    skips = block.id_skip and settings.stride == 1 and settings.input_filters == settings.output_filters
    return x + inputs if skips else x


def _convolve(convolution: Any, norm: Any, x: Tensor, *, clip: bool) -> Tensor:
    scale = norm.weight * (norm.running_var + norm.eps).rsqrt()
    bias = norm.bias - norm.running_mean * scale
    left, right, top, bottom = getattr(convolution.static_padding, "padding", (0, 0, 0, 0))
    if left != right or top != bottom:
        x = functional.pad(x, (left, right, top, bottom))
        left = top = 0
    weight = convolution.weight * scale[:, None, None, None]
    result = functional.conv2d(x, weight, bias, tuple(convolution.stride), (top, left), 1, convolution.groups)
    # In place: on the way back, a convolution does not need its output.
    return functional.hardtanh_(result, 0.0, 6.0) if clip else result
