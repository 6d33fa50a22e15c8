"""Occlusion sweeps on ragged windows: planned on the host, then one launch per step for all positions of a chunk."""
