"""The demo: copy the sample radiographs, serve the phantom model, run the example callers.

    make demo                        # the samples alone
    make demo RADIOGRAPH=chest.png   # and a radiograph of yours

For research use only: nothing that this prints or writes is a diagnosis.
"""

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
EXAMPLES = ROOT / "client" / "examples"
OUTPUT = Path(os.environ.get("DEMO_OUTPUT", "demo-out"))
SERVER = (sys.executable, "-m", "cxr_server")
STOP_TIMEOUT_S = 30


def say(text: str) -> None:
    """Print a heading, flushed, so that it precedes the output of child processes."""
    print(f"\n== {text}", flush=True)


def copy_phantoms() -> list[Path]:
    """Copy the sample radiographs, each named after the findings planted in it."""
    folder = OUTPUT / "phantoms"
    copied = subprocess.run(
        [*SERVER, "phantom-samples", "--output", str(folder)],
        check=True,
        stdout=subprocess.PIPE,
        text=True,
    )
    return [Path(line) for line in copied.stdout.splitlines()]


@contextmanager
def serving() -> Iterator[str]:
    """Run the server on a free port and yield its address; stop it at the end.

    The server prints its address once it has answered a request of its own, so there is
    nothing to poll for.
    """
    log_path = OUTPUT / "server.log"
    with log_path.open("w") as log:
        server = subprocess.Popen(
            [*SERVER, "serve", "--listen", "127.0.0.1:0", "--log-format", "console"],
            stdout=subprocess.PIPE,
            stderr=log,
            text=True,
        )
    assert server.stdout is not None
    try:
        banner = server.stdout.readline().strip()
        if not banner:
            raise RuntimeError(f"the server did not start:\n{log_path.read_text()}")
        print(banner, flush=True)
        yield banner.split(" on ")[1].split()[0]
    finally:
        server.terminate()
        try:
            server.wait(STOP_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            server.kill()
        server.stdout.close()


def run_example(name: str, address: str, output: Path, *images: Path) -> None:
    """Run an example caller on these images."""
    words = [*map(str, images), "--server", address, "--output", str(output)]
    subprocess.run([sys.executable, str(EXAMPLES / name), *words], check=True)


def main(radiographs: list[str]) -> int:
    """Run the whole demo. Returns the exit status."""
    for radiograph in radiographs:
        with open(radiograph, "rb"):  # Fails before the server is started.
            pass
    OUTPUT.mkdir(parents=True, exist_ok=True)
    say("phantoms: drawn radiographs, named after what is planted in them")
    phantoms = copy_phantoms()
    print("\n".join(map(str, phantoms)))

    say("the server, with the bundled phantom model")
    with serving() as address:
        say(f"examples/predict_sync.py on {phantoms[0].name}")
        run_example("predict_sync.py", address, OUTPUT, phantoms[0])
        say("examples/predict_async.py on all of them at once")
        run_example("predict_async.py", address, OUTPUT / "many", *phantoms)
        for radiograph in radiographs:
            say(f"examples/predict_sync.py on {Path(radiograph).name}")
            run_example("predict_sync.py", address, OUTPUT, Path(radiograph))

    pictures = sorted([*OUTPUT.glob("*.png"), *OUTPUT.glob("many/*.png")])
    say(f"{len(pictures)} heatmaps in {OUTPUT.resolve()}")
    print("\n".join(map(str, pictures)))
    return 0


if __name__ == "__main__":
    try:
        sys.exit(main([word for word in sys.argv[1:] if word]))
    except subprocess.CalledProcessError as error:
        sys.exit(error.returncode)  # The program has said what failed.
    except (OSError, RuntimeError) as error:
        sys.exit(f"the demo failed: {error}")
