// The hot loops of tile_conv2d.h; see for_each_isa.h.
#include "conv_tile_loops.h"
#include "winograd_loops.h"
