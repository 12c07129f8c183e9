"""The same work on arrays as the `arrays` binary does: python array_peers.py PROGRAM OP CASE DIR

PROGRAM is tensorstore or zarr. Two threads, everything in the page cache. Prints one JSON object.
"""

import json
import os
import resource
import shutil
import sys
import threading
import time
from pathlib import Path

import numpy as np

program, op, case, root = sys.argv[1], sys.argv[2], sys.argv[3], Path(sys.argv[4])
volume, codec = case.split("-", 1)
shape, dtype, lead = ((512,) * 3, "uint8", ()) if volume == "em" else ((10,) + (256,) * 3, "float32", (1,))
chunk, shard = lead + (64,) * 3, lead + (256,) * 3
path = root / f"{program}.zarr" / case
WINDOWS, WINDOW, CHUNKS, ARRAYS = 200, 96, 22, 1000


def data():
    return np.fromfile(root / f"{volume}.bin", dtype).reshape(shape)


class Random:
    """splitmix64, as the binary's."""

    def __init__(self, seed):
        self.state = seed

    def below(self, end):
        mask = (1 << 64) - 1
        self.state = (self.state + 0x9E3779B97F4A7C15) & mask
        z = self.state
        z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & mask
        z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & mask
        return (z ^ (z >> 31)) % end


def windows():
    random, length = Random(1), shape[-1]
    for _ in range(WINDOWS):
        begin = [random.below(length - WINDOW) for _ in range(3)]
        yield (slice(None),) * len(lead) + tuple(slice(b, b + WINDOW) for b in begin)


def blocks(edge=64):
    n = shape[-1] // edge
    for i in range(n**3):
        begin = [i // n // n * edge, i // n % n * edge, i % n * edge]
        yield (slice(None),) * len(lead) + tuple(slice(b, b + edge) for b in begin)


if program == "tensorstore":
    import tensorstore as ts

    context = ts.Context({"data_copy_concurrency": {"limit": 2}, "file_io_concurrency": {"limit": 2}})

    def spec(where, shape, dtype, chunk, codec, shard=None):
        inner = [{"name": "bytes", "configuration": {"endian": "little"}}]
        if codec == "blosc-lz4":
            inner.append({"name": "blosc", "configuration": {"cname": "lz4", "clevel": 5, "shuffle": "shuffle",
                                                             "typesize": np.dtype(dtype).itemsize}})
        elif codec != "raw":
            inner.append({"name": "zstd", "configuration": {"level": 1}})
        outer = inner
        if shard:
            outer = [{"name": "sharding_indexed", "configuration": {"chunk_shape": chunk, "codecs": inner}}]
        return {"driver": "zarr3", "kvstore": {"driver": "file", "path": str(where)},
                "metadata": {"shape": shape, "data_type": dtype, "codecs": outer, "fill_value": 0,
                             "chunk_grid": {"name": "regular", "configuration": {"chunk_shape": shard or chunk}}}}

    def create(where=path, shape=shape, dtype=dtype, chunk=chunk, codec=codec):
        described = spec(where, shape, dtype, chunk, codec, shard if codec == "shard" else None)
        return ts.open(described, create=True, delete_existing=True, context=context).result()

    def open_(where=path):
        return ts.open({"driver": "zarr3", "kvstore": {"driver": "file", "path": str(where)}}, open=True,
                       context=context).result()

    write = lambda array, at, values: array[at].write(values).result()
    read = lambda array, at: array[at].read().result()
else:
    import zarr
    from zarr.codecs import BloscCodec, ZstdCodec

    zarr.config.set({"threading.max_workers": 2, "async.concurrency": 2})

    def create(where=path, shape=shape, dtype=dtype, chunk=chunk, codec=codec):
        compressors = {"raw": None, "blosc-lz4": BloscCodec(cname="lz4", clevel=5, shuffle="shuffle")}
        return zarr.create_array(str(where), shape=shape, dtype=dtype, chunks=chunk, overwrite=True, fill_value=0,
                                 shards=shard if codec == "shard" else None,
                                 compressors=compressors.get(codec, ZstdCodec(level=1)))

    open_ = lambda where=path: zarr.open_array(str(where), mode="r")

    def write(array, at, values):
        array[at] = values

    read = lambda array, at: array[at]

everything = (slice(None),) * len(shape)
size = int(np.prod(shape)) * np.dtype(dtype).itemsize


def prepare():
    if op in ("write", "blocks"):
        # What was there is deleted before: how long that takes is `remove`'s to say.
        shutil.rmtree(path, ignore_errors=True)
        os.sync()
    if op == "write":
        values = data()

        def work():
            write(create(), everything, values)
            return size
    elif op == "blocks":
        values = data()

        def work():
            array, all_blocks = create(), list(blocks())

            def half(i):
                for at in all_blocks[i::2]:
                    write(array, at, values[at])

            threads = [threading.Thread(target=half, args=(i,)) for i in range(2)]
            [t.start() for t in threads]
            [t.join() for t in threads]
            return size
    elif op == "read":

        def work():
            np.asarray(read(open_(), everything))
            return size
    elif op == "windows":

        def work():
            array = open_()
            return sum(np.asarray(read(array, at)).nbytes for at in windows())
    elif op == "remove":
        where = root / f"{program}.zarr" / "many"
        write(create(where, (4 * CHUNKS,) * 3, "uint8", (4,) * 3, "zstd"), (slice(None),) * 3,
              np.ones((4 * CHUNKS,) * 3, "uint8"))

        # What is not on the disk yet is quickly gone: it was never allocated. Everyone removes what is there.
        os.sync()

        def work():
            shutil.rmtree(where)
            return CHUNKS**3
    elif op in ("open", "list"):
        places = [root / f"many_{program}.zarr" / str(i // 100) / str(i) for i in range(ARRAYS)]
        for where in places:
            if not where.exists():
                create(where, (64,) * 3, "uint8", (64,) * 3, "zstd")

        container = places[0].parent.parent
        if op == "list" and program == "tensorstore":
            # It has no groups: what it can list is keys.
            keys = ts.KvStore.open({"driver": "file", "path": f"{container}/"}).result()

            def work():
                found = [key for key in keys.list().result() if key.endswith(b"/zarr.json")]
                assert len(found) == len(places)
                return len(places)
        elif op == "list":
            for group in {container, *(where.parent for where in places)}:
                zarr.open_group(str(group), mode="a")

            def work():
                members = zarr.open_group(str(container), mode="r").members(max_depth=None)
                assert sum(isinstance(member, zarr.Array) for _, member in members) == len(places)
                return len(places)
        else:

            def work():
                [open_(where) for where in places]
                return len(places)
    return work


work = prepare()
usage = lambda: sum(resource.getrusage(resource.RUSAGE_SELF)[:2])



def memory(field):
    return next(int(line.split()[1]) for line in open("/proc/self/status") if line.startswith(field)) / 1024


# The most so far was what was prepared.
Path("/proc/self/clear_refs").write_text("5")
before = memory("VmRSS")
wall, cpu = time.perf_counter(), usage()
count = work()
wall, cpu = time.perf_counter() - wall, usage() - cpu
print(json.dumps({"wall": wall, "cpu": cpu, "bytes": count, "memory": memory("VmHWM") - before}))
