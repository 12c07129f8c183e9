"""What other programs make of arrays: python peers.py CASE DIR reads DIR/given.npz, and writes DIR/found.npz.

They are those of peers.txt. tests/live.rs compares with what they find; make_*.py make the fixtures of the same
functions, and bench/ measures some.
"""

import sys
from pathlib import Path

import cc3d
import edt
import fastremap
import mwatershed
import numpy as np
import waterz
from scipy import ndimage
from skimage.metrics import variation_of_information
from skimage.segmentation import watershed as flood


def components(labels, connectivity):
    if labels.dtype == bool and connectivity == 8:
        # Of masks in 2D it finds voxels of the background too, where the number of rows is odd (4.1.1).
        labels = labels.view(np.uint8)
    return cc3d.connected_components(labels, connectivity=connectivity, out_dtype=np.uint64)


def distances(labels, spacing, border, squared=False):
    transform = edt.edtsq if squared else edt.edt
    return transform(np.ascontiguousarray(labels), anisotropy=tuple(spacing), black_border=border)


def distances_of_scipy(mask, spacing):
    return ndimage.distance_transform_edt(mask, sampling=tuple(spacing))


def signed_distances(labels, spacing):
    """To the faces between labels, positive in objects: on a grid of half the spacing, as DaCapo does it."""
    inside = np.ones([2 * n - 1 for n in labels.shape], bool)
    for axis in range(labels.ndim):
        place = tuple(slice(1 if a == axis else 0, None, 2) for a in range(labels.ndim))
        inside[place] = np.diff(labels.view(np.int64), axis=axis) == 0
    found = ndimage.distance_transform_edt(inside, sampling=[n / 2 for n in spacing])
    found = found[(slice(None, None, 2),) * labels.ndim].astype(np.float32)
    found[labels == 0] *= -1
    return found


def watershed(height, seeds, mask, connectivity):
    """With seeds of any names: scikit-image wants small ones."""
    compact, table = fastremap.renumber(seeds, in_place=False)
    found = flood(height, compact.astype(np.int32), connectivity=connectivity, mask=mask)
    return fastremap.remap(found.astype(np.uint64), {new: old for old, new in table.items()})


def ends(shape, offset):
    """Where the links of an offset begin, and where they end."""
    here = tuple(slice(max(0, -o), min(n, n - o)) for n, o in zip(shape, offset))
    there = tuple(slice(max(0, o), min(n, n + o)) for n, o in zip(shape, offset))
    return here, there


def mutex_watershed(affinities, offsets, bias, strides=None, mask=None):
    shifted = (affinities - bias[:, None, None, None]).astype(np.float64)
    # Its order of equal magnitudes is not written down.
    assert len(np.unique(np.abs(shifted))) == shifted.size, "there are ties"
    if mask is not None:
        # What is 0 joins nothing, and is the last to part.
        for values, offset in zip(shifted, offsets):
            here, there = ends(mask.shape, offset)
            is_open = np.zeros(mask.shape, bool)
            is_open[here] = mask[here] & mask[there]
            values[~is_open] = 0
    strides = None if strides is None else strides.tolist()
    return mwatershed.agglom(shifted, offsets.tolist(), strides=strides).astype(np.uint64)


def fragments(affinities, offsets, mask=None):
    """Step by step: the same map, seeds and flood as ours."""
    shape = affinities.shape[1:]
    sums, counts = np.zeros(shape, np.float32), np.zeros(shape, np.float32)
    for values, offset in zip(affinities, offsets):
        here, there = ends(shape, offset)
        for place in (here, there):
            sums[place] += values[here]
            counts[place] += 1
    boundary = 1 - sums / np.maximum(counts, 1)
    if mask is not None:
        boundary[~mask] = np.inf
    inside = boundary < 0.2
    distance = ndimage.distance_transform_edt(inside).astype(np.float32)
    smooth = ndimage.gaussian_filter(distance, 1.0)
    most = ndimage.maximum_filter(smooth, 5)
    seeds, _ = ndimage.label(inside & (most == smooth), np.ones((3, 3, 3)))
    flooded = flood(boundary, seeds, mask=mask)
    return {
        "boundary": boundary,
        "distance": distance,
        "smooth": smooth,
        "most": most,
        "seeds": seeds.astype(np.uint64),
        "fragments": flooded.astype(np.uint64),
    }


def overlaps(truth, segments):
    """The pairs of ids that share voxels, in order, and how many each."""
    pairs, counts = np.unique(np.stack([truth.ravel(), segments.ravel()]), axis=1, return_counts=True)
    return pairs, counts.astype(np.uint64)


def information(truth, segments):
    """Splits and merges in bits; scikit-image wants small ids."""
    small = (fastremap.renumber(labels, in_place=False)[0].astype(np.int64) for labels in (truth, segments))
    return np.array(variation_of_information(*small))


def sizes(labels):
    ids, counts = fastremap.unique(labels, return_counts=True)
    return ids, counts.astype(np.uint64)


def renumbered(labels):
    return fastremap.renumber(labels, in_place=False)[0].astype(labels.dtype)


def filtered(labels, least, most):
    """Without the labels of fewer and of more voxels."""
    ids, counts = fastremap.unique(labels, return_counts=True)
    return fastremap.mask_except(labels, list(ids[(counts >= least) & (counts <= most)]))


def agglomerations(affinities, fragments, thresholds):
    """By the mean of the affinities to the voxel before along each axis: what is merged at each threshold, which fall,
    and the scores of all merges."""
    merges = waterz.agglomerate(affinities, 1 - thresholds, fragments=fragments.copy(), return_merge_history=True)
    # The next one is written over it.
    segments, histories = zip(*((segments.copy(), history) for segments, history in merges))
    scores = [1 - merge["score"] for history in histories for merge in history]
    return np.stack(segments), np.array(scores)


def contacts(affinities, fragments, function):
    """The fragments that touch, and the score of each contact, ordered by ids."""
    function = f"OneMinus<{function}>"
    (found,) = waterz.agglomerate(
        affinities, [0.0], fragments=fragments.copy(), scoring_function=function, return_region_graph=True
    )
    edges = sorted((min(e["u"], e["v"]), max(e["u"], e["v"]), 1 - e["score"]) for e in found[1])
    return np.array([edge[:2] for edge in edges], np.uint64), np.array([edge[2] for edge in edges])


def volumes(given):
    """Those with a number for a name."""
    return {name: values for name, values in given.items() if name.isdecimal()}.items()


def find_components(given):
    for name, labels in volumes(given):
        for connectivity in [6, 18, 26]:
            yield f"{name}.{connectivity}", components(labels, connectivity)
        for connectivity in [4, 8] if len(labels) == 1 else []:
            yield f"{name}.{connectivity}", components(labels[0], connectivity)[None]


def find_distances(given):
    for name, labels in volumes(given):
        for index, spacing in enumerate(given["spacings"]):
            for border in [False, True]:
                for squared in [False, True]:
                    key = f"{name}.{index}.{str(border).lower()}.{str(squared).lower()}"
                    yield key, distances(labels, spacing, border, squared)
            yield f"{name}.{index}.scipy", distances_of_scipy(labels > 0, spacing).astype(np.float32)
            yield f"{name}.{index}.signed", signed_distances(labels, spacing)


def find_watersheds(given):
    for name, height in volumes(given):
        for connectivity in [1, 2, 3]:
            for key, mask in [("all", None), ("masked", given[f"{name}.mask"])]:
                yield f"{name}.{connectivity}.{key}", watershed(height, given[f"{name}.seeds"], mask, connectivity)


def find_mutex_watersheds(given):
    for name, affinities in volumes(given):
        if affinities.dtype == np.uint8:
            affinities = affinities.astype(np.float32) / np.float32(255)
        offsets, biases = given["offsets"][: len(affinities)], given["biases"][:, : len(affinities)]
        strides, mask = given["strides"][: len(affinities)], given[f"{name}.mask"]
        for index, bias in enumerate(biases):
            yield f"{name}.{index}.all", mutex_watershed(affinities, offsets, bias)
            yield f"{name}.{index}.strided", mutex_watershed(affinities, offsets, bias, strides)
            yield f"{name}.{index}.masked", mutex_watershed(affinities, offsets, bias, mask=mask)


def find_fragments(given):
    for key, mask in [("all", None), ("masked", given["mask"])]:
        for step, values in fragments(given["affinities"], given["offsets"], mask).items():
            yield f"{key}.{step}", values


def find_tables(given):
    for name, labels in volumes(given):
        yield f"{name}.ids", sizes(labels)[0]
        yield f"{name}.sizes", sizes(labels)[1]
        yield f"{name}.renumbered", renumbered(labels)
        yield f"{name}.filtered", filtered(labels, *given["limits"])
        pairs = dict(zip(given[f"{name}.from"].tolist(), given[f"{name}.to"].tolist()))
        yield f"{name}.remapped", fastremap.remap(labels, pairs, preserve_missing_labels=True)
        other = given[f"{name}.other"]
        pairs, counts = overlaps(labels.astype(np.uint64), other)
        yield f"{name}.pairs", pairs
        yield f"{name}.counts", counts
        yield f"{name}.information", information(labels, other)


def find_maps(given):
    for name, values in volumes(given):
        yield f"{name}.argmax", values.argmax(0).astype(np.uint8)
        yield f"{name}.above", values[0] > np.float32(0.25)
        yield f"{name}.bytes", np.clip(values * 255 + np.float32(0.5), 0, 255).astype(np.uint8)


def find_agglomerations(given):
    affinities, fragments = given["affinities"], given["fragments"]
    segments, scores = agglomerations(affinities, fragments, given["thresholds"])
    yield "segments", segments
    yield "scores", scores
    functions = {"mean": (affinities, "MeanAffinity<RegionGraphType,ScoreValue>")}
    for share in given["shares"]:
        function = f"HistogramQuantileAffinity<RegionGraphType,{share},ScoreValue,256,false>"
        functions[f"{share}"] = (given["levels"], function)
    for name, (values, function) in functions.items():
        pairs, scores = contacts(values, fragments, function)
        yield f"{name}.pairs", pairs
        yield f"{name}.scores", scores


if __name__ == "__main__":
    case, here = sys.argv[1], Path(sys.argv[2])
    np.savez(here / "found.npz", **dict(globals()[f"find_{case}"](dict(np.load(here / "given.npz")))))
