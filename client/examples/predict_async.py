"""Score and explain many chest radiographs at once.

    python predict_async.py *.png [--server 127.0.0.1:50051] [--output DIR]

For research use only: nothing that this prints or draws is a diagnosis.
"""

import argparse
import asyncio
import sys
from pathlib import Path

from cxr_client import AsyncClient, CxrError, Prediction


async def examine(client: AsyncClient, image: Path, output: Path) -> Prediction | None:
    """Print one image's findings as soon as they are there, and write one PNG."""
    try:
        prediction, explained = await asyncio.gather(
            client.predict(image, top_k=3), client.explain(image)
        )
    except (CxrError, OSError) as error:
        print(f"{image.name}: failed: {error}", file=sys.stderr)
        return None
    scores = [f"{finding.label:<16} {finding.score:.3f}" for finding in prediction.findings]
    top = explained.explanations[0]
    picture = top.save(output / f"{image.stem}-{top.finding.label}.png")
    print(f"{image.name:<28} {'  '.join(scores)}  wrote {picture}")
    return prediction


async def main(argv: list[str] | None = None) -> int:
    """Examine all images at once: what a full server refuses is sent again when it says so."""
    parser = argparse.ArgumentParser()
    parser.add_argument("images", type=Path, nargs="+")
    parser.add_argument("--server", default="127.0.0.1:50051")
    parser.add_argument("--output", type=Path, default=Path())
    arguments = parser.parse_args(argv)

    arguments.output.mkdir(parents=True, exist_ok=True)
    async with AsyncClient(arguments.server, timeout_s=60) as client:
        done = await asyncio.gather(
            *(examine(client, image, arguments.output) for image in arguments.images)
        )
    print(next((prediction.notice for prediction in done if prediction), "nothing was answered"))
    return 0 if all(done) else 1


if __name__ == "__main__":
    sys.exit(asyncio.run(main()))
