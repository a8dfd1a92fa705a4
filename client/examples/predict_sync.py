"""Score one chest radiograph and draw where the evidence for its top finding lies.

    python predict_sync.py chest.png [--server 127.0.0.1:50051] [--output DIR]

For research use only: nothing that this prints or draws is a diagnosis.
"""

import argparse
import sys
from pathlib import Path

from cxr_client import Client, CxrError, RenderOptions


def main(argv: list[str] | None = None) -> int:
    """Print a table of findings and write one PNG."""
    parser = argparse.ArgumentParser()
    parser.add_argument("image", type=Path)
    parser.add_argument("--server", default="127.0.0.1:50051")
    parser.add_argument("--output", type=Path, default=Path())
    arguments = parser.parse_args(argv)

    with Client(arguments.server, timeout_s=30) as client:
        try:
            prediction = client.predict(arguments.image, top_k=5)
            top = prediction.findings[0].label
            render = RenderOptions(frame="ORIGINAL", legend=True)
            explained = client.explain(arguments.image, labels=[top], render=render)
        except (CxrError, OSError) as error:
            print(f"failed: {error}", file=sys.stderr)
            return 1

    print(f"{arguments.image.name}: {prediction.model.name} {prediction.model.version}")
    for finding in prediction.findings:
        mark = "*" if finding.above_threshold else " "
        print(f"{mark} {finding.label:<28} {finding.score:.3f}")
    for warning in prediction.warnings:
        print(f"! {warning.message}")
    arguments.output.mkdir(parents=True, exist_ok=True)
    picture = explained.explanations[0].save(arguments.output / f"{arguments.image.stem}-{top}.png")
    print(f"wrote {picture}")
    print(prediction.notice)
    return 0


if __name__ == "__main__":
    sys.exit(main())
