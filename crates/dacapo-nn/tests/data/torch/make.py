"""Makes the files of this folder. Written with Python 3.11 and PyTorch 2.13.0 (CPU):

    python make.py
"""

import collections
import json

import torch

torch.manual_seed(0)
base = torch.arange(24, dtype=torch.float32).reshape(2, 3, 4) / 8 - 1
tensors = collections.OrderedDict(
    f32=base,
    f64=base.double() * 3,
    f16=base.half(),
    bf16=base.bfloat16(),
    i64=torch.tensor([-(2**24), 0, 7]),
    i32=torch.tensor([-5, 5], dtype=torch.int32),
    i16=torch.tensor([-300, 300], dtype=torch.int16),
    i8=torch.tensor([-128, 127], dtype=torch.int8),
    u8=torch.tensor([0, 255], dtype=torch.uint8),
    u16=torch.tensor([0, 65535], dtype=torch.uint16),
    bool=torch.tensor([True, False, True]),
    scalar=torch.tensor(2.5),
    empty=torch.zeros(0, 3),
    transposed=base.permute(2, 0, 1),
    window=base[1, 1:, ::2],
    expanded=torch.tensor([1.0, 2.0])[:, None].expand(2, 3),
    parameter=torch.nn.Parameter(torch.tensor([0.25, -0.25])),
)
saved = {"model": tensors, "list": [torch.tensor([1.0]), {"x": torch.tensor([2.0])}], "step": 3}
torch.save(saved, "tensors.pt")
torch.save({"a": torch.tensor([1.0])}, "before_1.6.pt", _use_new_zipfile_serialization=False)
torch.save({"c": torch.tensor([1 + 2j])}, "complex.pt")


class Twice(torch.nn.Module):
    def forward(self, x):
        return x * 2


torch.jit.trace(Twice(), torch.ones(1)).save("script.pt")


def values(tensor):
    return {"shape": list(tensor.shape), "data": tensor.detach().double().flatten().tolist()}


expected = {f"model/{name}": values(tensor) for name, tensor in tensors.items()}
expected["list/0"] = values(torch.tensor([1.0]))
expected["list/1/x"] = values(torch.tensor([2.0]))
with open("tensors.json", "w") as file:
    json.dump(expected, file, indent=1)
    file.write("\n")
