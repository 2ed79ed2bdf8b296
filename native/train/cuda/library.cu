// What a caller asks before it computes on a GPU.

#include "../arithmetic.h"
#include "grid.h"

int32_t s7_train_abi(void) { return S7_TRAIN_ABI; }

int32_t s7_train_available(void) { return s7train::device_is_here(); }

int32_t s7_arithmetic_available(void) { return s7train::device_is_here(); }
