// Convolution of 16-bit images and its gradients by tensor cores (implicit GEMM), channels last: what would
// be the columns of windows is copied from the image to shared memory, where a step needs it, eight
// channels of a place at a time.
//
//     out[n, o, q] = sum over (k, c) of weight[o, k, c] * x[n, place of number k of window q, c]
//     gx[n, c, y]  = sum over (k, o) of weight[c, k, o] * g[n, the window whose number k is at y, o]
//     gw[o, k, c]  = sum over (n, q) of g[n, q, o] * x[n, place of number k of window q, c]
//
//     x (images, ..., channels), g (images, windows, outputs), and the weight with what is summed over as its
//     last axis, of which there are a multiple of 8 (for gw, of both); out and gx have channels first
//
//     product   rows        columns             summed over
//     out       outputs o   windows (n, q)      taps and channels (k, c)
//     gx        inputs c    places (n, y)       those taps that meet the place, and outputs
//     gw        outputs o   (k, c)              windows (n, q), in parts that a second kernel adds up
//
// Gradient by the input: each remainder of places by the stride is a product of its own (`Remainder`).
// A thread keeps the places of its windows in registers, and goes from step to step by additions: which tap
// and channel, or which windows, come next. Places outside of the image are zeros.
//
// Bytes: x about taps * outputs / 128 times from the cache, and hardly more than once from memory.
#include "wide_tiles.cuh"
#include "windows.cuh"

constexpr int OUTSIDE = -(1 << 30);  // whatever is added

// Rows are windows from `first` on; depth is taps and channels.
template <class T> struct WindowsAlong : LaidAlong<T> {
    const Slide& s;
    const T* images[2];
    Place windows[2], tap;  // tap: in each dimension, of the kernel's size
    int channel;

    __device__ WindowsAlong(const T* x, const Slide& s, unsigned first) : s(s), tap{{0, 0, 0}} {
        const unsigned count = s.windows_of_image();
#pragma unroll
        for (int i = 0; i < 2; i++) {
            const unsigned number = first + this->row(i), image = number / count;
            const bool there = image < unsigned(s.images);
            images[i] = x + (there ? Int(image) * s.plane() * s.channels : 0);
            windows[i] = there ? of_window(s, number % count) : Place{{OUTSIDE, 0, 0}};
        }
        channel = this->pack() * 8;
        go_on();
    }
    __device__ void go_on() {
        while (channel >= s.channels) {
            channel -= s.channels;
            if (++tap.at[2] < s.kernel[2]) continue;
            tap.at[2] = 0;
            if (++tap.at[1] < s.kernel[1]) continue;
            tap.at[1] = 0, tap.at[0]++;
        }
    }
    __device__ void copy(T* to, Int) {
        const Place moved = {{tap.at[0] * s.dilation[0], tap.at[1] * s.dilation[1], tap.at[2] * s.dilation[2]}};
#pragma unroll
        for (int i = 0; i < 2; i++) {
            const Place place = windows[i] + moved;
            const bool there = tap.at[0] < s.kernel[0] && place.inside(s.size);
            const T* from = images[i] + (there ? place.offset(s.size) * s.channels + channel : 0);
            cp_async(to + this->place(this->row(i), this->pack()), from, there ? 16 : 0);
        }
        channel += WIDE_STEP;
        go_on();
    }
};

// Taps that places of a remainder meet, and outputs: what a thread's pack of the next step is of.
struct TapsOfRemainder {
    const Slide& s;
    const Remainder& r;
    Place tap;  // of those that are met
    int output;

    __device__ TapsOfRemainder(const Slide& s, const Remainder& r, int pack)
        : s(s), r(r), tap{{0, 0, 0}}, output(pack * 8) {
        skip();
    }
    __device__ void skip() {
        while (output >= s.outputs) {
            output -= s.outputs;
            if (++tap.at[2] < r.taps[2]) continue;
            tap.at[2] = 0;
            if (++tap.at[1] < r.taps[1]) continue;
            tap.at[1] = 0, tap.at[0]++;
        }
    }
    __device__ void go_on() { output += WIDE_STEP, skip(); }
    __device__ bool there() const { return tap.at[0] < r.taps[0]; }
};

// Rows are channels of the weight (channels, taps, outputs) from `first` on; depth is those taps, and outputs.
template <class T> struct WeightOfRemainder : LaidAlong<T> {
    const T* weight;
    int rows;
    Int depth;
    TapsOfRemainder next;

    __device__ WeightOfRemainder(const T* weight, const Slide& s, const Remainder& r, int first)
        : weight(weight + Int(first) * s.taps() * s.outputs), rows(s.channels - first),
          depth(Int(r.all_taps()) * s.outputs), next(s, r, this->pack()) {}
    __device__ void copy(T* to, Int) {
        const Slide& s = next.s;
        Place tap;
#pragma unroll
        for (int i = 0; i < 3; i++) tap.at[i] = next.r.first[i] + next.tap.at[i] * next.r.step[i];
        const T* at = weight + tap.offset(s.kernel) * s.outputs + next.output;
#pragma unroll
        for (int i = 0; i < 2; i++) {
            const int row = this->row(i);
            const bool there = row < rows && next.there();
            const T* from = there ? at + Int(row) * s.taps() * s.outputs : weight;
            cp_async(to + this->place(row, this->pack()), from, there ? 16 : 0);
        }
        next.go_on();
    }
};

// Rows are places of the input from `first` on; depth is the same, of their windows.
template <class T> struct WindowsOfRemainder : LaidAlong<T> {
    const T* images[2];
    Place windows[2];
    TapsOfRemainder next;

    __device__ WindowsOfRemainder(const T* g, const Slide& s, const Remainder& r, unsigned first)
        : next(s, r, this->pack()) {
        const unsigned count = r.places();
#pragma unroll
        for (int i = 0; i < 2; i++) {
            const unsigned number = first + this->row(i), image = number / count;
            const bool there = image < unsigned(s.images);
            images[i] = g + (there ? Int(image) * s.windows_of_image() * s.outputs : 0);
            windows[i] = there ? place_of(number % count, r.count) + Place{{r.start[0], r.start[1], r.start[2]}}
                               : Place{{OUTSIDE, 0, 0}};
        }
    }
    __device__ void copy(T* to, Int) {
        const Slide& s = next.s;
        Place moved;
#pragma unroll
        for (int i = 0; i < 3; i++) moved.at[i] = -next.tap.at[i] * next.r.apart[i];
#pragma unroll
        for (int i = 0; i < 2; i++) {
            const Place window = windows[i] + moved;
            const bool there = next.there() && window.inside(s.windows);
            const T* from = images[i] + (there ? window.offset(s.windows) * s.outputs + next.output : 0);
            cp_async(to + this->place(this->row(i), this->pack()), from, there ? 16 : 0);
        }
        next.go_on();
    }
};

// Rows are taps and channels from `first` on; depth is the windows first_window to last - 1.
template <class T> struct WindowsAcross : LaidAcross<T> {
    const Slide& s;
    const T* x;  // at this thread's channel
    Place tap, window[2], step;
    unsigned number[2], last;
    int image[2], images_of_step;

    __device__ WindowsAcross(const T* x, const Slide& s, int first, unsigned first_window, unsigned last)
        : s(s), last(last) {
        const int row = first + this->pack() * 8, count = s.windows_of_image();
        tap = row < s.taps() * s.channels ? of_tap(s, row / s.channels) : Place{{OUTSIDE, 0, 0}};
        this->x = x + row % s.channels;
        images_of_step = WIDE_STEP / count, step = place_of(WIDE_STEP % count, s.windows);
#pragma unroll
        for (int i = 0; i < 2; i++) {
            number[i] = first_window + this->at(i), image[i] = number[i] / count;
            window[i] = place_of(number[i] % count, s.windows);
        }
    }
    __device__ void copy(T* to, Int) {
#pragma unroll
        for (int i = 0; i < 2; i++) {
            Place place;
#pragma unroll
            for (int axis = 0; axis < 3; axis++)
                place.at[axis] = window[i].at[axis] * s.stride[axis] - s.before[axis] + tap.at[axis];
            const bool there = number[i] < last && place.inside(s.size);
            const Int at = there ? (Int(image[i]) * s.plane() + place.offset(s.size)) * s.channels : 0;
            cp_async(to + this->place(this->at(i), this->pack()), x + at, there ? 16 : 0);
            number[i] += WIDE_STEP, image[i] += images_of_step;
            window[i] = window[i] + step;
#pragma unroll
            for (int axis = 2; axis >= 0; axis--)
                if (window[i].at[axis] >= s.windows[axis]) {
                    window[i].at[axis] -= s.windows[axis];
                    (axis ? window[i].at[axis ? axis - 1 : 0] : image[i])++;
                }
        }
    }
};

// Grid: tiles of windows by tiles of outputs, which take the same windows one after the other.
template <class T>
__device__ void convolution_wide(void* memory, const T* x, const T* weight, const T* bias, T* out,
                                 const Slide& s) {
    const int tiles = (s.outputs + WIDE - 1) / WIDE, row = int(blockIdx.x) % tiles * WIDE;
    const unsigned first = blockIdx.x / tiles * WIDE, count = s.windows_of_image();
    const Int depth = Int(s.taps()) * s.channels;
    wide_tile<T>(memory, WideAlong<T>(weight + row * depth, s.outputs - row, depth, depth),
                 WindowsAlong<T>(x, s, first), [&](int i, int j, float sum, float next) {
                     const int output = row + i;
                     const unsigned window = first + j;
                     if (output >= s.outputs || window >= s.images * count) return;
                     if (bias) sum += float(bias[output]), next += float(bias[output]);
                     T* const at = out + (Int(window / count) * s.outputs + output) * count + window % count;
                     if (count % 2 == 0) return store_two(at, sum, next);
                     *at = T(sum);
                     if (window + 1 >= s.images * count) return;
                     at[window % count + 1 < count ? 1 : Int(s.outputs - 1) * count + 1] = T(next);
                 });
}

// Grid: (tiles of places, which may be more than a remainder has, by tiles of channels; remainders).
template <class T>
__device__ void convolution_wide_input_grad(void* memory, const T* g, const T* weight, T* gx,
                                            const Slide& s) {
    __shared__ Remainder r;
    if (threadIdx.x == 0) r = Remainder(s, blockIdx.y);
    __syncthreads();
    const int tiles = (s.channels + WIDE - 1) / WIDE, row = int(blockIdx.x) % tiles * WIDE;
    const unsigned first = blockIdx.x / tiles * WIDE, count = r.places();
    if (first >= s.images * count) return;
    const auto write = [&](int channel, unsigned number, float value) {
        if (channel >= s.channels || number >= s.images * count) return;
        Place place = place_of(number % count, r.count);
#pragma unroll
        for (int axis = 0; axis < 3; axis++) place.at[axis] = place.at[axis] * s.stride[axis] + r.rest[axis];
        gx[(Int(number / count) * s.channels + channel) * s.plane() + place.offset(s.size)] = T(value);
    };
    wide_tile<T>(memory, WeightOfRemainder<T>(weight, s, r, row), WindowsOfRemainder<T>(g, s, r, first),
                 [&](int i, int j, float sum, float next) {
                     write(row + i, first + j, sum), write(row + i, first + j + 1, next);
                 });
}

// Grid: (tiles of taps and channels, tiles of outputs, parts of the windows).
template <class T>
__device__ void convolution_wide_weight_grad(void* memory, const T* g, const T* x, float* parts,
                                             const Slide& s, Int windows_of_part) {
    const int row = blockIdx.y * WIDE, column = blockIdx.x * WIDE, columns = s.taps() * s.channels;
    const Int first = blockIdx.z * windows_of_part;
    const Int last = min(first + windows_of_part, Int(s.images) * s.windows_of_image());
    float* const part = parts + Int(blockIdx.z) * s.outputs * columns;
    wide_tile<T>(memory,
                 WideAcross<T>(g + first * s.outputs + row, s.outputs - row, s.outputs, last - first),
                 WindowsAcross<T>(x, s, column, unsigned(first), unsigned(last)),
                 [&](int i, int j, float sum, float next) {
                     if (row + i >= s.outputs || column + j >= columns) return;
                     *reinterpret_cast<float2*>(part + Int(row + i) * columns + column + j) = {sum, next};
                 });
}

// gw (outputs, channels, taps) = the parts (outputs, taps, channels) added up in their order. Grid: blocks of
// 256 numbers.
template <class T>
__device__ void convolution_wide_join(const float* parts, T* gw, const Slide& s, Int count) {
    const Int at = Int(blockIdx.x) * blockDim.x + threadIdx.x, taps = s.taps();
    const Int numbers = Int(s.outputs) * taps * s.channels;
    if (at >= numbers) return;
    float sum = parts[at];
    for (Int part = 1; part < count; part++) sum += parts[part * numbers + at];
    const Int channel = at % s.channels, tap = at / s.channels % taps, output = at / s.channels / taps;
    gw[(output * s.channels + channel) * taps + tap] = T(sum);
}

#define EXPORT(NAME, T)                                                                              \
    extern "C" __global__ void __launch_bounds__(WIDE_THREADS, 2) convolution_wide_##NAME(           \
        const T* x, const T* weight, const T* bias, T* out, const __grid_constant__ Slide slide) {   \
        extern __shared__ uint4 memory[];                                                            \
        convolution_wide(memory, x, weight, bias, out, slide);                                       \
    }                                                                                                \
    extern "C" __global__ void __launch_bounds__(WIDE_THREADS, 2) convolution_wide_input_grad_##NAME( \
        const T* g, const T* weight, T* gx, const __grid_constant__ Slide slide) {                   \
        extern __shared__ uint4 memory[];                                                            \
        convolution_wide_input_grad(memory, g, weight, gx, slide);                                   \
    }                                                                                                \
    extern "C" __global__ void __launch_bounds__(WIDE_THREADS, 2) convolution_wide_weight_grad_##NAME( \
        const T* g, const T* x, float* parts, const __grid_constant__ Slide slide,                   \
        Int windows_of_part) {                                                                       \
        extern __shared__ uint4 memory[];                                                            \
        convolution_wide_weight_grad(memory, g, x, parts, slide, windows_of_part);                   \
    }                                                                                                \
    extern "C" __global__ void convolution_wide_join_##NAME(                                         \
        const float* parts, T* gw, const __grid_constant__ Slide slide, Int count) {                 \
        convolution_wide_join(parts, gw, slide, count);                                              \
    }
FOR_EACH_HALF(EXPORT)
