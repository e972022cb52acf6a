"""Writes the handwritten digits as .npy files: python3 examples/digits/make_data.py

Needs scikit-learn, which carries the data in its package. The split is fixed, so the files come out the same.
"""

import pathlib

import numpy as np
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

FOLDER = pathlib.Path(__file__).resolve().parent / "data"


def main():
    digits = load_digits()
    x = (digits.data / 16.0).astype(np.float32)  # 8x8 pixels, 0..16 in the original
    y = digits.target.astype(np.int64)
    train_x, test_x, train_y, test_y = train_test_split(x, y, test_size=360, random_state=0, stratify=y)
    FOLDER.mkdir(exist_ok=True)
    for name, array in (("train_x", train_x), ("train_y", train_y), ("test_x", test_x), ("test_y", test_y)):
        np.save(FOLDER / f"{name}.npy", np.ascontiguousarray(array))
        print(f"{name}.npy {array.dtype} {array.shape}")


if __name__ == "__main__":
    main()
