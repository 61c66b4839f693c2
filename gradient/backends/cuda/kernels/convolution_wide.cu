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
// For each of its windows along depth a thread keeps where it begins, and which taps are inside of the
// image: a bit each, of which there are up to 32. So what a pack costs is an addition and a bit. For gw,
// where windows change from step to step, a warp puts their places into shared memory.
//
// Bytes: x about taps * outputs / 128 times from the cache, and hardly more than once from memory.
#include "wide_tiles.cuh"
#include "windows.cuh"

constexpr int OUTSIDE = -(1 << 30);  // whatever is added

// The taps of a kernel of this size one after the other, and eight of `channels` of each: what a thread's
// pack of the next step is of.
struct TapsByChannels {
    const int (&size)[3];
    int channels;
    Place tap;
    int number, channel;

    __device__ TapsByChannels(const int (&size)[3], int channels, int pack)
        : size(size), channels(channels), tap{{0, 0, 0}}, number(0), channel(pack * 8) {
        skip();
    }
    __device__ void skip() {
        while (channel >= channels) {
            channel -= channels, number++;
            if (++tap.at[2] < size[2]) continue;
            tap.at[2] = 0;
            if (++tap.at[1] < size[1]) continue;
            tap.at[1] = 0, tap.at[0]++;
        }
    }
    __device__ void go_on() { channel += WIDE_STEP, skip(); }
    __device__ bool there() const { return tap.at[0] < size[0]; }
};

// Rows are windows of `first` and after; depth is taps and channels. The same of g, whose windows are
// places: WINDOWS says where row `number` begins, how far its tap is from there, and what is inside.
template <class T, class WINDOWS> struct WindowsAlong : LaidAlong<T> {
    const WINDOWS& of;
    const T* begin[COPIES];
    unsigned inside[COPIES];
    TapsByChannels next;

    __device__ WindowsAlong(const T* images, const WINDOWS& of, unsigned first)
        : of(of), next(of.taps(), of.channels(), this->pack()) {
        const int taps = of.taps()[0] * of.taps()[1] * of.taps()[2];
#pragma unroll
        for (int i = 0; i < COPIES; i++) {
            unsigned image;
            const Place window = of.window(first + this->row(i), image);
            begin[i] = images + (Int(image) * of.plane() + window.offset(of.size())) * of.channels();
            inside[i] = 0;
            for (int k = 0; k < taps; k++)
                inside[i] |= unsigned((window + of.moved(place_of(k, of.taps()))).inside(of.size())) << k;
        }
    }
    __device__ void copy(T* to, Int) {
        const Int far = of.moved(next.tap).offset(of.size()) * of.channels() + next.channel;
        const bool any = next.there();
#pragma unroll
        for (int i = 0; i < COPIES; i++) {
            const bool there = any && inside[i] >> next.number & 1;
            cp_async(to + this->place(this->row(i), this->pack()), begin[i] + (there ? far : 0), there ? 16 : 0);
        }
        next.go_on();
    }
};

// Windows of an image.
struct OfImage {
    const Slide& s;
    __device__ const int (&taps() const)[3] { return s.kernel; }
    __device__ const int (&size() const)[3] { return s.size; }
    __device__ int channels() const { return s.channels; }
    __device__ int plane() const { return s.plane(); }
    __device__ Place window(unsigned number, unsigned& image) const {
        const unsigned count = s.windows_of_image();
        image = number / count;
        if (image < unsigned(s.images)) return of_window(s, number % count);
        image = 0;
        return {{OUTSIDE, 0, 0}};
    }
    __device__ Place moved(const Place& tap) const {
        return {{tap.at[0] * s.dilation[0], tap.at[1] * s.dilation[1], tap.at[2] * s.dilation[2]}};
    }
};

// Places of a remainder of the input, which meet windows of g.
struct OfRemainder {
    const Slide& s;
    const Remainder& r;
    __device__ const int (&taps() const)[3] { return r.taps; }
    __device__ const int (&size() const)[3] { return s.windows; }
    __device__ int channels() const { return s.outputs; }
    __device__ int plane() const { return s.windows_of_image(); }
    __device__ Place window(unsigned number, unsigned& image) const {
        const unsigned count = r.places();
        image = number / count;
        if (image < unsigned(s.images))
            return place_of(number % count, r.count) + Place{{r.start[0], r.start[1], r.start[2]}};
        image = 0;
        return {{OUTSIDE, 0, 0}};
    }
    __device__ Place moved(const Place& tap) const {
        return {{-tap.at[0] * r.apart[0], -tap.at[1] * r.apart[1], -tap.at[2] * r.apart[2]}};
    }
};

// Rows are channels of the weight (channels, taps, outputs) from `first` on; depth is the taps that a
// remainder meets, and outputs.
template <class T> struct WeightOfRemainder : LaidAlong<T> {
    const Slide& s;
    const Remainder& r;
    const T* weight;
    int rows;
    Int depth;
    TapsByChannels next;

    __device__ WeightOfRemainder(const T* weight, const Slide& s, const Remainder& r, int first)
        : s(s), r(r), weight(weight + Int(first) * s.taps() * s.outputs), rows(s.channels - first),
          depth(Int(r.all_taps()) * s.outputs), next(r.taps, s.outputs, this->pack()) {}
    __device__ void copy(T* to, Int) {
        Place tap;
#pragma unroll
        for (int i = 0; i < 3; i++) tap.at[i] = r.first[i] + next.tap.at[i] * r.step[i];
        const T* at = weight + tap.offset(s.kernel) * s.outputs + next.channel;
#pragma unroll
        for (int i = 0; i < COPIES; i++) {
            const int row = this->row(i);
            const bool there = row < rows && next.there();
            const T* from = there ? at + Int(row) * s.taps() * s.outputs : weight;
            cp_async(to + this->place(row, this->pack()), from, there ? 16 : 0);
        }
        next.go_on();
    }
};

// Rows are taps and channels from `first` on; depth is the windows first_window to last - 1.
constexpr int TOLD = 2 * STAGES;
struct alignas(16) Told { int number; Place begin; };  // of the places of all images
template <class T> struct WindowsAcross : LaidAcross<T> {
    const Slide& s;
    Told (*table)[WIDE_STEP];
    const T* x;  // at this thread's tap and channel
    Place tap;
    unsigned first, last;

    __device__ WindowsAcross(const T* x, const Slide& s, int row, unsigned first, unsigned last,
                             Told (*table)[WIDE_STEP])
        : s(s), table(table), first(first), last(last) {
        row += this->pack() * 8;
        const bool there = row < s.taps() * s.channels;
        tap = of_tap(s, there ? row / s.channels : 0);
        this->x = x + tap.offset(s.size) * s.channels + row % s.channels;
        if (!there) tap = {{OUTSIDE, 0, 0}};
    }
    __device__ void prepare(Int step) {
        if (threadIdx.x >= WIDE_STEP) return;
        const unsigned number = first + unsigned(step) * WIDE_STEP + threadIdx.x;
        const unsigned count = s.windows_of_image(), image = number / count;
        Told told = {0, {{OUTSIDE, 0, 0}}};
        if (number < last) {
            told.begin = of_window(s, number % count);
            told.number = int(image) * s.plane() + int(told.begin.offset(s.size));
        }
        table[step % TOLD][threadIdx.x] = told;
    }
    __device__ void copy(T* to, Int k) {
#pragma unroll
        for (int i = 0; i < COPIES; i++) {
            const Told& told = table[k / WIDE_STEP % TOLD][this->at(i)];
            const bool there = (told.begin + tap).inside(s.size);
            const T* from = x + (there ? Int(told.number) * s.channels : 0);
            cp_async(to + this->place(this->at(i), this->pack()), from, there ? 16 : 0);
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
    const OfImage windows = {s};
    wide_tile<T>(memory, WideAlong<T>(weight + row * depth, s.outputs - row, depth, depth),
                 WindowsAlong<T, OfImage>(x, windows, first), [&](int i, int j, float sum, float next) {
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
    const OfRemainder places = {s, r};
    wide_tile<T>(memory, WeightOfRemainder<T>(weight, s, r, row),
                 WindowsAlong<T, OfRemainder>(g, places, first),
                 [&](int i, int j, float sum, float next) {
                     write(row + i, first + j, sum), write(row + i, first + j + 1, next);
                 });
}

// Grid: (tiles of taps and channels, tiles of outputs, parts of the windows).
template <class T>
__device__ void convolution_wide_weight_grad(void* memory, const T* g, const T* x, float* parts,
                                             const Slide& s, Int windows_of_part) {
    __shared__ Told table[TOLD][WIDE_STEP];
    const int row = blockIdx.y * WIDE, column = blockIdx.x * WIDE, columns = s.taps() * s.channels;
    const Int first = blockIdx.z * windows_of_part;
    const Int last = min(first + windows_of_part, Int(s.images) * s.windows_of_image());
    float* const part = parts + Int(blockIdx.z) * s.outputs * columns;
    wide_tile<T>(memory,
                 WideAcross<T>(g + first * s.outputs + row, s.outputs - row, s.outputs, last - first),
                 WindowsAcross<T>(x, s, column, unsigned(first), unsigned(last), table),
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
