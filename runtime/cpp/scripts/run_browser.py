"""Runs the core's WebAssembly tests in a headless Chromium: python scripts/run_browser.py FOLDER [--browser PROGRAM].

FOLDER holds the programs, such as build-cross/wasm32/tests. The page is tests/browser/index.html.
"""

import argparse
import json
import shutil
import subprocess
import sys
import tempfile
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

SOURCE = Path(__file__).resolve().parents[1]
ROOT = SOURCE.parents[1]
FOLDERS = (ROOT / "tests" / "golden", ROOT / "runtime" / "ldm_runtime" / "builtin")  # of files that tests read
PAGE = SOURCE / "tests" / "browser"
BROWSERS = ("chromium", "chromium-browser", "google-chrome")
KINDS = {".html": "text/html", ".mjs": "text/javascript", ".wasm": "application/wasm"}
SECONDS = 300
MOST_BYTES = 4_000_000  # of a file: the weights of the built-in model are larger


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--browser", default=next(filter(shutil.which, BROWSERS), None))
    arguments = parser.parse_args()
    if arguments.browser is None:
        sys.exit(f"no browser is installed; expected one of {', '.join(BROWSERS)}")
    results = run(arguments.folder, arguments.browser)
    for result in results:
        passed = result["status"] == 0
        print(f"{result['name']}: {'passed' if passed else 'FAILED'} in {result['milliseconds']} ms")
        if not passed:
            print(result["output"])
    return 0 if results and all(result["status"] == 0 for result in results) else 1


def run(folder: Path, browser: str) -> list[dict]:
    """Return the name, status, output and time of each program."""
    results: list[dict] = []
    done = threading.Event()
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler(folder, results, done))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile:
        address = f"http://127.0.0.1:{server.server_port}/index.html"
        options = ["--headless=new", "--no-sandbox", "--disable-gpu", "--no-first-run", f"--user-data-dir={profile}"]
        process = subprocess.Popen([browser, *options, address], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        try:
            done.wait(SECONDS)
        finally:
            process.terminate()
            process.wait()
            server.shutdown()
    return results


def handler(folder: Path, results: list[dict], done: threading.Event) -> type[BaseHTTPRequestHandler]:
    programs = {file.name: file for file in sorted(folder.glob("*_test.wasm"))}
    found = [file for folder in FOLDERS for file in folder.rglob("*") if file.is_file()]
    files = {file.relative_to(ROOT).as_posix(): file for file in found if file.stat().st_size < MOST_BYTES}
    served = {f"/programs/{name}": file for name, file in programs.items()}
    served |= {f"/files/{name}": file for name, file in files.items()}
    served |= {f"/{file.name}": file for file in PAGE.iterdir()}
    tests = json.dumps({"programs": list(programs), "folder": str(ROOT), "files": list(files)}).encode()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            if self.path == "/tests.json":
                self.answer(tests, "application/json")
            elif self.path in served:
                self.answer(
                    served[self.path].read_bytes(), KINDS.get(served[self.path].suffix, "application/octet-stream")
                )
            else:
                self.send_error(404)

        def do_POST(self) -> None:
            results.extend(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
            self.answer(b"", "text/plain")
            done.set()

        def answer(self, content: bytes, kind: str) -> None:
            self.send_response(200)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *arguments: object) -> None:
            pass

    return Handler


if __name__ == "__main__":
    sys.exit(main())
