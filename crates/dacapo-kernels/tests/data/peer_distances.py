"""Writes the distances that edt and SciPy find: python peer_distances.py DIR, with DIR/labels.npy."""

import sys
from pathlib import Path

import edt
import numpy as np
from scipy import ndimage

here = Path(sys.argv[1])
labels = np.load(here / "labels.npy")
spacing = (4, 2.5, 1)
for border in [False, True]:
    distances = edt.edt(labels, anisotropy=spacing, black_border=border)
    np.save(here / f"edt.{str(border).lower()}.npy", distances)
np.save(here / "scipy.npy", ndimage.distance_transform_edt(labels > 0, sampling=spacing).astype(np.float32))
