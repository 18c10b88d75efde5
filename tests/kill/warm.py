"""`ldm-export`, but a build exports in this process and remembers its traces: what comes after them is reached soon.

Run as `python -m tests.kill.warm VERB ...`; the variable `TRACES` names the folder of the traces.
"""

import os
from pathlib import Path

import pytest

from ldm_export.cli.main import main
from tests import traces

if __name__ == "__main__":
    traces.remember_in_builds(Path(os.environ["TRACES"]), pytest.MonkeyPatch(), also=())
    main()
