"""cvbook: the companion package of the textbook *Neural Networks for Computer Vision*.

Importing ``cvbook`` loads neither torch nor matplotlib; import the module a lesson names, such as
``cvbook.convolution``, to get them. ``cvbook.summary``, which every chapter uses, is loaded when it is first asked for.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from cvbook.cost import summary

__version__ = "0.1.0"
__all__ = ["dry_run", "scale", "setup", "summary"]

SCALES = ("laptop", "gpu")


def scale() -> str:
    """The size of the experiments: ``"laptop"`` (two CPU cores, the default) or ``"gpu"``.

    Read from the environment variable ``CVBOOK_SCALE``, which `setup` sets on Colab.

    Returns:
        ``"laptop"`` or ``"gpu"``.

    Raises:
        ValueError: if ``CVBOOK_SCALE`` holds anything else.

    >>> scale() in ("laptop", "gpu")
    True
    """
    name = os.environ.get("CVBOOK_SCALE", "laptop")
    if name not in SCALES:
        raise ValueError(f"expected CVBOOK_SCALE to be 'laptop' or 'gpu', got {name!r}; unset it or correct it")
    return name


def dry_run() -> bool:
    """Whether a test only tries the code: training stops after two steps, and the sample stands in for the full data.

    Read from the environment variable ``CVBOOK_DRY_RUN``: so the ``gpu`` scale can be tried on a machine without one.

    >>> dry_run()
    False
    """
    return os.environ.get("CVBOOK_DRY_RUN") == "1"


def setup() -> None:
    """Choose the scale for this machine and print one line saying what was found.

    The first cell of every lesson calls this on Colab. A scale chosen beforehand in ``CVBOOK_SCALE`` is kept.
    """
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")  # must be set before torch starts its threads
    import torch

    cuda = torch.cuda.is_available()
    os.environ.setdefault("CVBOOK_SCALE", "gpu" if cuda else "laptop")
    device = torch.cuda.get_device_name() if cuda else f"{os.cpu_count()} CPU cores"
    print(f"cvbook {__version__}, torch {torch.__version__}, {device}: running at {scale()} scale")


def __getattr__(name: str) -> Any:
    if name == "summary":
        from cvbook.cost import summary

        return summary
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
