"""Writes what fuzzing begins with into corpus/: files of other programs out of the tests' fixtures, for the targets that
would hardly guess their first bytes. `metadata` is helped by a dictionary instead: -dict=fuzz/metadata.dict.

    python fuzz/seeds.py
"""

import hashlib
from pathlib import Path

root = Path(__file__).resolve().parent
formats = root.parent / "crates/dacapo-array/tests/data/formats"
KINDS = {".tif": 0, ".png": 1, ".npy": 2, ".h5": 3}


def seed(target, content):
    corpus = root / "corpus" / target
    corpus.mkdir(parents=True, exist_ok=True)
    (corpus / hashlib.sha1(content).hexdigest()).write_bytes(content)


for path in formats.rglob("*"):
    if path.suffix in KINDS:
        seed("files", bytes([KINDS[path.suffix]]) + path.read_bytes())
    elif path.name == "attributes.json":
        seed("files", bytes([4]) + path.read_bytes())
for path in root.parent.glob("crates/**/tests/data/**/*"):
    if path.suffix in (".pt", ".pkl", ".pickle", ".pth") and path.stat().st_size < 1 << 20:
        seed("pickles", path.read_bytes())
