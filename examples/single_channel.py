"""Images with one channel, with MONAI's arguments

You get: a map of an image with one channel, such as a scan, from code that was written for MONAI's
`OcclusionSensitivity`. MONAI itself is not needed.
"""

# %% [markdown]
# ## A network for grey images
#
# Your network takes [N, 1, H, W]. To have such a network here without a download, we sum the filters of a first layer
# over the colours.

# %%
import copy

import matplotlib.pyplot as plt
from torch import nn

import zfkernels as zf
from zfkernels.data import embedded_photos
from zfkernels.models import get_model, get_preprocess
from zfkernels.monai_api import OcclusionSensitivity  # was: from monai.visualize import OcclusionSensitivity

coloured, photos = get_model("zfnet64"), embedded_photos()
model, first = copy.deepcopy(coloured), coloured.features[0]
model.features[0] = nn.Conv2d(1, first.out_channels, first.kernel_size, first.stride, first.padding)
model.features[0].weight.data = first.weight.data.sum(1, keepdim=True)
model.features[0].bias.data = first.bias.data
photo = photos.picture("chelsea/300/0-151").convert("L").convert("RGB")
image = get_preprocess("zfnet64")(photo).mean(0)[None, None]  # [1, 1, 64, 64]

# %% [markdown]
# ## MONAI's two results
#
# The default mask shows the image times 1 minus a gaussian. `activate=True` follows MONAI: if the image has one
# channel, it takes the sigmoid of each class. For the softmax we pass a function.

# %%
sensitivity = OcclusionSensitivity(
    nn_module=model, mask_size=12, overlap=0.8, verbose=False, activate=lambda out: out.softmax(1)
)
probability, likely = sensitivity(image)
print(probability.shape, likely.shape)  # [1, 200, 64, 64] and [1, 1, 64, 64]

# %% [markdown]
# ## The same as a sweep
#
# MONAI's map has for each pixel the mean over all places of the mask that cover it. `occlusion_sweep` returns each
# place by itself.

# %%
sweep = zf.occlusion_sweep(model, image, window=12, stride=2, fill="blur")
target = int(sweep.clean.argmax())

figure, panels = plt.subplots(1, 4, figsize=(12, 3.2), layout="constrained")
panels[0].imshow(image[0, 0], cmap="gray")
panels[0].set_title("image", fontsize=10)
drawn = (probability[0, target], sweep.probability(target)[0])
limits = {"cmap": "viridis", "vmin": float(min(part.min() for part in drawn)), "vmax": float(sweep.clean_probability())}
for panel, title, values in zip(panels[1:3], ("OcclusionSensitivity", "occlusion_sweep"), drawn, strict=True):
    heat = panel.imshow(values, **limits)
    panel.set_title(title, fontsize=10)
figure.colorbar(heat, ax=panels[1:3], label=f"probability of {coloured.class_names[target].split(',')[0]}")
classes, number = likely[0, 0].unique(return_inverse=True)
panels[3].imshow(number, cmap="tab10", vmin=0, vmax=9, interpolation="nearest")
names = (coloured.class_names[int(each)].split(",")[0] for each in classes)
named = ", ".join(f"{colour} {name}" for colour, name in zip(("blue", "orange", "green"), names, strict=False))
panels[3].set_title(f"most probable:\n{named}", fontsize=8)
for panel in panels:
    panel.set(xticks=[], yticks=[])
figure.savefig("single_channel.png", dpi=150)

# %% [markdown]
# ![The image, MONAI's map, the sweep, and the most probable class](../made/single_channel/single_channel.png)
#
# ## Next
#
# The [reference](../reference/methods.md) says where the numbers differ from MONAI's, and why. Volumes [1, C, H, W,
# D] work too; they run whole.
