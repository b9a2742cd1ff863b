"""The worker with nothing compressed that it writes: ``python -m bench.uncompressed_worker``."""

from __future__ import annotations

import sys
from functools import partial

import pipeline.app
from mailstream.cli import main
from pipeline.transport.options import EngineOptions

if __name__ == "__main__":
    options = partial(EngineOptions, compression="none")
    setattr(pipeline.app, "EngineOptions", options)  # noqa: B010  there is no setting for it
    sys.argv[1:] = ["worker", *sys.argv[1:]]
    main()
