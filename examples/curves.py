"""Deletion and insertion curves

You get: a test of an attribution. If it ranks the important parts first, hiding parts in its order soon lowers the
probability of the class. Showing parts in its order soon raises it.

Source: Petsiuk, Das & Saenko 2018, *RISE* (arXiv 1806.07421).
"""

# %% [markdown]
# ## An order, and the curves
#
# The order may be an attribution of any kind. It has one number for each square, or one for each pixel; pixels are
# summed over each square. Here the attribution is an occlusion sweep over the same squares. It is compared with a
# random order.

# %%
import matplotlib.pyplot as plt
import torch

import zfkernels as zf
from zfkernels.data import embedded_photos
from zfkernels.models import get_model, get_preprocess

model, photos = get_model("zfnet64"), embedded_photos()
image = get_preprocess("zfnet64")(photos.picture("coffee"))[None]  # [1, 3, 64, 64]
sweep = zf.occlusion_sweep(model, image, window=8)
target = int(sweep.clean.argmax())
orders = {
    "by occlusion": sweep.drop(target),  # float [1, 8, 8]: the largest first
    "at random": torch.randperm(64, generator=torch.Generator().manual_seed(0)),  # int [64]: a permutation
}

# %% [markdown]
# Each step changes one square of the image before, and computes only what that square can change.

# %%
figure, panels = plt.subplots(1, 2, figsize=(9, 3.4), layout="constrained", sharey=True)
for panel, curve in zip(panels, (zf.deletion_curve, zf.insertion_curve), strict=True):
    for name, order in orders.items():
        found = curve(model, image, order, window=8)
        area = float(found.area(target))
        panel.plot(found.values(target)[0], label=f"{name}: area {area:.2f}")
        print(curve.__name__, name, round(area, 3))
    panel.set_xlabel("squares changed")
    title = curve.__name__.replace("_", " ")
    panel.legend(title=title, frameon=False, fontsize=9, ncols=2, loc="lower center", bbox_to_anchor=(0.5, 1))
panels[0].set_ylabel(f"probability of {model.class_names[target]}")
for panel in panels:
    panel.spines[["top", "right"]].set_visible(False)
figure.savefig("curves.png", dpi=150)

# %% [markdown]
# ![Deletion and insertion curves of two orders](../made/curves/curves.png)
#
# *Deletion: the smaller the area under the curve, the better the order. Insertion: the larger, the better.*
#
# ## Next
#
# [A Captum script, with two lines changed](captum_swap.md) makes attributions to order by. The [feature
# table](../background/comparison.md) says which other packages draw such curves.
