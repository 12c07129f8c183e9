"""Reads the event files of a run with TensorBoard's own reader and compares them with the run's records."""

import json
import pathlib
import sys

from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

run = pathlib.Path(sys.argv[1])
events = EventAccumulator(str(run / "tensorboard"))
events.Reload()
tags = set(events.Tags()["scalars"])
assert {"training/loss", "training/learning_rate", "training/gradient_norm", "validation/b/voi"} <= tags, tags

records = [json.loads(line) for line in open(run / "stats/training.jsonl")]
losses = events.Scalars("training/loss")
assert [event.step for event in losses] == [record["iteration"] for record in records]
for event, record in zip(losses, records):
    assert abs(event.value - record["loss"]) < 1e-6, (event, record)

scores = [json.loads(line) for line in open(run / "stats/validation.jsonl")]
for event in events.Scalars("validation/b/voi"):
    best = min(score["scores"]["voi"] for score in scores if score["iteration"] == event.step)
    assert abs(event.value - best) < 1e-6, (event, best)
assert [event.step for event in events.Scalars("validation/b/voi")] == [3, 6]
print(f"{len(losses)} losses and {len(tags)} curves are the same")
