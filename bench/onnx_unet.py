"""A forward pass in onnxruntime: python onnx_unet.py MODEL.onnx THREADS REPETITIONS

The model is what `engine NETWORK onnx FILE` wrote. Prints one JSON object, as the `engine` binary does.
"""

import json
import resource
import sys
import time

import numpy as np
import onnxruntime

model, threads, repetitions = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
options = onnxruntime.SessionOptions()
options.intra_op_num_threads = threads
session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
[raw] = session.get_inputs()
batch = int(sys.argv[4]) if len(sys.argv) > 4 else 1
x = np.random.default_rng(0).random([batch, *raw.shape[1:]], dtype=np.float32) - 0.5
peak = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
before = peak()
session.run(None, {raw.name: x})
memory = peak() - before
wall, cpu = time.perf_counter(), time.process_time()
for _ in range(repetitions):
    session.run(None, {raw.name: x})
wall, cpu = (time.perf_counter() - wall) / repetitions, (time.process_time() - cpu) / repetitions
print(json.dumps(dict(forward_wall=wall, forward_cpu=cpu, forward_memory=memory)))
