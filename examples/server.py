"""Serve images over HTTP, such as /?prompt=red+apple,+3d+style&seed=1: python examples/server.py [PORT]"""

import io
import os
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, urlsplit

import ldm_runtime

PIPELINE = ldm_runtime.load(threads=1)  # threads share it
AT_ONCE = threading.BoundedSemaphore(os.cpu_count() or 1)  # more images at a time would only take more memory


def draw(prompt: str, seed: int) -> bytes:
    png = io.BytesIO()
    with AT_ONCE:
        PIPELINE(prompt, seed=seed)[0].save(png, format="PNG")
    return png.getvalue()


class Handler(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        query = parse_qs(urlsplit(self.path).query)
        try:
            status, kind, body = 200, "image/png", draw(query["prompt"][0], int(query.get("seed", ["0"])[0]))
        except (KeyError, ValueError, ldm_runtime.InputError) as error:  # an InputError is one clear sentence
            said = "there is no prompt; expected /?prompt=red+apple" if isinstance(error, KeyError) else error
            status, kind, body = 400, "text/plain; charset=utf-8", f"{said}\n".encode()
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.end_headers()
        self.wfile.write(body)


if __name__ == "__main__":
    with ThreadingHTTPServer(("localhost", int(sys.argv[1]) if sys.argv[1:] else 8000), Handler) as server:
        print(f"http://localhost:{server.server_port}/?prompt=red+apple,+3d+style", flush=True)
        server.serve_forever()
