"""Checks of the homework on convolution; a cell ends with, for example, ``checks.grey_kernel(f).require()``.

Every check takes the reader's function and a ``seed`` for the inputs it makes up; the graded cells try other seeds too.
"""

from __future__ import annotations

from pathlib import Path

from cvbook.checks.convolution_homework.backward import (
    col2im_overlaps,
    col2im_stride_padding,
    input_gradient,
)
from cvbook.checks.convolution_homework.kernels import (
    append_kernel,
    average_pool_result,
    average_pool_weight,
    correlate2d,
    correlate2d_integers,
    correlate_bias,
    correlate_channels,
    grey_kernel,
)
from cvbook.checks.convolution_homework.sizes import (
    central_share,
    effective_std,
    effective_std_kernels,
    output_size,
    output_size_dilated,
    receptive_field,
    receptive_field_branches,
    receptive_field_dilated,
)
from cvbook.checks.convolution_homework.training import (
    batch_norm_eval,
    batch_norm_mean,
    batch_norm_output,
    batch_norm_variance,
    change_in_points,
    look_alikes,
    wrong_augmentation,
)
from cvbook.checks.points import Homework, Part, seeds

__all__ = [
    "PARTS", "append_kernel", "average_pool_result", "average_pool_weight", "batch_norm_eval", "batch_norm_mean",
    "batch_norm_output", "batch_norm_variance", "central_share", "change_in_points", "col2im_overlaps",
    "col2im_stride_padding", "correlate2d", "correlate2d_integers", "correlate_bias", "correlate_channels",
    "effective_std", "effective_std_kernels", "grey_kernel", "homework", "input_gradient", "look_alikes",
    "output_size", "output_size_dilated", "receptive_field", "receptive_field_branches", "receptive_field_dilated",
    "seeds", "solution", "submission", "summary", "wrong_augmentation",
]  # fmt: skip

# each graded cell: the check, the name of the function it checks, its points
PARTS: tuple[Part, ...] = (
    (correlate2d, "correlate2d", 1),
    (correlate2d_integers, "correlate2d", 1),
    (correlate_channels, "correlate", 2),
    (correlate_bias, "correlate", 1),
    (output_size, "output_size", 1),
    (output_size_dilated, "output_size", 1),
    (grey_kernel, "grey_kernel", 1),
    (append_kernel, "append_kernel", 2),
    (average_pool_weight, "average_pool_settings", 1),
    (average_pool_result, "average_pool_settings", 2),
    (receptive_field, "receptive_field", 1),
    (receptive_field_dilated, "receptive_field", 1),
    (receptive_field_branches, "receptive_field", 2),
    (batch_norm_output, "batch_norm", 1),
    (batch_norm_mean, "batch_norm", 1),
    (batch_norm_variance, "batch_norm", 1),
    (batch_norm_eval, "batch_norm", 1),
    (change_in_points, "change_in_points", 1),
    (look_alikes, "look_alikes", 1),
    (wrong_augmentation, "wrong_augmentation", 1),
    (col2im_overlaps, "col2im", 1),
    (col2im_stride_padding, "col2im", 1),
    (input_gradient, "input_gradient", 1),
    (effective_std, "effective_std", 1),
    (effective_std_kernels, "effective_std", 1),
    (central_share, "central_share", 1),
)


homework = Homework("02_convolution", PARTS, Path(__file__).parent)
summary, solution, submission = homework.summary, homework.solution, homework.submission
