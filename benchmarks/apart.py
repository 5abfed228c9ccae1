"""What the platform is measured against, each in a Python of its own below the results: no requirement of ours."""

import subprocess
import sys
from pathlib import Path

from benchmarks.installation import BENCH_DIR


def python_with(name: str) -> Path | None:
    """Find a Python with `<name>-requirements.txt`, installed once; None, and said so, where no registry is reached."""
    folder = BENCH_DIR / name
    python = folder / "bin" / "python"
    requirements = Path(__file__).parent / f"{name}-requirements.txt"
    mark = folder / "installed"
    # Another list of requirements is another installation.
    if not mark.exists() or mark.read_text(encoding="utf-8") != requirements.read_text(encoding="utf-8"):
        subprocess.run([sys.executable, "-m", "venv", "--clear", folder], check=True)
        install = [python, "-m", "pip", "install", "--quiet", "--require-hashes", "--requirement", requirements]
        if subprocess.run(install, check=False).returncode != 0:
            print(f"{name} could not be installed; ours is shown alone")
            return None
        mark.write_text(requirements.read_text(encoding="utf-8"), encoding="utf-8")
    return python
