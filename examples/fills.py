"""Several fills in one sweep

You get: how much of an occlusion map comes from the image, and how much from the colour of the square.

A square hides something, and it shows something. A grey square on a bright table is an object of its own. If a
finding holds for several fills, it is the image's.
"""

# %% [markdown]
# ## Four fills
#
# The fill 0 is the mean colour that the preprocessing subtracts. "mean" is the mean colour of the image itself.
# "blur" fades the image out towards the middle of the square. `noise` draws random pixels with the mean and the
# standard deviation of the image. The network runs on the clean image once for all fills.

# %%
import matplotlib.pyplot as plt

import zfkernels as zf
from zfkernels.data import embedded_photos
from zfkernels.models import get_model, get_preprocess

model, photos = get_model("zfnet64"), embedded_photos()
image = get_preprocess("zfnet64")(photos.picture("coffee"))[None]  # [1, 3, 64, 64]
fills = [0.0, "mean", "blur", zf.occlusion.noise(seed=0)]
sweep = zf.occlusion_sweep(model, image, window=12, stride=2, fill=fills)
print(sweep.drops().shape)  # [4, 1, 27, 27]: fill, image, row and column of the grid

# %% [markdown]
# ## Do they agree?
#
# `agreement()` is the rank correlation of every two maps over the places of the square. It is 1 if two fills order
# all places in the same way.

# %%
for name, row in zip(sweep.names, sweep.agreement()[0].tolist(), strict=True):
    print(f"{name:10}", " ".join(f"{value:5.2f}" for value in row))

# %%
figure, panels = plt.subplots(2, 3, figsize=(9, 6), layout="constrained")
shown = [*zip(sweep.names, sweep.drops()[:, 0], strict=True), ("mean over the fills", sweep.mean()[0])]
limit = max(float(values.abs().max()) for _, values in shown)
for panel, (name, values) in zip(panels.flat, shown, strict=False):
    heat = panel.imshow(values, cmap="RdBu_r", vmin=-limit, vmax=limit)
    panel.set_title(name if name.startswith("mean ") else f"fill {name}", fontsize=10)
spread = panels.flat[5].imshow(sweep.spread()[0], cmap="Greys")
panels.flat[5].set_title("deviation over the fills", fontsize=10)
for panel in panels.flat:
    panel.set(xticks=[], yticks=[])
figure.colorbar(heat, ax=panels[0], label="fall of the class's output")
figure.colorbar(spread, ax=panels[1], label="deviation")
figure.savefig("fills.png", dpi=150)

# %% [markdown]
# ![The map of each of the four fills, their mean, and their deviation](../made/fills/fills.png)
#
# *Red: hiding this place lowers the output of "espresso". All four fills find the cup. Three of them agree that its
# left rim matters most. Under the blur, which lowers the output least, it is the inside of the cup.*
#
# ## Next
#
# A list of fills works in [`occlusion_sweeps`](data_set.md) too. [How to read the
# pictures](../background/reading.md) says what an occlusion map cannot show.
