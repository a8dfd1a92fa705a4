"""What the server computes and draws, as JSON that the tests of the page's modules compare with."""

from base64 import b64encode
from dataclasses import asdict
from io import BytesIO
from itertools import product
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from pydicom import Dataset
from pydicom.pixels import apply_windowing

from cxr_server.bundles.load import load_bundle
from cxr_server.bundles.store import PHANTOM_PATH
from cxr_server.explanation.caption import Caption
from cxr_server.explanation.colormaps import ColorMap
from cxr_server.explanation.heatmap import HeatMap, from_evidence
from cxr_server.explanation.options import HeatScale, RenderFrame, RenderKind, RenderOptions
from cxr_server.explanation.regions import peak, regions
from cxr_server.explanation.render import Renderer
from cxr_server.inference.model_input import Evidence, ImageFacts
from cxr_server.inference.preprocess import XRV
from cxr_server.inference.scoring import Finding
from images import chest_like

MODEL = load_bundle(PHANTOM_PATH).manifest
MASS = Finding("Mass", 4, -1.25, 0.7031251, 0.625, 0.5)
SHAPES_HW = {"square": (120, 120), "tall": (801, 500), "wide": (90, 131), "small": (61, 50)}
OVERLAYS = product((ColorMap.INFERNO, ColorMap.VIRIDIS, ColorMap.JET), (0.0, 0.37, 0.5, 1.0))
DRAWN = [(RenderKind.OVERLAY, *each) for each in OVERLAYS]
DRAWN += [(RenderKind.HEATMAP, color_map, 0.5) for color_map in ColorMap]


def base64_of(values: NDArray[Any]) -> str:
    return b64encode(values.tobytes()).decode()


def grids() -> dict[str, NDArray[np.float32]]:
    """Evidence of every kind: strong, weak, none, level, at the border and finely resolved."""
    random = np.random.default_rng(7)
    noise = random.normal(-2, 6, (7, 7))
    corner = np.full((7, 7), -3.0)
    corner[0, 6], corner[4, 2], corner[5, 2] = 31.7, 12.25, 14.0
    found = {
        "noise": noise,
        "corner": corner,
        "weak": np.clip(noise, -5, 3.2),
        "below 1 logit": np.clip(noise, -50, 0.99),
        "level": np.full((7, 7), 18.1),
        "high everywhere": 20 + noise,
        "ties": np.where(np.indices((7, 7)).sum(axis=0) % 2, 9.5, 40.1),
        "fine": random.normal(3, 15, (16, 16)),
        "oblong": random.normal(0, 9, (5, 8)),
    }
    return {name: grid.astype(np.float32) for name, grid in found.items()}


def grid_json(evidence_hw: NDArray[np.float32]) -> dict[str, Any]:
    rows, columns = evidence_hw.shape
    return {"rows": rows, "columns": columns, "values": evidence_hw.ravel().tolist()}


def facts_of(height_px: int, width_px: int) -> ImageFacts:
    return ImageFacts("PNG", 8, height_px, width_px, XRV.crop(height_px, width_px))


def heat_maps() -> list[dict[str, Any]]:
    """Maps with their regions and the limits of their legends, for and against the finding."""
    crop = facts_of(900, 700).crop
    found = []
    for (name, grid), side, full, negative in product(
        grids().items(), (96, 224), (None, 25.0, 10.0, 333.3), (False, True)
    ):
        heat = from_evidence(-grid if negative else grid, side, full)
        scale = HeatScale.FIXED if full else HeatScale.PER_MAP
        caption = Caption(
            finding=MASS,
            model=MODEL,
            precision="float32",
            method="GRAD_CAM",
            scale=scale,
            heat=heat,
        )
        top = peak(heat, crop)
        found.append(
            {
                "name": f"{name}, side {side}, scale {full}, negative {negative}",
                "evidence": grid_json(grid),
                "side": side,
                "options": {"scale": scale, "fixedScaleLogits": full or 0, "negative": negative},
                "values": base64_of(heat.values_hw),
                "low": heat.low,
                "high": heat.high,
                "peak": heat.peak_row_column,
                "crop": asdict(crop),
                "peakPoint": top and [top.x_px, top.y_px],
                "regions": [asdict(region.box) for region in regions(heat, crop)],
                "limits": caption.limits,
                "unit": caption.unit,
            }
        )
    return found


def picture(evidence: Evidence, heat: HeatMap, options: RenderOptions) -> NDArray[np.uint8]:
    """Return a picture of the whole image or of the model's input, RGB."""
    whole_hw = chest_like(evidence.facts.height_px, evidence.facts.width_px)
    caption = Caption(
        finding=MASS,
        model=MODEL,
        precision="float32",
        method="GRAD_CAM",
        scale=options.scale,
        heat=heat,
    )
    file = Renderer(evidence, options, whole_hw).render(caption)
    return np.array(Image.open(BytesIO(file)))


def pictures() -> list[dict[str, Any]]:
    """Pictures in both frames, each with the grey picture that lies under its heat."""
    found = []
    grid = grids()["corner"]
    for name, (height_px, width_px) in SHAPES_HW.items():
        facts = facts_of(height_px, width_px)
        evidence = Evidence(grid[None], (), chest_like(96, 96), facts, ())
        heats = {
            scale: from_evidence(grid, 96, 25.0 if scale == "FIXED" else None)
            for scale in HeatScale
        }
        for frame in RenderFrame:
            bare = RenderOptions(frame=frame, opacity=0, max_side_px=300)
            ground_hw = picture(evidence, heats[HeatScale.PER_MAP], bare)[..., 0]
            drawn = []
            for (kind, color_map, opacity), scale in product(DRAWN, HeatScale):
                contours = opacity == 0.5
                options = RenderOptions(
                    kind=kind,
                    frame=frame,
                    color_map=color_map,
                    opacity=opacity,
                    scale=scale,
                    contours=contours,
                    max_side_px=300,
                )
                drawn.append(
                    {
                        "kind": options.kind,
                        "colorMap": color_map,
                        "opacity": opacity,
                        "scale": scale,
                        "fixedScaleLogits": 25,
                        "negative": False,
                        "contours": contours,
                        "rgb": base64_of(picture(evidence, heats[scale], options)),
                    }
                )
            height, width = ground_hw.shape
            found.append(
                {
                    "name": f"{name}, {frame}",
                    "frame": frame,
                    "width": width,
                    "height": height,
                    "side": 96,
                    "evidence": grid_json(grid),
                    "info": {
                        "width_px": width_px,
                        "height_px": height_px,
                        "crop_box": asdict(facts.crop),
                    },
                    "ground": base64_of(ground_hw),
                    "drawn": drawn,
                }
            )
    return found


def colors_over_grey() -> list[dict[str, Any]]:
    """The 256 levels as they are drawn over grey 128, one a pixel."""
    ramp_hw = (np.arange(256, dtype=np.float32) / 255).reshape(16, 16)
    evidence = Evidence(
        np.zeros((1, 7, 7), np.float32), (), np.full((16, 16), 128, np.uint8), facts_of(16, 16), ()
    )
    found = []
    for color_map, opacity in product(ColorMap, (0.0, 0.4, 1.0)):
        kind = RenderKind.HEATMAP if color_map is ColorMap.GRAY else RenderKind.OVERLAY
        options = RenderOptions(kind=kind, color_map=color_map, opacity=opacity)
        rgb = picture(evidence, HeatMap(ramp_hw, 0, 25, (15, 15)), options)
        found.append(
            {"kind": kind, "colorMap": color_map, "opacity": opacity, "rgb": base64_of(rgb)}
        )
    return found


def resized() -> list[dict[str, Any]]:
    """Levels in another size, enlarged and reduced."""
    levels_hw = np.random.default_rng(3).integers(0, 256, (37, 29), dtype=np.uint8)
    sizes = [(29, 37), (29, 80), (200, 37), (111, 150), (7, 5), (28, 38), (1, 1), (300, 301)]
    return [
        {
            "from": base64_of(levels_hw),
            "width": 29,
            "height": 37,
            "to": size,
            "levels": base64_of(
                np.array(Image.fromarray(levels_hw).resize(size, Image.Resampling.BILINEAR))
            ),
        }
        for size in sizes
    ]


def windows() -> list[dict[str, Any]]:
    """All grey levels in windows of DICOM."""
    found = []
    for level, width in ((128, 256), (40, 2), (100, 80), (0, 512), (256, 33), (127.5, 100.5)):
        header = Dataset()
        header.WindowCenter, header.WindowWidth = level, width
        header.PhotometricInterpretation, header.BitsStored = "MONOCHROME2", 8
        header.PixelRepresentation = 0
        shown = apply_windowing(np.arange(256, dtype=np.uint8), header)
        found.append({"level": level, "width": width, "shown": shown.tolist()})
    return found


def everything() -> dict[str, Any]:
    return {
        "heatMaps": heat_maps(),
        "pictures": pictures(),
        "colorsOverGrey": colors_over_grey(),
        "resized": resized(),
        "windows": windows(),
    }
