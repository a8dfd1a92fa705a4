"""`make view`: the phantom model behind the page of `cxr view`, until Ctrl-C.

    make view                            # the drawn samples, on http://127.0.0.1:3000/
    make view VIEW_ARGS="--port 0 FOLDER"

The arguments are those of `cxr view`. For research use only.
"""

import signal
import subprocess
import sys
from collections.abc import Sequence

from scripts.demo import OUTPUT, serving

VIEW = "import sys; from cxr_client.cli import main; sys.exit(main())"


def main(arguments: Sequence[str]) -> int:
    """Serve the model and the page. Returns the exit status of `cxr view`."""
    OUTPUT.mkdir(parents=True, exist_ok=True)
    with serving("phantom") as address:
        command = [sys.executable, "-c", VIEW, "view", "--server", address, *arguments]
        page = subprocess.Popen(command)
        # Ctrl-C reaches the page and the server as well; `kill` this process alone.
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, lambda *_: page.terminate())
        return page.wait()


if __name__ == "__main__":
    try:
        sys.exit(main(sys.argv[1:]))
    except (OSError, RuntimeError) as error:
        sys.exit(f"the page cannot be served: {error}")
