"""What can be said of the GPU kernels without a GPU: compiled ahead of time, their resources, instructions and bounds."""
