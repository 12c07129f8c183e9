"""Makes components.npz and distances.npz beside this file: pip install -r peers.txt; python make_peers.py"""

from pathlib import Path

import numpy as np
from peers import components as components_of
from peers import distances as distances_of
from peers import distances_of_scipy

here = Path(__file__).parent
random = np.random.default_rng(11)


def blocks(shape, count, background):
    """Blocky labels: many that touch, at faces, edges and corners."""
    labels = np.zeros(shape, np.uint64)
    for _ in range(count):
        begin = [random.integers(-2, n) for n in shape]
        window = tuple(slice(max(b, 0), b + random.integers(1, 6)) for b in begin)
        labels[window] = random.integers(0 if background else 1, 6)
    return labels


volumes = {
    "sparse": (random.random((11, 9, 13)) < 0.2).astype(np.uint64) * random.integers(1, 3, (11, 9, 13)).astype(np.uint64),
    "dense": random.integers(0, 3, (7, 12, 10)).astype(np.uint64),
    "blocks": blocks((12, 15, 14), 150, True),
    "full": random.integers(1, 3, (5, 6, 7)).astype(np.uint64),
    "image": random.integers(0, 3, (1, 21, 19)).astype(np.uint64),
    "plate": random.integers(0, 2, (16, 1, 18)).astype(np.uint64),
    "line": random.integers(0, 3, (1, 1, 40)).astype(np.uint64),
    "column": random.integers(0, 3, (30, 1, 1)).astype(np.uint64),
}
components = {}
for name, labels in volumes.items():
    components[name] = labels
    for connectivity in [6, 18, 26]:
        components[f"{name}.{connectivity}"] = components_of(labels, connectivity)
for connectivity in [4, 8]:
    components[f"image.{connectivity}"] = components_of(volumes["image"][0], connectivity)[None]
np.savez_compressed(here / "components.npz", **components)

distances = {}
for name in ["blocks", "full", "image", "plate", "sparse"]:
    labels = volumes[name] if name != "blocks" else blocks((12, 15, 14), 25, True)
    distances[name] = labels
    for index, spacing in enumerate([(1, 1, 1), (4, 2.5, 1), (0.5, 3, 40)]):
        for border in [False, True]:
            key = f"{name}.{index}.{'border' if border else 'open'}"
            distances[key] = distances_of(labels, spacing, border)
            distances[f"{key}.squared"] = distances_of(labels, spacing, border, squared=True)
        mask = labels > 0
        if not mask.all():
            distances[f"{name}.{index}.scipy"] = distances_of_scipy(mask, spacing)
            distances[f"{name}.{index}.scipy_outside"] = distances_of_scipy(~mask, spacing)
np.savez_compressed(here / "distances.npz", **distances)
