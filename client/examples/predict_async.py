"""Score and explain any number of chest radiographs concurrently, with one call for each.

    python predict_async.py *.png [--server 127.0.0.1:50051] [--output DIR]

For research use only: nothing that this prints or draws is a diagnosis.
"""

import argparse
import asyncio
import sys
from pathlib import Path

from cxr_client import AsyncClient, CxrError, ExplanationSet, RenderOptions

RENDER = RenderOptions(frame="ORIGINAL", legend=True)


async def examine(client: AsyncClient, image: Path, output: Path) -> ExplanationSet | None:
    """Print the findings of one image as soon as they arrive, and write one picture."""
    try:
        explained = await client.explain(image, render=RENDER)
    except (CxrError, OSError) as error:
        print(f"{image.name}: failed: {error}", file=sys.stderr)
        return None
    scores = [f"{finding.label:<16} {finding.score:.3f}" for finding in explained.findings[:3]]
    top = explained.explanations[0]
    picture = top.save(output / f"{image.stem}-{top.finding.label}.png")
    print(f"{image.name:<36} {'  '.join(scores)}  wrote {picture}")
    return explained


async def main(argv: list[str] | None = None) -> int:
    """Examine all images; the client has 32 of them in flight and waits for a full server."""
    parser = argparse.ArgumentParser()
    parser.add_argument("images", type=Path, nargs="+")
    parser.add_argument("--server", default="127.0.0.1:50051")
    parser.add_argument("--output", type=Path, default=Path())
    arguments = parser.parse_args(argv)

    arguments.output.mkdir(parents=True, exist_ok=True)
    async with AsyncClient(arguments.server, timeout_s=60) as client:
        try:
            await client.wait_until_ready(60)
        except CxrError as error:
            print(f"failed: {error}", file=sys.stderr)
            return 1
        done = await asyncio.gather(
            *(examine(client, image, arguments.output) for image in arguments.images)
        )
    print(next((explained.notice for explained in done if explained), "nothing was answered"))
    return 0 if all(done) else 1


if __name__ == "__main__":
    sys.exit(asyncio.run(main()))
