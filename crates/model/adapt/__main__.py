"""`python -m adapt`: reads the base and the data, trains, exports, verifies."""

from __future__ import annotations

import shutil
import sys

from .bases import BaseError
from .job import prepare
from .options import read


def main() -> int:
    args, sources = read()
    if args.verify and not args.no_export and shutil.which(args.verify) is None:
        raise ValueError(f"--verify {args.verify}: there is no such program; --verify '' writes the result without it")
    job = prepare(args, sources)
    run, workers = job.run, job.run.workers
    if workers.leads:
        size = sum(p.numel() for p in job.trained.values())
        print(f"{job.base.name}: {size:,} trained numbers on {workers.count} x {workers.device}, from step {run.state.step}")
        for part in job.mixture.parts:
            print(f"  {part.source.name or part.source.path}: {part.count} documents, {part.tokens:,} tokens", flush=True)
    if not run.train():
        print(f"stopped at step {run.state.step}; the same command goes on", flush=True)
        return 130
    if job.examiner:
        run.report(job.examiner.numbers((1, 3, 8), prefix_only=True))
    if not workers.leads or args.no_export:
        return 0
    result = job.export()
    print(f"written: {result}", flush=True)
    return job.verify(result) if args.verify else 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except (BaseError, ValueError, OSError) as error:
        sys.exit(f"adapt: {error}")
