"""Two squares at once

You get: which parts of an image can replace each other for the network, and which it needs together.

If the effects of two squares add up, hiding both lowers the output by the sum of what each does alone. If the output
falls less, the network needs both parts together: hiding one of them already removes what the other adds. If it falls
more, each part can replace the other.
"""

# %% [markdown]
# ## All pairs of a grid

# %%
import matplotlib.pyplot as plt
import torch

import zfkernels as zf
from zfkernels.data import embedded_photos
from zfkernels.models import get_model, get_preprocess

model, photos = get_model("zfnet64"), embedded_photos()
image = get_preprocess("zfnet64")(photos.picture("coffee"))[None]  # [1, 3, 64, 64]
starts = torch.arange(0, 64, 8)
positions = torch.cartesian_prod(starts, starts)  # 64 squares of 8, row by row
found = zf.occlusion_pairs(model, image, window=8, positions=positions)
print(found.pairs.shape, found.outputs.shape)  # [2016, 2] and [1, 2016, 200]

# %% [markdown]
# Only the cells of a layer that *both* squares can reach are computed anew. All others come from the two single
# sweeps.
#
# ## The interaction
#
# f(a, b) − f(a) − f(b) + f(clean), for the output of the photo's class:

# %%
target = int(found.clean.argmax())
interaction = torch.zeros(64, 64)
first, second = found.pairs.T
interaction[first, second] = interaction[second, first] = found.interaction()[0, :, target]
drop = (found.clean[:, None, target] - found.singles[..., target])[0]
strongest = int(drop.argmax())
print(model.class_names[target], "falls by", round(float(drop.max()), 2), "behind square", strongest)

# %%
figure, panels = plt.subplots(1, 3, figsize=(10.5, 3.4), layout="constrained")
titles = ("one square: fall of the output", "interaction with the marked square", "interactions of all pairs")
grids = (drop.view(8, 8), interaction[strongest].view(8, 8), interaction)
for panel, title, values in zip(panels, titles, grids, strict=True):
    limit = float(values.abs().max())
    heat = panel.imshow(values, cmap="RdBu_r", vmin=-limit, vmax=limit)
    panel.set_title(title, fontsize=10)
    panel.set(xticks=[], yticks=[])
    figure.colorbar(heat, ax=panel, shrink=0.85)
for panel in panels[:2]:
    row, column = divmod(strongest, 8)
    panel.add_patch(plt.Rectangle((column - 0.5, row - 0.5), 1, 1, fill=False, linewidth=2))
figure.savefig("pairs.png", dpi=150)

# %% [markdown]
# ![The effect of one square, its interactions, and those of all pairs](../made/pairs/pairs.png)
#
# *Second and third panel: red where both squares together lower the output less than the sum of each alone, blue
# where they lower it more.*
#
# ## Next
#
# [Certify a prediction against a patch](certification.md) asks about all pairs of larger squares: does the answer stay
# the same?
