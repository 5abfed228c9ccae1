"""Patterns: how well wordings are grouped, beside Drain3 on the same labelled lines, and how fast.

Grouping accuracy is the share of lines whose group has exactly the lines of their true template; pairwise F1 is of the
pairs of lines that are in one group. Nothing is set by file.
"""

import itertools
import json
import subprocess
import time
from collections import Counter
from collections.abc import Hashable, Sequence
from pathlib import Path

import polars as pl

from benchmarks.apart import python_with
from benchmarks.results import Row, keep, median, show
from ingest_platform.feeds.issues.fingerprint import fingerprints
from ingest_platform.feeds.issues.grouping import Groups

LABELLED = Path(__file__).resolve().parents[2] / "shared" / "data" / "loghub"
# As issues come: in submissions of as many.
BATCH = 500
ROUNDS = 5


def run(*, folder: Path, rows: int) -> None:
    """Measure all labelled files of a folder, and the speed on their lines repeated."""
    paths = sorted(folder.glob("*_structured.csv"))
    if not paths:
        print(f"no labelled files (*_structured.csv) in {folder}; see data/README.md beside the checkout")
        return
    drain3 = python_with("drain3")
    quality = [_quality(path, drain3) for path in paths]
    if len(quality) > 1:
        quality.append({"file": "mean", **_means(quality)})
    speed = _speed([pl.read_csv(path, infer_schema=False)["Content"] for path in paths], rows=rows)
    show("patterns: grouping", quality)
    show("patterns: speed", speed)
    keep("patterns", {"grouping": quality, "speed": speed})


def _quality(path: Path, drain3: Path | None) -> Row:
    lines = pl.read_csv(path, infer_schema=False)
    truth = lines["EventId"].to_list()
    groups, found = group(lines["Content"])
    accuracy, f1 = scores(found, truth)
    row: dict[str, object] = {
        "file": path.name.partition("_")[0],
        "accuracy": round(accuracy, 4),
        "F1": round(f1, 4),
        "groups": len(set(found)),
        "true": len(set(truth)),
        "wordings": len(groups),
    }
    if drain3 is not None:
        clusters, seconds = _drained(drain3, lines["Content"].to_list())
        accuracy, f1 = scores(clusters, truth)
        row |= {
            "Drain3 accuracy": round(accuracy, 4),
            "Drain3 F1": round(f1, 4),
            "Drain3 groups": len(set(clusters)),
            "Drain3 lines/s": lines.height / seconds,
        }
    return row


def group(titles: pl.Series) -> tuple[Groups, list[str]]:
    """Group titles as they would come, batch by batch; the groups and the group of each title in the end."""
    numbers = itertools.count()
    groups = Groups(new_group=lambda: f"group {next(numbers)}")
    told = fingerprints(titles, pl.Series([None] * len(titles), dtype=pl.String))
    for start in range(0, told.height, BATCH):
        groups.add(dict(told.slice(start, BATCH).unique(maintain_order=True).iter_rows()))
    return groups, [groups.group_of(fingerprint) for fingerprint in told["fingerprint"]]


def scores(found: Sequence[Hashable], truth: Sequence[Hashable]) -> tuple[float, float]:
    """Grouping accuracy and pairwise F1.

    >>> scores([1, 1, 2, 3], ["a", "a", "b", "b"])
    (0.5, 0.6666666666666666)
    """
    sizes, true_sizes, both = Counter(found), Counter(truth), Counter(zip(found, truth, strict=True))
    right = sum(count for (one, other), count in both.items() if sizes[one] == count == true_sizes[other])
    pairs, found_pairs, true_pairs = (_pairs(counts) for counts in (both, sizes, true_sizes))
    f1 = 2 * pairs / (found_pairs + true_pairs) if found_pairs + true_pairs else 1.0
    return right / len(truth), f1


def _pairs(counts: Counter[Hashable]) -> int:
    return sum(count * (count - 1) // 2 for count in counts.values())


def _means(rows: Sequence[Row]) -> dict[str, object]:
    names = [name for name, value in rows[0].items() if isinstance(value, (int, float))]
    return {name: sum(float(str(row[name])) for row in rows) / len(rows) for name in names}


def _speed(files: Sequence[pl.Series], *, rows: int) -> list[Row]:
    """Measure records of known patterns a second, and what a new wording takes."""
    lines = pl.concat(files)
    groups, _ = group(lines)
    many = lines.sample(rows, with_replacement=True, seed=1)
    nothing = pl.Series([None] * rows, dtype=pl.String)
    known: list[float] = []
    new: list[float] = []
    for _ in range(ROUNDS):
        began = time.perf_counter()
        told = fingerprints(many, nothing)
        assert all(fingerprint in groups for fingerprint in told["fingerprint"].unique())
        known.append(rows / (time.perf_counter() - began))
        began = time.perf_counter()
        again, _ = group(lines)
        new.append((time.perf_counter() - began) / len(again) * 1e6)
    return [{"known records/s": median(known), "records": rows, "µs a new wording": median(new)}]


def _drained(python: Path, lines: Sequence[str]) -> tuple[list[int], float]:
    script = Path(__file__).parent / "drained.py"
    done = subprocess.run([python, script], input=json.dumps(lines), capture_output=True, check=True, text=True)
    answer = json.loads(done.stdout)
    return answer["clusters"], answer["seconds"]
