// Optimiser steps over many tensors in one launch, in place, and the norm and scaling of their gradients.
//
// `Tensors` is a kernel argument by value, so a graph stores it. It has n addresses for each list
// of tensors (parameters, gradients, states), then the number of each tensor's first block, and the
// total (n + 1 numbers), then the numbers of elements (n). A block computes CHUNK elements of one
// tensor. Bytes: each number is read once, and changed ones are written once.
//
// Parameters of 16 bits may have float32 master weights (Micikevicius et al. 2018, section 3.1): the
// masters are updated, with float32 states, and the parameters receive their rounded values. Then T is
// the type of gradients, and S that of masters.
#include "rows.cuh"

constexpr Int CHUNK = 8192;
constexpr int WORDS = 438;

struct Tensors { Int n, lists, words[WORDS]; };

// A tensor, and the part of it that a block computes.
struct Chunk { Int tensor, first, last; };

__device__ inline Chunk chunk_of_block(const Tensors& tensors) {
    const Int* starts = tensors.words + tensors.lists * tensors.n;
    Int low = 0, high = tensors.n;  // binary search: the last tensor that starts at or before this block
    while (high - low > 1) {
        const Int middle = (low + high) / 2;
        if (starts[middle] <= blockIdx.x) low = middle;
        else high = middle;
    }
    const Int first = (blockIdx.x - starts[low]) * CHUNK;
    return {low, first, min(first + CHUNK, starts[tensors.n + 1 + low])};
}

// The chunk's tensor in a list.
template <class T> __device__ T* at(const Tensors& tensors, Int list, const Chunk& chunk) {
    return reinterpret_cast<T*>(tensors.words[list * tensors.n + chunk.tensor]);
}

// Calls step(element) for this thread's elements.
template <class F> __device__ void each_of_chunk(const Chunk& chunk, F step) {
    for (Int i = chunk.first + threadIdx.x; i < chunk.last; i += blockDim.x) step(i);
}

// AdamW (Loshchilov and Hutter 2019, algorithm 2), or Adam with an L2 term if weight decay is not
// decoupled. Lists: parameters or masters; gradients; first and second moments; with a found_inf,
// counts of steps (t - 1); with masters, the parameters. If found_inf is not 0, nothing changes: so
// a loss scale can skip a step (Micikevicius et al. 2018, section 3.2) without a synchronisation
// with the host. A thread of each block computes lr / (1 - beta1^t) and the root of 1 - beta2^t,
// with or without a graph, so results are the same.
struct Adam { double beta1, beta2, eps, decay, l2, sign; };

template <class T, class S>
__device__ void adamw(const Tensors& tensors, const Adam& adam, const Number& lr, const Count& step,
                      const float* found_inf, bool masters) {
    typedef computed<S> A;
    if (found_inf && *found_inf != 0) return;
    __shared__ A shared_rate, shared_root2, shared_kept;
    const Chunk chunk = chunk_of_block(tensors);
    if (threadIdx.x == 0) {
        const double t = found_inf ? double(*at<const float>(tensors, 4, chunk)) + 1 : double(Int(step));
        shared_rate = A(double(lr) / (1 - pow(adam.beta1, t)));
        shared_root2 = A(sqrt(1 - pow(adam.beta2, t)));
        shared_kept = A(1 - double(lr) * adam.decay);
    }
    __syncthreads();
    const A rate = shared_rate, root2 = shared_root2, kept = shared_kept;
    const A beta1 = A(adam.beta1), rest1 = A(1 - adam.beta1), beta2 = A(adam.beta2);
    const A rest2 = A(1 - adam.beta2), eps = A(adam.eps), l2 = A(adam.l2), sign = A(adam.sign);
    S *params = at<S>(tensors, 0, chunk), *firsts = at<S>(tensors, 2, chunk);
    S* seconds = at<S>(tensors, 3, chunk);
    const T* grads = at<const T>(tensors, 1, chunk);
    T* copies = masters ? at<T>(tensors, tensors.lists - 1, chunk) : nullptr;
    each_of_chunk(chunk, [&](Int i) {
        A p = A(params[i]), g = sign * A(grads[i]);
        if (l2 != 0) g += l2 * p;  // 0 times infinity would be NaN
        const A m = beta1 * A(firsts[i]) + rest1 * g, v = beta2 * A(seconds[i]) + rest2 * (g * g);
        firsts[i] = S(m), seconds[i] = S(v);
        p = p * kept - rate * m / (sqrt(v) / root2 + eps);
        params[i] = S(p);
        if (copies) copies[i] = T(p);
    });
}

// Gradient descent with momentum (Sutskever et al. 2013, in PyTorch's form). Lists: parameters or
// masters; gradients; if momentum is not 0, momentum buffers; with masters, the parameters. If
// found_inf is not 0, nothing changes.
struct Descent { double momentum, rest, l2, sign; Int nesterov, first_step; };

template <class T, class S>
__device__ void sgd(const Tensors& tensors, const Descent& descent, const Number& lr,
                    const float* found_inf, bool masters) {
    typedef computed<S> A;
    if (found_inf && *found_inf != 0) return;
    const Chunk chunk = chunk_of_block(tensors);
    const A rate = A(double(lr)), momentum = A(descent.momentum), rest = A(descent.rest);
    const A l2 = A(descent.l2), sign = A(descent.sign);
    S* params = at<S>(tensors, 0, chunk);
    const T* grads = at<const T>(tensors, 1, chunk);
    S* buffers = momentum != 0 ? at<S>(tensors, 2, chunk) : nullptr;
    T* copies = masters ? at<T>(tensors, tensors.lists - 1, chunk) : nullptr;
    each_of_chunk(chunk, [&](Int i) {
        A p = A(params[i]), g = sign * A(grads[i]);
        if (l2 != 0) g += l2 * p;  // 0 times infinity would be NaN
        if (buffers) {
            const A b = descent.first_step ? g : momentum * A(buffers[i]) + rest * g;
            buffers[i] = S(b);
            g = descent.nesterov ? g + momentum * b : b;
        }
        p -= rate * g;
        params[i] = S(p);
        if (copies) copies[i] = T(p);
    });
}

// RMSprop (Hinton 2012, lecture 6e), centred (Graves 2013, section 4.2) or not. Lists: parameters
// or masters; gradients; means of squares; if it `moves`, momentum buffers; if `centred`, means of
// gradients; with masters, the parameters. found_inf as in SGD.
struct Rms { double alpha, eps, momentum, l2, sign; Int moves, centred; };

template <class T, class S>
__device__ void rmsprop(const Tensors& tensors, const Rms& rms, const Number& lr,
                        const float* found_inf, bool masters) {
    typedef computed<S> A;
    if (found_inf && *found_inf != 0) return;
    const Chunk chunk = chunk_of_block(tensors);
    const A rate = A(double(lr)), alpha = A(rms.alpha), rest = A(1 - rms.alpha), eps = A(rms.eps);
    const A momentum = A(rms.momentum), l2 = A(rms.l2), sign = A(rms.sign);
    S *params = at<S>(tensors, 0, chunk), *squares = at<S>(tensors, 2, chunk);
    const T* grads = at<const T>(tensors, 1, chunk);
    S* velocities = rms.moves ? at<S>(tensors, 3, chunk) : nullptr;
    S* means = rms.centred ? at<S>(tensors, rms.moves ? 4 : 3, chunk) : nullptr;
    T* copies = masters ? at<T>(tensors, tensors.lists - 1, chunk) : nullptr;
    each_of_chunk(chunk, [&](Int i) {
        A p = A(params[i]);
        A g = sign * A(grads[i]);
        if (l2 != 0) g += l2 * p;  // 0 times infinity would be NaN
        A v = alpha * A(squares[i]) + rest * (g * g);
        squares[i] = S(v);
        if (means) {
            const A mean = alpha * A(means[i]) + rest * g;
            means[i] = S(mean);
            v -= mean * mean;
        }
        A step = g / (sqrt(v) + eps);
        if (velocities) {
            step = momentum * A(velocities[i]) + step;
            velocities[i] = S(step);
        }
        p -= rate * step;
        params[i] = S(p);
        if (copies) copies[i] = T(p);
    });
}

// Lion (Chen et al. 2023, algorithm 2). Lists: parameters or masters; gradients; averages; with
// masters, the parameters. Parameters are multiplied by `kept`, 1 - lr * weight decay. found_inf as
// in SGD.
struct Signs { double beta1, beta2, sign; };

template <class T, class S>
__device__ void lion(const Tensors& tensors, const Signs& signs, const Number& lr, const Number& kept,
                     const float* found_inf, bool masters) {
    typedef computed<S> A;
    if (found_inf && *found_inf != 0) return;
    const Chunk chunk = chunk_of_block(tensors);
    const A rate = A(double(lr)), share = A(double(kept)), sign = A(signs.sign);
    const A beta1 = A(signs.beta1), rest1 = A(1 - signs.beta1);
    const A beta2 = A(signs.beta2), rest2 = A(1 - signs.beta2);
    S *params = at<S>(tensors, 0, chunk), *averages = at<S>(tensors, 2, chunk);
    const T* grads = at<const T>(tensors, 1, chunk);
    T* copies = masters ? at<T>(tensors, tensors.lists - 1, chunk) : nullptr;
    each_of_chunk(chunk, [&](Int i) {
        const A g = sign * A(grads[i]), m = A(averages[i]), mixed = beta1 * m + rest1 * g;
        const A direction = mixed > 0 ? A(1) : mixed < 0 ? A(-1) : mixed;  // 0 and NaN stay
        averages[i] = S(beta2 * m + rest2 * g);
        const A p = share * A(params[i]) - rate * direction;
        params[i] = S(p);
        if (copies) copies[i] = T(p);
    });
}

// Adds 1 to each count (the only list) if found_inf is 0. One thread per count.
__device__ inline void count_unless(const Tensors& tensors, const float* found_inf) {
    const Int i = Int(blockIdx.x) * blockDim.x + threadIdx.x;
    if (i < tensors.n && *found_inf == 0) *reinterpret_cast<float*>(tensors.words[i]) += 1;
}

// out[block] = the sum of the squares of the block's elements.
template <class T> __device__ void squares(const Tensors& tensors, computed<T>* out) {
    const Chunk chunk = chunk_of_block(tensors);
    const T* numbers = at<const T>(tensors, 0, chunk);
    computed<T> sum = 0;
    each_of_chunk(chunk, [&](Int i) { sum += computed<T>(numbers[i]) * computed<T>(numbers[i]); });
    sum = block_sum(sum);
    if (threadIdx.x == 0) out[blockIdx.x] = sum;
}

// Multiplies every element by a number; sets found_inf to 1 if a result is infinite or NaN.
template <class T>
__device__ void scale(const Tensors& tensors, computed<T> factor, float* found_inf) {
    const Chunk chunk = chunk_of_block(tensors);
    T* numbers = at<T>(tensors, 0, chunk);
    each_of_chunk(chunk, [&](Int i) {
        numbers[i] = T(computed<T>(numbers[i]) * factor);
        if (found_inf && !(fabs(computed<T>(numbers[i])) < infinity<computed<T>>())) *found_inf = 1;
    });
}

// The parameters of the kernels.
#define ADAMW                                                                                       \
    const __grid_constant__ Tensors tensors, const __grid_constant__ Adam adam,                     \
    const __grid_constant__ Number lr, const __grid_constant__ Count step,                          \
    const float* found_inf
#define SGD                                                                                         \
    const __grid_constant__ Tensors tensors, const __grid_constant__ Descent descent,               \
    const __grid_constant__ Number lr, const float* found_inf
#define RMSPROP                                                                                     \
    const __grid_constant__ Tensors tensors, const __grid_constant__ Rms rms,                       \
    const __grid_constant__ Number lr, const float* found_inf
#define LION                                                                                        \
    const __grid_constant__ Tensors tensors, const __grid_constant__ Signs signs,                   \
    const __grid_constant__ Number lr, const __grid_constant__ Number kept,                         \
    const float* found_inf

#define EXPORT(NAME, T)                                                                             \
    extern "C" __global__ void adamw_##NAME(ADAMW) {                                                \
        adamw<T, T>(tensors, adam, lr, step, found_inf, false);                                     \
    }                                                                                               \
    extern "C" __global__ void adamw_masters_##NAME(ADAMW) {                                        \
        adamw<T, computed<T>>(tensors, adam, lr, step, found_inf, true);                            \
    }                                                                                               \
    extern "C" __global__ void sgd_##NAME(SGD) {                                                    \
        sgd<T, T>(tensors, descent, lr, found_inf, false);                                          \
    }                                                                                               \
    extern "C" __global__ void sgd_masters_##NAME(SGD) {                                            \
        sgd<T, computed<T>>(tensors, descent, lr, found_inf, true);                                 \
    }                                                                                               \
    extern "C" __global__ void rmsprop_##NAME(RMSPROP) {                                            \
        rmsprop<T, T>(tensors, rms, lr, found_inf, false);                                          \
    }                                                                                               \
    extern "C" __global__ void rmsprop_masters_##NAME(RMSPROP) {                                    \
        rmsprop<T, computed<T>>(tensors, rms, lr, found_inf, true);                                 \
    }                                                                                               \
    extern "C" __global__ void lion_##NAME(LION) {                                                  \
        lion<T, T>(tensors, signs, lr, kept, found_inf, false);                                     \
    }                                                                                               \
    extern "C" __global__ void lion_masters_##NAME(LION) {                                          \
        lion<T, computed<T>>(tensors, signs, lr, kept, found_inf, true);                            \
    }                                                                                               \
    extern "C" __global__ void count_unless_##NAME(const __grid_constant__ Tensors tensors,         \
                                                   const float* found_inf) {                        \
        count_unless(tensors, found_inf);                                                           \
    }                                                                                               \
    extern "C" __global__ void squares_##NAME(const __grid_constant__ Tensors tensors,              \
                                              computed<T>* out) {                                   \
        squares<T>(tensors, out);                                                                   \
    }                                                                                               \
    extern "C" __global__ void scale_##NAME(const __grid_constant__ Tensors tensors,                \
                                            const computed<T>* factor) {                            \
        scale<T>(tensors, *factor, nullptr);                                                        \
    }                                                                                               \
    extern "C" __global__ void unscale_##NAME(const __grid_constant__ Tensors tensors,              \
                                              const float* factor, float* found_inf) {              \
        scale<T>(tensors, computed<T>(*factor), found_inf);                                         \
    }
FOR_EACH_FLOAT(EXPORT)
