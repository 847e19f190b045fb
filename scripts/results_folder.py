"""The folder of an evaluation's results."""

from __future__ import annotations

from pathlib import Path


def results_folder(run_dir: Path, out: Path | None) -> Path:
    """The folder that is named, or a new one in the run's folder; earlier results are not overwritten.

    Args:
        run_dir: Folder of the run.
        out: The folder given by `--out`, if any.

    Raises:
        ValueError: The folder given by `--out` holds results.
    """
    if out is not None:
        if (out / "evaluation.json").exists() or (out / "config.json").exists():
            raise ValueError(f"--out: got {out}, which already holds results; expected another folder")
        return out
    candidates = (run_dir / f"evaluation{suffix}" for suffix in ("", *(f"-{i}" for i in range(2, 10_000))))
    return next(path for path in candidates if not path.exists())
