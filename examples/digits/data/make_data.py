#!/usr/bin/env python3
"""Writes the handwritten digits of scikit-learn as four gzipped IDX files, the format of MNIST.

The digits are the test half of "Optical Recognition of Handwritten Digits" (E. Alpaydin and
C. Kaynak, UCI Machine Learning Repository, CC BY 4.0): 1,797 images of 8 x 8 pixels with values
0..16, here scaled to 0..255. Run it with scikit-learn installed:

    python3 make_data.py [FOLDER]

IDX (as on Yann LeCun's MNIST page): two zero bytes, a type byte (8 = unsigned byte), the number of
dimensions, the size of each dimension as a big-endian 32-bit number, then the data.
"""

import gzip
import struct
import sys
from pathlib import Path

import numpy as np
from sklearn.datasets import load_digits

TEST_IMAGES = 297


def write_idx(path, array):
    head = struct.pack(">BBBB", 0, 0, 8, array.ndim) + struct.pack(f">{array.ndim}I", *array.shape)
    # Without a time and a name in the head the files are the same on every run.
    with open(path, "wb") as raw, gzip.GzipFile(filename="", mode="wb", fileobj=raw, mtime=0) as out:
        out.write(head + array.astype(np.uint8).tobytes())


def main():
    folder = Path(sys.argv[1] if len(sys.argv) > 1 else Path(__file__).parent)
    digits = load_digits()
    images = np.round(digits.images * (255 / 16))
    order = np.random.default_rng(2018).permutation(len(images))
    images, labels = images[order], digits.target[order]
    parts = {"train": slice(TEST_IMAGES, None), "t10k": slice(0, TEST_IMAGES)}
    for name, part in parts.items():
        write_idx(folder / f"{name}-images-idx3-ubyte.gz", images[part])
        write_idx(folder / f"{name}-labels-idx1-ubyte.gz", labels[part])


if __name__ == "__main__":
    main()
