"""Makes fib25_labels.npz beside this file: pip install zarr==3.1.6 numpy==2.4.6; python make_fib25_labels.py

The labels of tests/fixtures/fib25_96.zarr (its CREDIT.md says where they are from), numbered anew.
"""

from pathlib import Path

import numpy as np
import zarr

here = Path(__file__).parent
labels = np.asarray(zarr.open(here / "../../../../tests/fixtures/fib25_96.zarr", mode="r")["labels"])
_, numbers = np.unique(labels, return_inverse=True)
numbers = numbers.reshape(labels.shape) + (labels.min() > 0)
np.savez_compressed(here / "fib25_labels.npz", labels=numbers.astype(np.uint16))
