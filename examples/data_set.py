"""A whole data set

You get: an occlusion map of every image in a folder of files, a run that goes on where it was stopped, and the mean
map of each class.
"""

# %% [markdown]
# ## Images one at a time
#
# A data set is anything that yields images [C, H, W], or tuples that start with one. Here it is twelve crops of two
# photos.
#
# `zf.store_sweeps` does the whole page in one call ([Occlude](../tutorials/occlude.md#a-whole-data-set)). Write the
# loop yourself, as here, if you want other numbers or files of another form.

# %%
import os
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np

import zfkernels as zf
from zfkernels.data import embedded_photos
from zfkernels.models import get_model, get_preprocess

model, photos, preprocess = get_model("zfnet64"), embedded_photos(), get_preprocess("zfnet64")
coffee, chelsea = ([key for key in photos.keys if key.startswith(name)] for name in ("coffee", "chelsea"))
chosen = coffee[:30:5] + chelsea[:30:5]


class Crops:
    """The chosen crops, with the name of the photo that each is of."""

    def __len__(self):
        return len(chosen)

    def __getitem__(self, number):
        photo, label = photos.load(photos.keys.index(chosen[number]))
        return preprocess(photo), label


# %% [markdown]
# ## The run
#
# One image is in memory at a time. Each map is written to a file of its own, which has another name until it is
# complete. `start=` leaves out the images whose files exist already. If you stop the script and run it again, it
# continues.

# %%
folder = Path("maps")
folder.mkdir(exist_ok=True)
done = len(list(folder.glob("*.npz")))
sweeps = zf.occlusion_sweeps(model, Crops(), window=12, stride=4, start=done)
for number, sweep in enumerate(sweeps, done):
    file = folder / f"{number:06d}.npz"
    with open(file.with_suffix(".part"), "wb") as part:
        np.savez(part, fall=sweep.drop()[0], best=sweep.best_class()[0], answer=sweep.clean.argmax())
    os.replace(file.with_suffix(".part"), file)

# %% [markdown]
# ## Means of each class

# %%
labels = np.array([Crops()[number][1] for number in range(len(chosen))])
falls = np.stack([np.load(file)["fall"] for file in sorted(folder.glob("*.npz"))])
names = sorted(set(labels))
figure, panels = plt.subplots(1, len(names), figsize=(7, 3.4), layout="constrained")
means = [falls[labels == name].mean(0) for name in names]
limit = max(abs(mean).max() for mean in means)
for panel, name, mean in zip(panels, names, means, strict=True):
    heat = panel.imshow(mean, cmap="RdBu_r", vmin=-limit, vmax=limit)
    panel.set_title(f"{name}: mean of {(labels == name).sum()} maps", fontsize=10)
    panel.set(xticks=[], yticks=[])
figure.colorbar(heat, ax=panels, label="fall of the most probable class's output")
figure.savefig("data_set.png", dpi=150)

# %% [markdown]
# ![The mean occlusion map of the crops of each photo](../made/data_set/data_set.png)
#
# ## Next
#
# [A gallery of a large data set](../scale.md) says what a gallery of a million images costs.
