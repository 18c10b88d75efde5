"""SIGTERM ends the program: by unwinding where Python hears it, by force where a library's call does not return."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow  # waits for processes

ROOT = Path(__file__).parents[2]
# A call of native code without an end, which lets other threads run.
NATIVE = """
import sqlite3
endless = "WITH RECURSIVE c(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM c) SELECT count(*) FROM c"
sqlite3.connect(":memory:").execute(endless).fetchall()
"""
PYTHON = """
import time
try:
    time.sleep(60)
finally:
    {last}
    print("unwound", flush=True)
"""


def start(body: str, grace: float) -> subprocess.Popen:
    program = (
        "from ldm_export.process import termination\n"
        f"termination.GRACE_SECONDS = {grace}; termination.end_on_request()\n"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", f"{program}print('ready', flush=True)\n{body}"],
        env={**os.environ, "PYTHONPATH": f"{ROOT}{os.pathsep}{ROOT / 'runtime'}"},
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None and process.stdout.readline() == "ready\n"
    time.sleep(0.3)  # into the call
    return process


def test_a_request_unwinds_and_what_that_takes_is_waited_for():
    process = start(PYTHON.format(last="time.sleep(1)"), grace=0.1)
    process.send_signal(signal.SIGTERM)
    output, _ = process.communicate(timeout=60)
    assert process.returncode == 128 + signal.SIGTERM and output == "unwound\n"


def test_a_native_call_that_does_not_return_is_ended_after_the_grace():
    process = start(NATIVE, grace=0.5)
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=60)
    assert process.returncode == 128 + signal.SIGTERM


@pytest.mark.parametrize("body", [NATIVE, PYTHON.format(last="time.sleep(60)")])
def test_a_second_request_ends_at_once(body):
    process = start(body, grace=600)
    process.send_signal(signal.SIGTERM)
    time.sleep(0.5)
    assert process.poll() is None
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=30)
    assert process.returncode == 128 + signal.SIGTERM


FORKED = """
import os, time
child = os.fork()
if child == 0:
    try:
        time.sleep(60)
    finally:
        print("the child unwound what is its parent's", flush=True)
print(child, flush=True)
_, status = os.waitpid(child, 0)
time.sleep(1)
print(os.waitstatus_to_exitcode(status), flush=True)
"""


def test_a_request_to_a_forked_process_ends_that_one_alone_and_at_once():
    process = start(FORKED, grace=0.1)
    assert process.stdout is not None
    os.kill(int(process.stdout.readline()), signal.SIGTERM)
    output, _ = process.communicate(timeout=60)
    assert output == f"{-signal.SIGTERM}\n" and process.returncode == 0
