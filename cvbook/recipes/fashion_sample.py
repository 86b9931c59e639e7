"""Make the shipped sample of Fashion-MNIST: the first 1 000 train and 200 test images of each class.

Run: ``python -m cvbook.recipes.fashion_sample`` (4 s; needs the full set). Deterministic to the byte.
"""

from __future__ import annotations

import hashlib
import io
import zipfile

import numpy as np

from cvbook.data import fashion

PER_CLASS = {"train": 1000, "test": 200}


def main() -> None:
    """Write the sample and print its digest, which belongs into `cvbook.data.fashion`."""
    with zipfile.ZipFile(fashion.SAMPLE, "w", zipfile.ZIP_DEFLATED, compresslevel=9) as archive:
        for split, count in PER_CLASS.items():
            images, labels = fashion._full(split)
            chosen = np.sort(np.concatenate([np.flatnonzero(labels == c)[:count] for c in range(10)]))
            for name, array in (("images", images[chosen]), ("labels", labels[chosen])):
                stream = io.BytesIO()
                np.save(stream, array)
                info = zipfile.ZipInfo(f"{split}_{name}.npy", date_time=(2017, 8, 25, 0, 0, 0))
                info.compress_type = zipfile.ZIP_DEFLATED
                archive.writestr(info, stream.getvalue(), compresslevel=9)
    print(fashion.SAMPLE.stat().st_size, hashlib.sha256(fashion.SAMPLE.read_bytes()).hexdigest())


if __name__ == "__main__":
    main()
