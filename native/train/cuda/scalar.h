/* The functions of specs/training-arithmetic.md on single floats, as the processor's kernels have
 * them. */
#ifndef S7_TRAIN_CUDA_SCALAR_H
#define S7_TRAIN_CUDA_SCALAR_H

#define S7_WIDTH 1
#include "../lanes.h"
#include "../logarithm.h"

#endif
