"""Answer texts over a plain socket with a bundle in one thread: what a server costs beyond this is its own.

Each text is a line; the answer is the bytes of its vector.
"""

import socketserver
import sys

import headway

bundle = headway.open(sys.argv[1], threads=1)


socketserver.TCPServer.allow_reuse_address = True


class Lines(socketserver.StreamRequestHandler):
    disable_nagle_algorithm = True

    def handle(self) -> None:
        for line in self.rfile:
            self.wfile.write(bundle([line.decode().rstrip("\n")])["sentence_embedding"].tobytes())


if __name__ == "__main__":
    with socketserver.TCPServer(("127.0.0.1", int(sys.argv[2])), Lines) as server:
        server.serve_forever()
