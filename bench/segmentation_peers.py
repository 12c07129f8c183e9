"""Times other programs' segmentation kernels: `segmentation_peers.py OP DIR`. Prints one JSON object.

    pip install -r ../crates/dacapo-kernels/tests/data/peers.txt zarr

`data` makes what is segmented: `segmentation_peers.py data DIR FIB25`, with FIB25 the Zarr container of
docs/fib25.md. Labels of 128³, 12 channels of affinities made of them, smoothed and with noise, what follows from
these, and a mirrored volume of 384³. `prediction` adds what a network makes of the same place: `segmentation_peers.py
prediction DIR PREDICTION`, with PREDICTION the affinities that `dacapo predict` wrote of all of FIB25's
`sample2/raw`, in bytes. Where DaCapo's own functions are the peer, they are written here as they are there, in NumPy.
What the tests ask of the same programs is theirs: ../crates/dacapo-kernels/tests/data/peers.py.
"""

import heapq
import json
import sys
import time
from pathlib import Path

import numpy as np

sys.path.append(str(Path(__file__).parent / "../crates/dacapo-kernels/tests/data"))
import peers

op, dir = sys.argv[1], Path(sys.argv[2])
EDGE, LARGE = 128, 384
# Distances are learned as tanh(d / scale); from so many voxels on they are as good as any larger one.
SCALE, CONTEXT = 10.0, 12
# Of FIB25, the part that is measured.
PLACE = (slice(20, 20 + EDGE), slice(60, 60 + EDGE), slice(60, 60 + EDGE))
OFFSETS = [[-n if a == axis else 0 for a in range(3)] for n in (1, 3, 9, 27) for axis in range(3)]


def read(name, dtype, edge=EDGE, channels=None):
    shape = (edge,) * 3 if channels is None else (channels,) + (edge,) * 3
    return np.fromfile(dir / name, dtype).reshape(shape)


def make_data(container):
    import zarr
    from scipy import ndimage
    from skimage.segmentation import watershed

    labels = np.asarray(zarr.open(container, mode="r")["sample2/labels"]).astype(np.uint64)
    labels = labels[PLACE]
    random = np.random.default_rng(5)
    affinities = np.empty((len(OFFSETS), *labels.shape), np.float32)
    for channel, offset in enumerate(OFFSETS):
        linked = np.zeros(labels.shape, np.float32)
        inside = tuple(slice(-o, None) for o in offset)
        there = tuple(slice(None, n + o) for n, o in zip(labels.shape, offset))
        linked[inside] = labels[inside] == labels[there]
        noise = ndimage.gaussian_filter(random.standard_normal(labels.shape).astype(np.float32), 1.0)
        logit = 8 * (ndimage.gaussian_filter(linked, 1.0) - 0.5) + 6 * noise
        affinities[channel] = 1 / (1 + np.exp(-logit))
    boundary = 1 - affinities[:3].mean(0)
    smooth = ndimage.gaussian_filter(boundary, 1.0)
    seeds, _ = ndimage.label(ndimage.minimum_filter(smooth, 5) == smooth)
    fragments = watershed(boundary, seeds).astype(np.uint64)
    # As a network gives it that is sure of itself, kept in bytes: most of it is one plateau.
    sure = np.round(255 / (1 + (1 / affinities[:3] - 1) ** 3)).astype(np.float32) / 255
    (1 - sure.mean(0)).tofile(dir / "saturated.bin")
    labels.tofile(dir / "labels.bin")
    affinities.tofile(dir / "affinities.bin")
    np.round(affinities * 255).astype(np.uint8).tofile(dir / "affinities_u8.bin")
    boundary.astype(np.float32).tofile(dir / "boundary.bin")
    np.round(boundary * 255).astype(np.uint8).tofile(dir / "boundary_u8.bin")
    seeds.astype(np.uint64).tofile(dir / "seeds.bin")
    fragments.tofile(dir / "fragments.bin")
    mirror = lambda a: np.pad(a, [(0, LARGE - EDGE)] * 3, "symmetric")
    mirror(labels).tofile(dir / "labels_large.bin")
    mirror(fragments).tofile(dir / "fragments_large.bin")
    mirror(seeds.astype(np.uint64)).tofile(dir / "seeds_large.bin")
    mirror(boundary.astype(np.float32)).tofile(dir / "boundary_large.bin")


def add_prediction(prediction):
    import zarr

    affinities = np.asarray(zarr.open(prediction, mode="r")[(slice(3), *PLACE)])
    assert affinities.dtype == np.uint8
    np.round(255 - affinities.mean(0)).astype(np.uint8).tofile(dir / "predicted_u8.bin")


def links(labels):
    """Affinities of labels, as DaCapo's seg_to_affgraph has them."""
    linked = np.zeros((len(OFFSETS), *labels.shape), np.int32)
    for channel, offset in enumerate(OFFSETS):
        here = tuple(slice(max(0, -o), min(n, n - o)) for n, o in zip(labels.shape, offset))
        there = tuple(slice(max(0, o), min(n, n + o)) for n, o in zip(labels.shape, offset))
        p, q = labels[here], labels[there]
        linked[(channel, *here)] = (p == q) * (p > 0) * (q > 0)
    return linked


def balanced(target, mask, clip=(0.05, 0.95)):
    """Weights by class, channel by channel, as DaCapo's balance_weights has them on its first call."""
    assert len(np.unique(target)) <= 2
    scale = np.ones(target.shape, np.float32) * mask
    for weight, classes in zip(scale, target):
        seen, counts = np.unique(classes[np.nonzero(weight)], return_counts=True)
        shares = np.clip(counts.astype(np.float32) / counts.sum(), *clip)
        by_class = np.zeros(2)
        by_class[seen] = 1 / 2 / shares
        weight *= np.take(by_class, classes.astype(np.int64)).astype(np.float32)
    return scale


def inner(values):
    """Without the voxels around which a crop has no labels."""
    place = slice(CONTEXT, EDGE - CONTEXT)
    return values[..., place, place, place]


def distances(labels, kind):
    """Targets and weights of distances, as DaCapo's predictors have them: what is `hot` has channels of its own."""
    found = peers.signed_distances(labels, (1.0, 1.0, 1.0))
    if kind == "inner":
        found[labels == 0] = 0
    target, classes = inner(np.tanh(found / SCALE))[None], inner((labels > 0).astype(np.uint8))[None]
    mask = np.ones(target.shape[1:], bool)
    weights = balanced(classes, mask)
    if kind != "hot":
        return target, weights
    return np.concatenate([classes, target]), np.concatenate([balanced(classes, mask), weights])


def one_hot(labels, count):
    """Targets and weights of classes, as DaCapo's predictor has them."""
    target = np.zeros((count, *labels.shape), np.uint8)
    for number in range(count):
        target[number] += labels == number
    return target, np.ones(target.shape)


def agglomerate(fragments, affinities, offsets, threshold):
    """Mean affinity with a heap, as one writes it in Python."""
    sums = {}
    for offset, values in zip(offsets, affinities):
        inside = tuple(slice(-o, None) for o in offset)
        there = tuple(slice(None, n + o) for n, o in zip(fragments.shape, offset))
        a, b, v = fragments[inside], fragments[there], values[inside]
        touch = a != b
        low, high = np.minimum(a[touch], b[touch]), np.maximum(a[touch], b[touch])
        pairs, index = np.unique(np.stack([low, high]), axis=1, return_inverse=True)
        total, count = np.bincount(index.ravel(), v[touch]), np.bincount(index.ravel())
        for p, q, t, c in zip(*pairs.tolist(), total.tolist(), count.tolist()):
            before = sums.get((p, q), (0.0, 0))
            sums[p, q] = before[0] + t, before[1] + c
    graph = {}
    for (p, q), evidence in sums.items():
        graph.setdefault(p, {})[q] = evidence
        graph.setdefault(q, {})[p] = evidence
    heap = [(-t / c, p, q, c) for (p, q), (t, c) in sums.items()]
    heapq.heapify(heap)
    parent = {}
    while heap:
        score, p, q, c = heapq.heappop(heap)
        if -score < threshold:
            break
        if p not in graph or graph[p].get(q, (0, 0))[1] != c:
            continue
        stays, goes = (q, p) if len(graph[q]) > len(graph[p]) else (p, q)
        parent[goes] = stays
        del graph[stays][goes]
        for other, (t, c) in graph.pop(goes).items():
            if other == stays:
                continue
            del graph[other][goes]
            before = graph[stays].get(other, (0.0, 0))
            joint = before[0] + t, before[1] + c
            graph[stays][other] = graph[other][stays] = joint
            heapq.heappush(heap, (-joint[0] / joint[1], min(stays, other), max(stays, other), joint[1]))
    return parent


def prepare():
    if op in ("contingency", "contingency-large"):
        large = op.endswith("large")
        edge, name = (LARGE, "_large") if large else (EDGE, "")
        a, b = read(f"labels{name}.bin", np.uint64, edge), read(f"fragments{name}.bin", np.uint64, edge)
        return lambda: np.unique(np.stack([a.ravel(), b.ravel()]), axis=1, return_counts=True), a.size
    if op == "contingency-skimage":
        from skimage.metrics import contingency_table

        a, b = read("labels.bin", np.uint64), read("fragments.bin", np.uint64)
        return lambda: contingency_table(a, b), a.size
    if op in ("relabel", "unique", "remap", "size-filter"):
        import fastremap

        labels = read("fragments_large.bin", np.uint64, LARGE)
        table = {int(i): int(i) % 1000 for i in fastremap.unique(labels)}
        run = {
            "relabel": lambda: fastremap.renumber(labels, in_place=True),
            "unique": lambda: fastremap.unique(labels, return_counts=True),
            "remap": lambda: fastremap.remap(labels, table, in_place=True),
            "size-filter": lambda: peers.filtered(labels, 500, 10**9),
        }
        return run[op], labels.size
    if op in ("components-6", "components-26"):
        import cc3d

        labels = read("labels_large.bin", np.uint64, LARGE)
        return lambda: cc3d.connected_components(labels, connectivity=int(op.split("-")[1])), labels.size
    if op in ("affinities", "weights"):
        labels = read("labels.bin", np.uint64)
        mask = np.ones(labels.shape, bool)
        run = {"affinities": lambda: links(labels), "weights": lambda: balanced(links(labels), mask)}
        return run[op], labels.size
    if op == "fragments":
        affinities = read("affinities.bin", np.float32, channels=len(OFFSETS))[:3]
        return lambda: peers.fragments(affinities, OFFSETS[:3]), EDGE**3
    if op in ("signed", "inner", "hot"):
        labels = read("labels.bin", np.uint64)
        return lambda: distances(labels, op), (EDGE - 2 * CONTEXT) ** 3
    if op == "one-hot":
        labels = read("labels.bin", np.uint64) % 4
        return lambda: one_hot(labels, 4), EDGE**3
    if op in ("watershed-u8", "watershed-f32", "watershed-saturated"):
        from skimage.segmentation import watershed

        name, dtype = {
            "watershed-u8": ("boundary_u8.bin", np.uint8),
            "watershed-f32": ("boundary.bin", np.float32),
            "watershed-saturated": ("saturated.bin", np.float32),
        }[op]
        boundary = read(name, dtype)
        seeds = read("seeds.bin", np.uint64).astype(np.int32)
        return lambda: watershed(boundary, seeds), seeds.size
    if op == "mutex-f32":
        import mwatershed

        affinities = read("affinities.bin", np.float32, channels=len(OFFSETS)).astype(np.float64) - 0.5
        return lambda: mwatershed.agglom(affinities, OFFSETS), EDGE**3
    if op == "agglomerate":
        fragments = read("fragments.bin", np.uint64)
        affinities = read("affinities.bin", np.float32, channels=len(OFFSETS))[:6]
        return lambda: agglomerate(fragments, affinities, OFFSETS[:6], 0.5), EDGE**3
    if op in ("waterz", "waterz-50"):
        fragments = read("fragments.bin", np.uint64)
        affinities = read("affinities.bin", np.float32, channels=len(OFFSETS))[:3]
        thresholds = np.array([0.5]) if op == "waterz" else 1 - np.arange(1, 51) / 51
        return lambda: [None for _ in peers.waterz.agglomerate(affinities, 1 - thresholds, fragments=fragments)], EDGE**3
    sys.exit(f"no operation {op}")


def memory(name):
    return next(int(l.split()[1]) for l in open("/proc/self/status") if l.startswith(name)) / 1024


if op == "data":
    dir.mkdir(parents=True, exist_ok=True)
    make_data(sys.argv[3])
elif op == "prediction":
    add_prediction(sys.argv[3])
else:
    run, voxels = prepare()
    # From here on the peak is that of the kernel.
    Path("/proc/self/clear_refs").write_text("5")
    before = memory("VmRSS")
    wall, cpu = time.perf_counter(), time.process_time()
    run()
    wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    print(json.dumps({"wall": wall, "cpu": cpu, "voxels": voxels, "memory": max(0, memory("VmHWM") - before)}))
