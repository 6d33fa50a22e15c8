// The CUDA kernels with their launches and registration, as operators zfkernels_simt.* of CPU tensors.
#include "max_pool2d_with_switches_kernel.cu"
#include "occluded_conv2d_kernel.cu"
#include "unpool_relu_conv_transpose2d_kernel.cu"
#include "window_conv2d_kernel.cu"
#include "window_max_pool2d_kernel.cu"
