"""Convolution: the definition by loops, faster ways to the same result, and what one output value sees."""

from cvbook.convolution.direct import conv2d, output_size
from cvbook.convolution.fast import conv2d_fft, conv2d_im2col, conv2d_winograd
from cvbook.convolution.receptive import ReceptiveField, effective_receptive_field, receptive_field

__all__ = [
    "ReceptiveField",
    "conv2d",
    "conv2d_fft",
    "conv2d_im2col",
    "conv2d_winograd",
    "effective_receptive_field",
    "output_size",
    "receptive_field",
]
