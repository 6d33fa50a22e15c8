"""Every map of a layer under the square

You get: from one sweep, which feature maps each part of an image drives, and which part of the image each map depends
on.
"""

# %% [markdown]
# ## The sweep
#
# `layer=` names a module, and `units="all"` asks for all of its maps. `statistic=` says what is recorded of each map:
# "max", the largest value; "sum", the sum over the map; or "value", the value at the place that is strongest when
# nothing is hidden.

# %%
import matplotlib.pyplot as plt
import numpy as np

import zfkernels as zf
from zfkernels.data import embedded_photos
from zfkernels.models import get_model, get_preprocess

model, photos = get_model("zfnet64"), embedded_photos()
image = get_preprocess("zfnet64")(photos.picture("coffee"))[None]  # [1, 3, 64, 64]
sweep = zf.occlusion_sweep(model, image, window=12, stride=2, layer="features.8", units="all", statistic="max")
print(sweep.activity.shape)  # [1, 27, 27, 224]: image, row and column of the grid, map

# %% [markdown]
# The clean value minus the value under the square is a table of positions by maps. One row of it says which maps
# depend on a part of the image:

# %%
change = (sweep.clean_activity[:, None, None] - sweep.activity)[0]  # [27, 27, 224]
middle = change[13, 13]
print("hiding the middle lowers most:", middle.argsort(descending=True)[:5].tolist())

# %% [markdown]
# One column says which parts of the image a map depends on:

# %%
strongest = sweep.clean_activity[0].argsort(descending=True)[:7].tolist()
figure, panels = plt.subplots(2, 4, figsize=(10, 5.4), layout="constrained")
mean, std = (np.array(part)[:, None, None] for part in (sweep.look.mean, sweep.look.std))
panels[0, 0].imshow((image[0].numpy() * std + mean).clip(0, 1).transpose(1, 2, 0))
panels[0, 0].set_title("photo", fontsize=10)
limit = float(change[..., strongest].abs().max())
for panel, unit in zip(panels.flat[1:], strongest, strict=True):
    heat = panel.imshow(change[..., unit], cmap="RdBu_r", vmin=-limit, vmax=limit, extent=(5, 59, 59, 5))
    panel.set(xlim=(0, 64), ylim=(64, 0), facecolor="0.9")
    panel.set_title(f"map {unit}: {sweep.clean_activity[0, unit]:.1f} with nothing hidden", fontsize=8)
for panel in panels.flat:
    panel.set(xticks=[], yticks=[])
figure.colorbar(heat, ax=panels, label="fall of the map's largest value", shrink=0.8)
figure.savefig("every_map.png", dpi=150)

# %% [markdown]
# ![The photo, and where hiding lowers each of the seven strongest maps](../made/every_map/every_map.png)
#
# *Red: hiding this place lowers the map. The maps depend on different parts of the photo. Blue: hiding this place
# raises the map; the square itself may excite it.*
#
# ## Keep the table
#
# `to_numpy()` returns the arrays of the sweep by name, with the names that `to_xarray()` uses.

# %%
np.savez("every_map.npz", **sweep.to_numpy())

# %% [markdown]
# ## Next
#
# `zf.occlusion.empirical_receptive_field` averages such maps over a unit's strongest images
# ([reference](../reference/methods.md)). [A gallery](../tutorials/gallery.md) shows what each map responds to over
# a data set.
