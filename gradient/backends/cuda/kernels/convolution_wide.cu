// Convolution of 16-bit images and its gradients by tensor cores (implicit GEMM), channels last:
// the columns of windows are copied from the image to shared memory when a step needs them, eight
// channels of a place at a time, and never stored in global memory.
//
//     out[n, o, q] = sum over (k, c) of weight[o, k, c] * x[n, place of number k of window q, c]
//     gx[n, c, y]  = sum over (k, o) of weight[c, k, o] * g[n, the window whose number k is at y, o]
//     gw[o, k, c]  = sum over (n, q) of g[n, q, o] * x[n, place of number k of window q, c]
//
//     x             (images, ..., channels)
//     g             (images, windows, outputs)
//     out, gx       channels first
//     weight        (outputs, taps, channels); (outputs, channels / 32, taps, 32) if channels are a
//                   multiple of 32; (channels, taps, outputs) for a gx of several remainders
//
// The summed dimension must be a multiple of 8 (for gw: both channels and outputs).
//
//     product   rows        columns             summed over ("depth")
//     out       outputs o   windows (n, q)      taps and channels (k, c)
//     gx        inputs c    places (n, y)       those taps that meet the place, and outputs
//     gw        outputs o   (k, c)              windows (n, q), in parts that a second kernel adds up
//
// Gradient for the input: places with the same remainder modulo the stride are a separate product
// (`Remainder`). For each of its windows a thread stores the address of the first element, and a
// bit mask of the taps that are inside of the image (at most 32). So a pack costs an addition and a
// test of a bit. For gw, whose windows change at each step, one warp writes their places to shared
// memory.
//
// If channels are a multiple of 32, depth is ordered as 32 channels of all taps, then the next 32,
// like the weight. So consecutive steps read almost the same places, which stay in the L1 cache (31
// KiB for 3 x 3 and rows of 56).
//
// Bytes: x about taps * outputs / 128 times from the L1 cache; 1 / taps of that from the L2 cache
// if channels are a multiple of 32; hardly more than once from memory.
#include "wide_tiles.cuh"
#include "windows.cuh"

constexpr int OUTSIDE = -(1 << 30);  // stays outside, whatever is added

// The position along depth of a thread's pack in the next step: a tap of a kernel of this size, and
// eight of `channels`. Taps advance first within 32 channels if channels are a multiple of 32, else
// channels advance first.
struct TapsByChannels {
    const int (&size)[3];
    int channels;
    Place tap;
    int number, channel;

    __device__ TapsByChannels(const int (&size)[3], int channels, int pack)
        : size(size), channels(channels), tap{{0, 0, 0}}, number(0), channel(pack * 8) {
        while (channel >= channels) channel -= channels, next_tap();
    }
    __device__ void next_tap() {
        number++;
        if (++tap.at[2] < size[2]) return;
        tap.at[2] = 0;
        if (++tap.at[1] < size[1]) return;
        tap.at[1] = 0, tap.at[0]++;
    }
    __device__ void go_on() {
        if (channels % WIDE_STEP == 0) {
            next_tap();
            if (tap.at[0] == size[0]) tap.at[0] = 0, number = 0, channel += WIDE_STEP;
            return;
        }
        channel += WIDE_STEP;
        while (channel >= channels) channel -= channels, next_tap();
    }
    __device__ bool there() const { return tap.at[0] < size[0] && channel < channels; }
};

// Rows are windows from `first` on; depth is (tap, channel). For the gradient of the input, rows
// are places, and depth is the windows of g. WINDOWS gives the start of row `number`, the
// displacement of a tap, and the size that bounds both.
template <class T, class WINDOWS> struct WindowsAlong : LaidAlong<T> {
    const WINDOWS& of;
    const T* begin[COPIES];
    unsigned inside[COPIES];
    TapsByChannels next;
    int lands;

    __device__ WindowsAlong(const T* images, const WINDOWS& of, unsigned first)
        : of(of), next(of.taps(), of.channels(), this->pack()), lands(this->landing()) {
        const int taps = of.taps()[0] * of.taps()[1] * of.taps()[2];
        Place windows[COPIES];
#pragma unroll
        for (int i = 0; i < COPIES; i++) {
            unsigned image;
            windows[i] = of.window(first + this->row(i), image);
            begin[i] = images + (Int(image) * of.plane() + windows[i].offset(of.size())) * of.channels();
            inside[i] = 0;
        }
#pragma unroll 1
        for (int k = 0; k < taps; k++) {
            const Place tap = of.moved(place_of(k, of.taps()));
#pragma unroll
            for (int i = 0; i < COPIES; i++) inside[i] |= unsigned((windows[i] + tap).inside(of.size())) << k;
        }
    }
    __device__ void copy(T* to) {
        const Place tap = of.moved(next.tap);
        const int line = tap.at[0] * of.size()[1] + tap.at[1];
        const int far = (line * of.size()[2] + tap.at[2]) * of.channels() + next.channel;
        const unsigned bit = next.there() ? 1u << next.number : 0;
#pragma unroll
        for (int i = 0; i < COPIES; i++) {
            cp_async_cached(to + lands + this->after(i), begin[i] + far, inside[i] & bit ? 16 : 0);
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

// Places of the input with one remainder, as windows of g.
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

// Rows are channels of the weight (channels, taps, outputs) from `first` on; depth is the taps of
// the remainder, and outputs.
template <class T> struct WeightOfRemainder : LaidAlong<T> {
    const Slide& s;
    const Remainder& r;
    const T* weight;
    int rows, lands;
    Int depth;
    TapsByChannels next;

    __device__ WeightOfRemainder(const T* weight, const Slide& s, const Remainder& r, int first)
        : s(s), r(r), weight(weight + Int(first) * s.taps() * s.outputs), rows(s.channels - first),
          lands(this->landing()), depth(Int(r.all_taps()) * s.outputs), next(r.taps, s.outputs, this->pack()) {}
    __device__ void copy(T* to) {
        Place tap;
#pragma unroll
        for (int i = 0; i < 3; i++) tap.at[i] = r.first[i] + next.tap.at[i] * r.step[i];
        const T* at = weight + tap.offset(s.kernel) * s.outputs + next.channel;
#pragma unroll
        for (int i = 0; i < COPIES; i++) {
            const int row = this->row(i);
            const bool there = row < rows && next.there();
            cp_async(to + lands + this->after(i), at + Int(row) * s.taps() * s.outputs, there ? 16 : 0);
        }
        next.go_on();
    }
};

// Rows are (tap, channel) from `first` on; depth is the windows first_window to last - 1.
constexpr int TABLE_STEPS = 2 * STAGES;
struct alignas(16) WindowStart { int number; Place begin; };  // `number`: index among the places of all images
template <class T> struct WindowsAcross : LaidAcross<T> {
    const Slide& s;
    WindowStart (*table)[WIDE_STEP];
    const T* x;  // at this thread's tap and channel
    Place tap;
    unsigned first, last, step;
    int lands;

    __device__ WindowsAcross(const T* x, const Slide& s, int row, unsigned first, unsigned last,
                             WindowStart (*table)[WIDE_STEP])
        : s(s), table(table), first(first), last(last), step(0), lands(this->landing()) {
        row += this->pack() * 8;
        const bool there = row < s.taps() * s.channels;
        tap = of_tap(s, there ? row / s.channels : 0);
        this->x = x + tap.offset(s.size) * s.channels + row % s.channels;
        if (!there) tap = {{OUTSIDE, 0, 0}};
    }
    __device__ void prepare(unsigned step) {
        if (threadIdx.x >= WIDE_STEP) return;
        const unsigned number = first + step * WIDE_STEP + threadIdx.x;
        const unsigned count = s.windows_of_image(), image = number / count;
        WindowStart start = {0, {{OUTSIDE, 0, 0}}};
        if (number < last) {
            start.begin = of_window(s, number % count);
            start.number = int(image) * s.plane() + int(start.begin.offset(s.size));
        }
        table[step % TABLE_STEPS][threadIdx.x] = start;
    }
    __device__ void copy(T* to) {
#pragma unroll
        for (int i = 0; i < COPIES; i++) {
            const WindowStart& start = table[step % TABLE_STEPS][this->at(i)];
            const bool there = (start.begin + tap).inside(s.size);
            cp_async(to + lands + this->after(i), x + Int(start.number) * s.channels, there ? 16 : 0);
        }
        step++;
    }
};

// Grid: tiles of windows by tiles of outputs; consecutive blocks share the windows.
template <class T>
__device__ void convolution_wide(void* memory, const T* x, const T* weight, const T* bias, T* out,
                                 const Slide& s) {
    const int tiles = (s.outputs + WIDE - 1) / WIDE, row = int(blockIdx.x) % tiles * WIDE;
    const unsigned first = blockIdx.x / tiles * WIDE, count = s.windows_of_image();
    const Int depth = Int(s.taps()) * s.channels;
    const OfImage windows = {s};
    wide_tile<T>(memory, WideAlong<T>(weight + row * depth, s.outputs - row, depth, depth),
                 WindowsAlong<T, OfImage>(x, windows, first), [&](int j) {
                     const unsigned window = first + j, image = window / count, q = window - image * count;
                     const unsigned after = s.images * count - window;  // windows from this one on
                     const int rows = window < s.images * count ? s.outputs - row : 0;
                     T* const plane = out + (Int(image) * s.outputs + row) * count + q;
                     const Int apart = q + 1 < count ? 1 : Int(s.outputs - 1) * count + 1;
                     return [=](int i, float sum, float next) {
                         if (i >= rows) return;
                         if (bias) sum += float(bias[row + i]), next += float(bias[row + i]);
                         T* const at = plane + i * Int(count);
                         if (count % 2 == 0) return store_two(at, sum, next);
                         *at = T(sum);
                         if (after > 1) at[apart] = T(next);
                     };
                 });
}

// Grid: (tiles of places by tiles of channels, remainders). A remainder may have fewer tiles of
// places.
template <class T>
__device__ void convolution_wide_input_grad(void* memory, const T* g, const T* weight, T* gx,
                                            const Slide& s) {
    __shared__ Remainder r;
    if (threadIdx.x == 0) r = Remainder(s, blockIdx.y);
    __syncthreads();
    const int tiles = (s.channels + WIDE - 1) / WIDE, row = int(blockIdx.x) % tiles * WIDE;
    const unsigned first = blockIdx.x / tiles * WIDE, count = r.places();
    if (first >= s.images * count) return;
    // The address of place `number` in the tile's first plane; null past the end.
    const auto find = [&](unsigned number) -> T* {
        if (number >= s.images * count) return nullptr;
        Place place = place_of(number % count, r.count);
#pragma unroll
        for (int axis = 0; axis < 3; axis++) place.at[axis] = place.at[axis] * s.stride[axis] + r.rest[axis];
        return gx + (Int(number / count) * s.channels + row) * s.plane() + place.offset(s.size);
    };
    const int rows = s.channels - row;
    const Int plane = s.plane();
    const OfRemainder places = {s, r};
    wide_tile<T>(memory, WeightOfRemainder<T>(weight, s, r, row),
                 WindowsAlong<T, OfRemainder>(g, places, first),
                 [&](int j) {
                     T *const at = find(first + j), *const after = find(first + j + 1);
                     return [=](int i, float sum, float next) {
                         if (i < rows && at) at[i * plane] = T(sum);
                         if (i < rows && after) after[i * plane] = T(next);
                     };
                 });
}

// Grid: (tiles of taps and channels, tiles of outputs, parts of the windows).
template <class T>
__device__ void convolution_wide_weight_grad(void* memory, const T* g, const T* x, float* parts,
                                             const Slide& s, Int windows_of_part) {
    __shared__ WindowStart table[TABLE_STEPS][WIDE_STEP];
    const int row = blockIdx.y * WIDE, column = blockIdx.x * WIDE, columns = s.taps() * s.channels;
    const Int first = blockIdx.z * windows_of_part;
    const Int last = min(first + windows_of_part, Int(s.images) * s.windows_of_image());
    float* const part = parts + Int(blockIdx.z) * s.outputs * columns;
    wide_tile<T>(memory,
                 WideAcross<T>(g + first * s.outputs + row, s.outputs - row, s.outputs, last - first),
                 WindowsAcross<T>(x, s, column, unsigned(first), unsigned(last), table),
                 [&](int j) {
                     const int rows = column + j < columns ? s.outputs - row : 0;
                     float* const at = part + Int(row) * columns + column + j;
                     return [=](int i, float sum, float next) {
                         if (i < rows) *reinterpret_cast<float2*>(at + i * Int(columns)) = {sum, next};
                     };
                 });
}

// gw (outputs, channels, taps) = the sum of the parts (outputs, taps, channels), in order. Grid:
// blocks of 256 elements.
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
