"""``python -m mailstream``: the program; also how ``mailstream run`` starts its parts."""

from __future__ import annotations

import os

from mailstream.cli import main
from mailstream.processes import follow_supervisor

if __name__ == "__main__":
    follow_supervisor(os.environ)
    main()
