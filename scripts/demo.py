"""The demo: drawn radiographs for the phantom model, and one of yours for a real model.

    make demo                        # the drawn ones alone: needs no network
    make demo RADIOGRAPH=film.dcm    # and a PNG, JPEG or DICOM file of yours

For your radiograph the published model is downloaded once, verified and converted; where that
fails, the phantom answers in its place. The environment may change where things come from and go:

    DEMO_MODEL     the real model, a name that `cxr-server models` lists
    DEMO_PREPARE   words for `cxr-server prepare`, such as "--url https://mirror/weights.pt"
    DEMO_OUTPUT    the folder for heatmaps and logs

For research use only: nothing that this prints or writes is a diagnosis.
"""

import os
import shlex
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
EXAMPLES = ROOT / "client" / "examples"
OUTPUT = Path(os.environ.get("DEMO_OUTPUT", "demo-out"))
REAL_MODEL = os.environ.get("DEMO_MODEL", "densenet121-res224-all")
PREPARE_WORDS = shlex.split(os.environ.get("DEMO_PREPARE", ""))
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


def prepare() -> bool:
    """Prepare the real model unless it is there. Returns whether it can be served now."""
    say(f"{REAL_MODEL}, for radiographs of people")
    command = [*SERVER, "prepare", "--if-missing", REAL_MODEL, *PREPARE_WORDS]
    return subprocess.run(command).returncode == 0


@contextmanager
def serving(model: str) -> Iterator[str]:
    """Run the server on a free port and yield its address; stop it at the end.

    The server prints its address once it has answered a request of its own, so there is
    nothing to poll for.
    """
    say(f"the server, with {model}")
    log_path = OUTPUT / f"server-{model}.log"
    with log_path.open("w") as log:
        server = subprocess.Popen(
            [
                *SERVER,
                *("serve", "--model", model, "--listen", "127.0.0.1:0"),
                *("--log-format", "console"),
            ],
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


def show_radiographs(radiographs: list[str], address: str) -> None:
    """Run the example caller on each radiograph."""
    for radiograph in radiographs:
        say(f"examples/predict_sync.py on {Path(radiograph).name}")
        run_example("predict_sync.py", address, OUTPUT, Path(radiograph))


def main(radiographs: list[str]) -> int:
    """Run the whole demo. Returns the exit status."""
    for radiograph in radiographs:
        with open(radiograph, "rb"):  # Fails before anything is downloaded.
            pass
    OUTPUT.mkdir(parents=True, exist_ok=True)
    real = bool(radiographs) and prepare()
    say("phantoms: drawn radiographs, named after what is planted in them")
    phantoms = copy_phantoms()
    print("\n".join(map(str, phantoms)))
    with serving("phantom") as address:
        say(f"examples/predict_sync.py on {phantoms[0].name}")
        run_example("predict_sync.py", address, OUTPUT, phantoms[0])
        say("examples/predict_async.py on all of them at once")
        run_example("predict_async.py", address, OUTPUT / "many", *phantoms)
        if radiographs and not real:
            say(
                f"{REAL_MODEL} could not be prepared, as was said above: the phantom model answers"
                " in its place, and its scores mean nothing. With a copy of the weights:"
                f' make demo RADIOGRAPH={shlex.quote(radiographs[0])} DEMO_PREPARE="--from FILE"'
            )
            show_radiographs(radiographs, address)
    if real:
        with serving(REAL_MODEL) as address:
            show_radiographs(radiographs, address)

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
