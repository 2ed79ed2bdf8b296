/* Functions that the text of a GPU's kernels shares with that of the processor. */
#ifndef S7_TRAIN_ANYWHERE_H
#define S7_TRAIN_ANYWHERE_H

#ifdef __CUDACC__
#define S7_ANYWHERE __host__ __device__
#else
#define S7_ANYWHERE
#endif

#endif
