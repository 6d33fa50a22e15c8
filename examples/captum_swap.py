"""A Captum script, with two lines changed

You get: the same numbers as Captum's `Occlusion` and `FeatureAblation`, in less time. `pip install captum` is needed
for the comparison alone.
"""

# %% [markdown]
# ## Occlusion

# %%
import captum.attr
import matplotlib.pyplot as plt
import numpy as np
import torch
from skimage.segmentation import mark_boundaries, slic

import zfkernels as zf
from zfkernels.data import embedded_photos
from zfkernels.models import get_model, get_preprocess

model, photos = get_model("zfnet64"), embedded_photos()
preprocess = get_preprocess("zfnet64")
image = preprocess(photos.picture("coffee"))[None]  # [1, 3, 64, 64]
target = int(model(image).argmax())

arguments = {"target": target, "sliding_window_shapes": (3, 12, 12), "strides": (3, 4, 4), "baselines": 0}
ours = zf.Occlusion(model).attribute(image, **arguments)  # was: captum.attr.Occlusion(model)
theirs = captum.attr.Occlusion(model).attribute(image, **arguments)
print("occlusion: largest difference", float((ours - theirs).abs().max()), "of", float(theirs.abs().max()))

# %% [markdown]
# ## Superpixels
#
# `FeatureAblation` hides all pixels of a label at once. The window of a label is its bounding box.

# %%
mean, std = (np.array(part)[:, None, None] for part in (model.preprocess.mean, model.preprocess.std))
picture = (image[0].numpy() * std + mean).clip(0, 1).transpose(1, 2, 0)
labels = torch.from_numpy(slic(picture, n_segments=40, compactness=10, start_label=0))
mask = labels.expand(1, 1, -1, -1)
ablated = zf.FeatureAblation(model).attribute(image, target=target, feature_mask=mask)
theirs = captum.attr.FeatureAblation(model).attribute(image, target=target, feature_mask=mask)
print("superpixels: largest difference", float((ablated - theirs).abs().max()), "of", float(theirs.abs().max()))

# %%
figure, panels = plt.subplots(1, 3, figsize=(10, 3.4), layout="constrained")
enlarged = (part.repeat(8, 0).repeat(8, 1) for part in (picture, labels.numpy()))
panels[0].imshow(mark_boundaries(*enlarged, color=(1, 1, 1), mode="inner"))
panels[0].set_title("photo and superpixels", fontsize=10)
for panel, title, values in zip(panels[1:], ("Occlusion", "FeatureAblation"), (ours, ablated), strict=True):
    limit = float(values.abs().max())
    heat = panel.imshow(values[0].mean(0).detach(), cmap="RdBu_r", vmin=-limit, vmax=limit)
    panel.set_title(title, fontsize=10)
    figure.colorbar(heat, ax=panel, shrink=0.85)
for panel in panels:
    panel.set(xticks=[], yticks=[])
figure.savefig("captum_swap.png", dpi=150)

# %% [markdown]
# ![The photo with its superpixels, and both attributions](../made/captum_swap/captum_swap.png)
#
# *Red: hiding this place, or this superpixel, lowers the output of "espresso".*
#
# ## Next
#
# [Deletion and insertion curves](curves.md) test such attributions. [Swap one import line](../tutorials/captum.md)
# says what differs from Captum.
