# SPDX-License-Identifier: Apache-2.0
"""Whether the agent of this container answers; the image's HEALTHCHECK runs it.

Any answer will do, a refusal too: an agent that wants a password, or TLS with a client's certificate, says so
and is well. Nothing is verified here, and no secret is needed.
"""

from __future__ import annotations

import socket
import sys
from contextlib import suppress

PORT = 10110
SECONDS = 4.0


def main(port: int) -> int:
    """0 where somebody answers in time, by a closed connection at least; 1 where nobody does."""
    try:
        with socket.create_connection(("127.0.0.1", port), SECONDS) as connection:
            connection.sendall(b"GET /-/healthy HTTP/1.0\r\n\r\n")
            # One that waits for TLS takes this for no TLS, and resets the connection.
            with suppress(ConnectionResetError):
                connection.recv(1)
    except OSError as error:
        print(f"port {port} of 127.0.0.1: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1]) if len(sys.argv) > 1 else PORT))
