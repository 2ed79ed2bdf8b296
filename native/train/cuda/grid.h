/* A grid of threads: CUDA's where nvcc compiles the kernels, and an emulation of it elsewhere.
 *
 * The emulation runs one thread after the other on the caller's, each on a stack of its own that it
 * leaves at a barrier. So the text of the kernels is tested to the bit without a GPU. It knows what
 * the kernels use: indexes, shared arrays and __syncthreads(). */
#ifndef S7_TRAIN_CUDA_GRID_H
#define S7_TRAIN_CUDA_GRID_H

#include "../attention.h"

#include <cstddef>
#include <cstdint>

#ifdef __CUDACC__

#include <cuda_runtime.h>

namespace s7train {

/* Launches a kernel on the default stream, which is PyTorch's. An empty grid is nothing to do. */
template <class... Parameters, class... Arguments>
void launch(void (*kernel)(Parameters...), dim3 grid, dim3 block, Arguments... arguments) {
    if (grid.x && grid.y && grid.z) kernel<<<grid, block>>>(arguments...);
}

inline int32_t outcome() { return cudaGetLastError() == cudaSuccess ? S7_TRAIN_OK : S7_TRAIN_GPU; }

inline bool device_is_here() {
    int count = 0;
    return cudaGetDeviceCount(&count) == cudaSuccess && count > 0;
}

/* Memory of the GPU that is free again for what the stream does after this object's end. */
class Scratch {
  public:
    explicit Scratch(std::size_t n_bytes) {
        if (cudaMallocAsync(&memory_, n_bytes, nullptr) != cudaSuccess) memory_ = nullptr;
    }
    ~Scratch() {
        if (memory_) cudaFreeAsync(memory_, nullptr);
    }
    Scratch(const Scratch &) = delete;
    Scratch &operator=(const Scratch &) = delete;
    template <class T> T *as() const { return static_cast<T *>(memory_); }

  private:
    void *memory_ = nullptr;
};

/* Copies what a kernel has written to the processor, and waits for it. */
inline int32_t fetch(void *to, const void *from, std::size_t n_bytes) {
    return cudaMemcpy(to, from, n_bytes, cudaMemcpyDeviceToHost) == cudaSuccess ? S7_TRAIN_OK
                                                                                : S7_TRAIN_GPU;
}

}  // namespace s7train

#else

#include "../mode.h"

#include <ucontext.h>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <memory>
#include <vector>

#define __global__
#define __device__
#define __shared__ static
#define __launch_bounds__(threads)

struct dim3 {
    unsigned x, y, z;
    constexpr dim3(unsigned x = 1, unsigned y = 1, unsigned z = 1) : x(x), y(y), z(z) {}
};

inline dim3 threadIdx, blockIdx, blockDim, gridDim;

namespace s7train {

/* One block of emulated threads. A barrier ends a turn of each. */
class EmulatedBlock {
  public:
    static EmulatedBlock *&running() {
        static EmulatedBlock *block = nullptr;
        return block;
    }

    void run(const std::function<void()> &body) {
        body_ = &body;
        running() = this;
        const std::size_t count = std::size_t{blockDim.x} * blockDim.y * blockDim.z;
        while (threads_.size() < count) threads_.push_back(std::make_unique<Thread>());
        for (std::size_t i = 0; i < count; ++i) start(*threads_[i]);
        for (std::size_t left = count; left;) {
            left = 0;
            for (std::size_t i = 0; i < count; ++i) left += turn(i);
        }
    }

    void wait() { swapcontext(&current_->place, &back_); }

  private:
    static constexpr std::size_t kStack = 64 << 10;
    struct Thread {
        ucontext_t place;
        bool is_done;
        std::unique_ptr<char[]> stack{new char[kStack]};
    };

    static void enter() {
        EmulatedBlock &own = *running();
        (*own.body_)();
        own.current_->is_done = true;
        own.wait();
    }

    static void start(Thread &thread) {
        thread.is_done = false;
        getcontext(&thread.place);
        thread.place.uc_stack.ss_sp = thread.stack.get();
        thread.place.uc_stack.ss_size = kStack;
        thread.place.uc_link = nullptr;
        makecontext(&thread.place, enter, 0);
    }

    /* 1 while the thread has more to do. */
    std::size_t turn(std::size_t i) {
        Thread &thread = *threads_[i];
        if (thread.is_done) return 0;
        const auto number = static_cast<unsigned>(i);
        threadIdx = {number % blockDim.x, number / blockDim.x % blockDim.y,
                     number / blockDim.x / blockDim.y};
        current_ = &thread;
        swapcontext(&back_, &thread.place);
        return !thread.is_done;
    }

    std::vector<std::unique_ptr<Thread>> threads_;
    const std::function<void()> *body_ = nullptr;
    Thread *current_ = nullptr;
    ucontext_t back_;
};

template <class... Parameters, class... Arguments>
void launch(void (*kernel)(Parameters...), dim3 grid, dim3 block, Arguments... arguments) {
    static EmulatedBlock emulated;
    // A GPU keeps subnormals whatever the processor's mode is.
    const FloatMode mode;
    gridDim = grid;
    blockDim = block;
    const std::function<void()> body = [&] { kernel(arguments...); };
    for (blockIdx.z = 0; blockIdx.z < grid.z; ++blockIdx.z)
        for (blockIdx.y = 0; blockIdx.y < grid.y; ++blockIdx.y)
            for (blockIdx.x = 0; blockIdx.x < grid.x; ++blockIdx.x) emulated.run(body);
}

inline int32_t outcome() { return S7_TRAIN_OK; }

inline bool device_is_here() { return true; }

class Scratch {
  public:
    explicit Scratch(std::size_t n_bytes) : memory_(std::malloc(n_bytes)) {}
    ~Scratch() { std::free(memory_); }
    Scratch(const Scratch &) = delete;
    Scratch &operator=(const Scratch &) = delete;
    template <class T> T *as() const { return static_cast<T *>(memory_); }

  private:
    void *memory_;
};

inline int32_t fetch(void *to, const void *from, std::size_t n_bytes) {
    std::memcpy(to, from, n_bytes);
    return S7_TRAIN_OK;
}

}  // namespace s7train

inline void __syncthreads() { s7train::EmulatedBlock::running()->wait(); }

#endif
#endif
