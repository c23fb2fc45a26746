"""What `import sgdscope` and opening a report cost: a fresh interpreter each, in turns with `import numpy`."""

from __future__ import annotations

import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

from benchmarks.harness import Row, seconds

_TORCH_FREE = "import sys; assert 'torch' not in sys.modules, 'torch was loaded'"
_REPORT = """
import sys
import sgdscope as sg
run = sg.open_run(sys.argv[1])
sg.report.write(run, sys.argv[1] + ".html")
"""


def run(code: str, *arguments: str) -> None:
    """Run code in a fresh interpreter."""
    subprocess.run([sys.executable, "-W", "ignore", "-c", code, *arguments], check=True, capture_output=True)


def example_run(folder: Path) -> None:
    """A run folder with a few rows."""
    from sgdscope.estimate import Estimate
    from sgdscope.records import RunWriter

    writer = RunWriter.create(folder, {"batch_size": 8})
    for step in range(0, 400, 20):
        writer.append(step, Estimate("batch_sharpness", 1.0 + 0.01 * step, 0.1, count=20))
    writer.close()


def rows() -> list[Row]:
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place) / "run"
        codes: dict[str, tuple[str, ...]] = {
            "nothing": ("pass",), "numpy": ("import numpy",), "sgdscope": ("import sgdscope;" + _TORCH_FREE,),
            "torch": ("import torch",),
        }  # fmt: skip
        try:
            example_run(folder)
            run(_REPORT + _TORCH_FREE, str(folder))
            codes["report"] = (_REPORT + _TORCH_FREE, str(folder))
            failure = ""
        except subprocess.CalledProcessError as error:
            failure = error.stderr.decode().strip().splitlines()[-1]
        except Exception as error:
            failure = f"{type(error).__name__}: {error}"
        times: dict[str, list[float]] = {name: [] for name in codes}
        for _ in range(7):
            for name, call in codes.items():
                times[name].append(seconds(lambda call=call: run(*call)))
    bare = min(times["nothing"])
    numpy = min(times["numpy"])

    def told(name: str) -> str:
        best, middle = min(times[name]), statistics.median(times[name])
        return (f"{best - bare:.2f} s on this machine above a bare interpreter (median {middle - bare:.2f}); "
                f"{best / numpy:.2f} × `import numpy`")  # fmt: skip

    beside = f"{min(times['torch']) - bare:.2f} s (`import torch`)"
    found = [Row("`import sgdscope`, torch not loaded", told("sgdscope"), beside, "≤ 0.2 s",
                 min(times["sgdscope"]) - bare <= 0.2)]  # fmt: skip
    if failure:
        return [*found, Row("a report without torch", f"fails: {failure}", "-", "torch not loaded", False)]
    return [*found, Row("open a run and write its report, torch not loaded", told("report"), beside,
                        "torch not loaded", True)]  # fmt: skip
