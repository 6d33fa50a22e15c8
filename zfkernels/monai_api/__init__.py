"""MONAI's arguments on this package's methods; MONAI itself is not needed."""

from zfkernels.monai_api.occlusion_sensitivity import OcclusionSensitivity

__all__ = ["OcclusionSensitivity"]
