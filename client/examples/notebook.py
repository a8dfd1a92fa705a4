# %% [markdown]
"""# Findings and heat maps of several radiographs in one figure.

A notebook in the percent format: Jupyter opens it with jupytext, editors run its cells, and
`python notebook.py` runs it as a script. It needs matplotlib and Pillow. The server is
`CXR_SERVER`; the radiographs are the PNG and JPEG files of the folder `CXR_FILMS`.

For research use only: nothing that this draws is a diagnosis.
"""

# %%
import os
import textwrap
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.cm import ScalarMappable
from matplotlib.colors import ListedColormap, Normalize

from cxr_client import Client, ExplanationSet, RenderOptions

SERVER = os.environ.get("CXR_SERVER", "127.0.0.1:50051")
FILMS = Path(os.environ.get("CXR_FILMS", "phantoms"))
LABELS = ("Cardiomegaly", "Effusion", "Consolidation")
FULL_COLOR_LOGITS = 60  # the phantom model has more evidence than models of real films: 25
OPACITY = 0.5

# %% [markdown]
"""
One call a film gives every score and the maps of `LABELS`. With the scale FIXED a colour stands
for the same evidence in every map, so that films and findings can be compared.
"""

# %%
RENDER = RenderOptions(
    frame="ORIGINAL",
    scale="FIXED",
    fixed_scale_logits=FULL_COLOR_LOGITS,
    opacity=OPACITY,
    max_side_px=400,
)
files = [
    file for file in sorted(FILMS.iterdir()) if file.suffix.lower() in (".png", ".jpg", ".jpeg")
]
assert files, f"no PNG or JPEG file in {FILMS}"
films: dict[str, ExplanationSet] = {}
with Client(SERVER, timeout_s=60) as client:
    for file in files[:4]:
        films[file.stem] = client.explain(file, labels=LABELS, render=RENDER)

# %% [markdown]
"""
A row for each film: its five highest scores as bars that begin at 0.5, the operating point, and a
map for each finding of `LABELS`.
"""

# %%
ABOVE, BELOW = "#d9822b", "#5b7c99"
figure, rows = plt.subplots(
    len(films),
    1 + len(LABELS),
    figsize=(3 * (1 + len(LABELS)), 2.7 * len(films)),
    width_ratios=(1.1, *(1 for _ in LABELS)),
    squeeze=False,
    layout="constrained",
)
for (name, film), (bars, *maps) in zip(films.items(), rows, strict=True):
    top = film.findings[:5]
    bars.barh(
        [f"{finding.label}  {finding.score:.3f}" for finding in top],
        [finding.score - 0.5 for finding in top],
        left=0.5,
        color=[ABOVE if finding.above_threshold else BELOW for finding in top],
    )
    bars.axvline(0.5, color="black", linewidth=0.8)
    bars.set(title=name, xlim=(0, 1), xticks=(0, 0.5, 1))
    bars.invert_yaxis()
    bars.spines[["top", "right"]].set_visible(False)
    for axes, explanation in zip(maps, film, strict=True):
        finding = explanation.finding
        axes.imshow(explanation.image())
        axes.set_title(f"{finding.label} {finding.score:.3f}{'*' * finding.above_threshold}")
        axes.axis("off")

# The colours as they are drawn: heat over mid grey, the more opaque the stronger.
heat = np.linspace(0, 1, 256)[:, np.newaxis]
opacity = OPACITY * np.minimum(2 * heat, 1)
drawn = opacity * plt.colormaps["inferno"](heat[:, 0])[:, :3] + (1 - opacity) * 0.5
scale = ScalarMappable(Normalize(0, FULL_COLOR_LOGITS), ListedColormap(drawn))
figure.colorbar(scale, ax=rows[:, 1:], label="evidence, logits", shrink=0.6, extend="max")

figure.suptitle(f"{film.model.name} {film.model.version}")
notice = textwrap.fill(film.notice, 48 * (1 + len(LABELS)))
figure.supxlabel(f"* above the operating point, a score of 0.5\n{notice}", fontsize="small")
figure.savefig("films.png", dpi=110)
print("wrote films.png")
