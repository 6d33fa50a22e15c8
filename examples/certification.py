"""Certify a prediction against a patch

You get: a proof that a patch of a given size cannot change the answer for an image, wherever the patch lies and
whatever it shows. The proof is for an answer that is found with masks, not for the bare network.

The idea is PatchCleanser's (Xiang, Mahloujifar & Mittal 2022, arXiv 2108.09135). The masks are chosen so that one of
them hides all of the patch, wherever it lies. Suppose that the network gives the same answer under *every two* masks
on the clean image. Then the mask that hides the patch leads to this answer on the image with the patch too, whatever
second mask is added. PatchCleanser's rule finds this answer.
"""

# %% [markdown]
# ## Masks that cover every patch
#
# The masks are squares at k places on each axis, s pixels apart. For a patch with a side of p pixels they have a side
# of p + s − 1 pixels. A patch begins at most s − 1 pixels behind the beginning of some mask, so that mask hides all of
# it.

# %%
import matplotlib.pyplot as plt
import numpy as np
import torch

import zfkernels as zf
from zfkernels.data import embedded_photos
from zfkernels.models import get_model, get_preprocess


def masks(side, patch, count):
    """Places int64 [count², 2] and width of the squares that hide every patch in an image of a side."""
    step = -(-(side - patch + 1) // count)
    starts = (torch.arange(count) * step).clamp(max=side - patch - step + 1)
    return torch.cartesian_prod(starts, starts), patch + step - 1


# %% [markdown]
# ## All pairs of masks
#
# `occlusion_pairs` computes the single masks once. For each pair it then computes only the cells that both masks can
# change. The pair of a mask with itself is the single mask.


# %%
def changes_of_mind(model, images, patch, count):
    """bool [N, count², count²]: under which pairs of masks the answer for each image is another."""
    positions, width = masks(images.shape[-1], patch, count)
    found = zf.occlusion_pairs(model, images, window=width, positions=positions)
    clean, (first, second) = found.clean.argmax(1), found.pairs.T
    changed = torch.diag_embed(found.singles.argmax(2) != clean[:, None])
    changed[:, first, second] = changed[:, second, first] = found.outputs.argmax(2) != clean[:, None]
    return changed


# %% [markdown]
# ## Four photos

# %%
if __name__ == "__main__":
    model, photos, preprocess = get_model("zfnet64"), embedded_photos(), get_preprocess("zfnet64")
    keys = ["coffee", "coffee/400/0-200", "coffee/300/100-150", "rocket/80/115-280"]
    images = torch.stack([preprocess(photos.picture(key)) for key in keys])
    changed = changes_of_mind(model, images, patch=3, count=6)
    print("certified:", dict(zip(keys, (~changed.flatten(1).any(1)).tolist(), strict=True)))

    figure, panels = plt.subplots(2, len(keys), figsize=(10, 5.2), layout="constrained")
    mean, std = (np.array(part)[:, None, None] for part in (model.preprocess.mean, model.preprocess.std))
    answers = model(images).argmax(1).tolist()
    for column, answer, image, wrong in zip(panels.T, answers, images, changed, strict=True):
        column[0].imshow((image.numpy() * std + mean).clip(0, 1).transpose(1, 2, 0))
        column[0].set_title(model.class_names[answer].split(",")[0], fontsize=10)
        column[1].imshow(wrong, cmap="Reds", vmin=0, vmax=1)
        share = float(wrong.float().mean())
        column[1].set_title("certified" if share == 0 else f"not certified: {share:.1%} of the pairs", fontsize=10)
        column[1].set_xlabel("second mask")
    for panel in panels.flat:
        panel.set(xticks=[], yticks=[])
    panels[1, 0].set_ylabel("first mask")
    figure.savefig("certification.png", dpi=150)

# %% [markdown]
# ![Four photos, and the pairs of masks under which the answer changes](../made/certification/certification.png)
#
# *Below each photo: all pairs of masks, red where the answer changes. With one red cell there is no certificate.*
#
# ## Next
#
# [Two squares at once](pairs.md) shows what else pairs of squares tell.
