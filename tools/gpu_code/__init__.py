"""What can be said of the GPU kernels without a GPU: their resources, instructions and bounds."""
