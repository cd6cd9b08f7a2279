"""A server of files on this machine, which answers as a test tells it to."""

import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class FileServer:
    """Answers on 127.0.0.1 as told: `answer(handler, start)` for each request, whose headers are kept."""

    def __init__(self, answer, path="file.pth"):
        self.requests = []
        server = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self):
                server.requests.append((self.path, self.headers.get("Range")))
                wanted = self.headers.get("Range", "bytes=0-")
                answer(self, int(wanted.removeprefix("bytes=").rstrip("-")))

            def log_message(self, *arguments):
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}/{path}"
        self.thread = threading.Thread(target=self.server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
        self.thread.start()

    def close(self):
        self.server.shutdown()
        self.server.server_close()


def send(handler, status, body, length=None, **headers):
    handler.send_response(status)
    for key, value in headers.items():
        handler.send_header(key.replace("_", "-"), value)
    handler.send_header("Content-Length", str(len(body) if length is None else length))
    handler.end_headers()
    handler.wfile.write(body)


def send_from(handler, start, content):
    """All of a file, or what stands behind `start`, as a server with ranges does."""
    if start >= len(content):
        send(handler, 416, b"")
    elif start:
        send(handler, 206, content[start:], Content_Range=f"bytes {start}-{len(content) - 1}/{len(content)}")
    else:
        send(handler, 200, content)
