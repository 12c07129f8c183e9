"""The same networks in PyTorch: python torch_unet.py NETWORK THREADS REPETITIONS LAYOUT

LAYOUT is contiguous or channels_last. Prints one JSON object, as the `engine` binary does.
"""

import json
import resource
import sys
import time

import torch
import torch.nn.functional as F

from torch_networks import NETWORKS

name, threads, repetitions, layout = sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), sys.argv[4]
torch.set_num_threads(threads)
torch.manual_seed(0)

batch, shape, channels, build = NETWORKS[name]
model = build(channels)
x = torch.rand(batch, 1, *shape) - 0.5
if layout == "channels_last":
    last = torch.channels_last if len(shape) == 2 else torch.channels_last_3d
    model, x = model.to(memory_format=last), x.to(memory_format=last)
target = (torch.rand(build(channels).to("meta")(torch.empty(x.shape, device="meta")).shape) > 0.5).float()
weight = torch.ones_like(target)
optimizer = torch.optim.AdamW(model.parameters(), 1e-3)


def step():
    optimizer.zero_grad()
    loss = (F.binary_cross_entropy_with_logits(model(x), target, reduction="none") * weight).sum() / weight.sum()
    loss.backward()
    optimizer.step()


def forward():
    with torch.inference_mode():
        torch.sigmoid(model(x))


def measure(work):
    wall, cpu = time.perf_counter(), time.process_time()
    for _ in range(repetitions):
        work()
    return (time.perf_counter() - wall) / repetitions, (time.process_time() - cpu) / repetitions


peak = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
before = peak()
forward()
forward_memory = peak() - before
step()
step_memory = peak() - before
steps, forwards = measure(step), measure(forward)
print(
    json.dumps(
        dict(
            step_wall=steps[0],
            step_cpu=steps[1],
            forward_wall=forwards[0],
            forward_cpu=forwards[1],
            step_memory=step_memory,
            forward_memory=forward_memory,
        )
    )
)
