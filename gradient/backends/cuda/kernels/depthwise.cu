// Depthwise convolution and its gradients: each channel of the input makes its own outputs. (For the
// letters, see convolution.cu.)
//
//     out[n, o, q] = sum over k of weight[o, k] * x[n, c, place of number k of window q]
//
// `depthwise_K_S` and its gradients are for two-dimensional images, kernels of K x K and a stride
// of S in both dimensions. A thread computes a strip of ROWS windows, one below the other. It loops
// over the image rows that they share: it loads K numbers of a row, adjacent to its neighbours',
// and adds them to all windows that contain them. Whether its columns are inside of the image is
// the same for all rows. For 3 x 3 that is 3.75 loads and about 30 instructions per output, where
// one thread per output takes 9 and 300.
//
// The gradient for the weight sums K x K numbers in a thread's registers along the same rows. The
// gradient for the input is the forward kernel with the weight flipped if S is 1. Otherwise a
// thread has two columns, and rows in pairs; their taps differ by the remainder modulo the stride.
//
// The other kernels are for any kernel, stride and dilation in up to three dimensions: one thread
// per output, and one block per nine elements of the weight.
//
// Bytes: x and out are read and written once. Sums are deterministic.
#include "rows.cuh"
#include "windows.cuh"

// Strips of ROWS windows, or places, in all planes: `columns` side by side, `strips` below each
// other, `planes` per image.
struct Strips {
    Divisor columns, strips, planes;
    unsigned count;
};

constexpr int STRIP_THREADS = 128;
template <int S> constexpr int ROWS = S == 1 ? 8 : 4;
// Image rows of ROWS windows.
template <int K, int S> constexpr int LINES = (ROWS<S> - 1) * S + K;

// K numbers in the rows of a plane, from column `x` on.
template <class T, int K> struct Column {
    const T* at;
    int line, lines, pitch;
    bool inside[K];

    __device__ Column(const T* plane, const int (&size)[3], int y, int x)
        : at(plane + y * size[2] + x), line(y), lines(size[1]), pitch(size[2]) {
#pragma unroll
        for (int k = 0; k < K; k++) inside[k] = unsigned(x + k) < unsigned(size[2]);
    }
    // Loads them from `l` rows below; 0 outside. Returns whether that row is inside.
    __device__ bool load(int l, computed<T> (&values)[K]) const {
        const bool there = unsigned(line + l) < unsigned(lines);
        const T* const from = at + l * pitch;
#pragma unroll
        for (int k = 0; k < K; k++) values[k] = there && inside[k] ? computed<T>(from[k]) : computed<T>(0);
        return there;
    }
};

// Adds products with a weight to windows below each other, the first of which starts at `column`.
// TURNED is for gradients: the kernel is flipped, and positions outside are skipped (an infinite
// weight would give NaN).
template <class T, int K, int S, bool TURNED>
__device__ void add_windows(const Column<T, K>& column, const T* weight, computed<T> (&sums)[ROWS<S>]) {
    computed<T> taps[K][K];
#pragma unroll
    for (int k = 0; k < K * K; k++) {
        taps[k / K][k % K] = computed<T>(weight[TURNED ? K * K - 1 - k : k]);
        if (TURNED && !column.inside[k % K]) taps[k / K][k % K] = 0;
    }
#pragma unroll
    for (int l = 0; l < LINES<K, S>; l++) {
        computed<T> values[K];
        if (!column.load(l, values) && TURNED) continue;
#pragma unroll
        for (int row = 0; row < ROWS<S>; row++)
            if (l >= row * S && l < row * S + K)
#pragma unroll
                for (int k = 0; k < K; k++) sums[row] += taps[l - row * S][k] * values[k];
    }
}

// Grid: blocks of 128 strips.
template <class T, int K, int S>
__device__ void depthwise_strips(const T* x, const T* weight, const T* bias, T* out, const Slide& s,
                                 const Strips& strips) {
    const unsigned at = blockIdx.x * blockDim.x + threadIdx.x;
    if (at >= strips.count) return;
    const unsigned of_column = strips.columns.divide(at), column = at - of_column * strips.columns.by;
    const unsigned plane = strips.strips.divide(of_column), image = strips.planes.divide(plane);
    const int first = (of_column - plane * strips.strips.by) * ROWS<S>;
    const int output = plane - image * strips.planes.by;
    const int channel = s.channels == s.outputs ? output : output / s.outputs_of_group();
    computed<T> sums[ROWS<S>] = {};
    const Column<T, K> numbers(x + (Int(image) * s.channels + channel) * s.plane(), s.size,
                               first * S - s.before[1], int(column) * S - s.before[2]);
    add_windows<T, K, S, false>(numbers, weight + output * K * K, sums);
    const computed<T> more = bias ? computed<T>(bias[output]) : computed<T>(0);
    T* const to = out + Int(plane) * s.windows_of_image() + first * s.windows[2] + column;
#pragma unroll
    for (int row = 0; row < ROWS<S>; row++)
        if (first + row < s.windows[1]) to[row * s.windows[2]] = T(sums[row] + more);
}

// Places in pairs: column 2 c + e - before; its taps e, e + 2, ... meet windows c, c - 1, ...; rows
// alike.
template <class T, int K>
__device__ void add_pairs(const Column<T, (K + 1) / 2>& column, const T* weight,
                          computed<T> (&sums)[ROWS<2>][2]) {
    constexpr int REACH = (K - 1) / 2;
    computed<T> taps[K][K];
#pragma unroll
    for (int k = 0; k < K * K; k++) {
        taps[k / K][k % K] = computed<T>(weight[k]);
        if (!column.inside[REACH - k % K / 2]) taps[k / K][k % K] = 0;
    }
#pragma unroll
    for (int l = 0; l < ROWS<2> / 2 + REACH; l++) {
        computed<T> values[REACH + 1];
        if (!column.load(l, values)) continue;
#pragma unroll
        for (int row = 0; row < ROWS<2>; row++) {
            const int j = (row / 2 + REACH - l) * 2 + row % 2;
            if (j >= 0 && j < K)
#pragma unroll
                for (int k = 0; k < K; k++) sums[row][k % 2] += taps[j][k] * values[REACH - k / 2];
        }
    }
}

// Any number of inputs per group; with few, as in the first layer for images, GEMM tiles would be
// mostly empty.
// Grid: blocks of 128 strips, of two columns if the stride is 2.
template <class T, int K, int S>
__device__ void depthwise_strips_input_grad(const T* g, const T* weight, T* gx, const Slide& s,
                                            const Strips& strips) {
    const unsigned at = blockIdx.x * blockDim.x + threadIdx.x;
    if (at >= strips.count) return;
    const unsigned of_column = strips.columns.divide(at), column = at - of_column * strips.columns.by;
    const unsigned plane = strips.strips.divide(of_column), image = strips.planes.divide(plane);
    const int strip = of_column - plane * strips.strips.by, channel = plane - image * strips.planes.by;
    const int count = s.outputs_of_group(), windows = s.windows_of_image();
    const int inputs = s.inputs(), group = inputs == 1 ? channel : channel / inputs, apart = inputs * K * K;
    const T* const of_g = g + (Int(image) * s.outputs + group * count) * windows;
    const T* of_weight = weight + (Int(group) * count * inputs + channel - group * inputs) * K * K;
    T* const to = gx + Int(plane) * s.plane();
    if constexpr (S == 1) {
        const int first = strip * ROWS<S>;
        computed<T> sums[ROWS<S>] = {};
        Column<T, K> numbers(of_g, s.windows, first + s.before[1] - K + 1, int(column) + s.before[2] - K + 1);
        for (int o = 0; o < count; o++, numbers.at += windows, of_weight += apart)
            add_windows<T, K, S, true>(numbers, of_weight, sums);
#pragma unroll
        for (int row = 0; row < ROWS<S>; row++)
            if (first + row < s.size[1]) to[(first + row) * s.size[2] + column] = T(sums[row]);
    } else {
        const int r = strip * ROWS<S> / 2 + (s.before[1] >> 1), c = int(column) + (s.before[2] >> 1);
        const int y = 2 * r - s.before[1], x = 2 * c - s.before[2];
        computed<T> sums[ROWS<S>][2] = {};
        Column<T, (K + 1) / 2> numbers(of_g, s.windows, r - (K - 1) / 2, c - (K - 1) / 2);
        for (int o = 0; o < count; o++, numbers.at += windows, of_weight += apart)
            add_pairs<T, K>(numbers, of_weight, sums);
#pragma unroll
        for (int row = 0; row < ROWS<S>; row++)
#pragma unroll
            for (int e = 0; e < 2; e++)
                if (unsigned(y + row) < unsigned(s.size[1]) && unsigned(x + e) < unsigned(s.size[2]))
                    to[(y + row) * s.size[2] + x + e] = T(sums[row][e]);
    }
}

// Adds the windows of a strip to the gradient of K x K weights: the first `rows` of it, or all if
// WHOLE.
template <class T, int K, int S, bool WHOLE>
__device__ void add_strip(const T* g, int pitch, int rows, const Column<T, K>& column, computed<T> (&sums)[K][K]) {
    computed<T> of_g[ROWS<S>];
#pragma unroll
    for (int row = 0; row < ROWS<S>; row++)
        of_g[row] = WHOLE || row < rows ? computed<T>(g[row * pitch]) : computed<T>(0);
#pragma unroll
    for (int l = 0; l < LINES<K, S>; l++) {
        computed<T> values[K];
        column.load(l, values);
#pragma unroll
        for (int row = 0; row < ROWS<S>; row++)
            if (l >= row * S && l < row * S + K && (WHOLE || row < rows))
#pragma unroll
                for (int k = 0; k < K; k++) sums[l - row * S][k] += of_g[row] * values[k];
    }
}

// Grid: (outputs, 1, parts of the rows of strips of all images). With several parts, out is null,
// and part p of the gradient goes to parts[p].
template <class T, int K, int S>
__device__ void depthwise_strips_weight_grad(const T* g, const T* x, T* out, computed<T>* parts, const Slide& s,
                                             Int strips_of_part, const Strips& strips) {
    const int output = blockIdx.x, channel = output / s.outputs_of_group(), windows = s.windows_of_image();
    const unsigned from = blockIdx.z * unsigned(strips_of_part);
    const unsigned count = min(unsigned(strips_of_part), s.images * strips.strips.by - from) * strips.columns.by;
    computed<T> sums[K][K] = {};
    for (unsigned at = threadIdx.x; at < count; at += blockDim.x) {
        const unsigned of_column = strips.columns.divide(at), column = at - of_column * strips.columns.by;
        const unsigned strip = from + of_column, image = strips.strips.divide(strip);
        const int first = (strip - image * strips.strips.by) * ROWS<S>, rows = s.windows[1] - first;
        const T* const of_g = g + (Int(image) * s.outputs + output) * windows + first * s.windows[2] + column;
        const Column<T, K> numbers(x + (Int(image) * s.channels + channel) * s.plane(), s.size,
                                   first * S - s.before[1], int(column) * S - s.before[2]);
        if (rows >= ROWS<S>) add_strip<T, K, S, true>(of_g, s.windows[2], rows, numbers, sums);
        else add_strip<T, K, S, false>(of_g, s.windows[2], rows, numbers, sums);
    }
    __shared__ computed<T> of_warps[STRIP_THREADS / 32][K * K];
#pragma unroll
    for (int k = 0; k < K * K; k++) {
        computed<T> sum = sums[k / K][k % K];
        for (int distance = 16; distance > 0; distance /= 2) sum += __shfl_xor_sync(0xffffffffu, sum, distance);
        if (threadIdx.x % 32 == 0) of_warps[threadIdx.x / 32][k] = sum;
    }
    __syncthreads();
    for (int k = threadIdx.x; k < K * K; k += blockDim.x) {
        computed<T> sum = 0;
        for (int warp = 0; warp < blockDim.x / 32; warp++) sum += of_warps[warp][k];
        if (out) out[output * K * K + k] = T(sum);
        else parts[(Int(blockIdx.z) * s.outputs + output) * K * K + k] = sum;
    }
}

// The plane of element `at`, for planes of `size` elements; `at` becomes its index in the plane. A
// 64-bit division takes some hundred instructions.
__device__ inline Int plane_of(Int& at, unsigned size) {
    const Int plane = at >> 32 ? at / size : Int(unsigned(at) / size);
    at -= plane * size;
    return plane;
}
// The image of plane number `plane`, `count` planes per image; `plane` becomes its number in the
// image.
__device__ inline int image_of(Int& plane, int count) {
    const int image = plane >> 32 ? int(plane / count) : int(unsigned(plane) / unsigned(count));
    plane -= Int(image) * count;
    return image;
}

// Grid: blocks of 256 outputs.
template <class T>
__device__ void depthwise(const T* x, const T* weight, const T* bias, T* out, const Slide& s) {
    const Int at = Int(blockIdx.x) * blockDim.x + threadIdx.x;
    const unsigned count = s.windows_of_image();
    Int place = at, output = plane_of(place, count);
    if (output >= Int(s.images) * s.outputs) return;
    const int number = image_of(output, s.outputs), channel = int(output) / s.outputs_of_group();
    const T* image = x + (Int(number) * s.channels + channel) * s.plane();
    const T* tap = weight + output * s.taps();
    const Place window = of_window(s, unsigned(place));
    computed<T> sum = 0;
    for (int i = 0; i < s.kernel[0]; i++)
        for (int j = 0; j < s.kernel[1]; j++) {
            const int z = window.at[0] + i * s.dilation[0], y = window.at[1] + j * s.dilation[1];
            const bool there = unsigned(z) < unsigned(s.size[0]) && unsigned(y) < unsigned(s.size[1]);
            const T* line = image + (there ? Int(z * s.size[1] + y) * s.size[2] : 0);
            for (int k = 0; k < s.kernel[2]; k++, tap++) {
                const int column = window.at[2] + k * s.dilation[2];
                const bool inside = there && unsigned(column) < unsigned(s.size[2]);
                sum += computed<T>(*tap) * computed<T>(inside ? line[column] : T(0.0f));
            }
        }
    out[at] = T(bias ? sum + computed<T>(bias[output]) : sum);
}

// The window along one axis whose element `tap` is at `place`; -1 if there is none.
__device__ inline int window_along(const Slide& s, int axis, int place, int tap) {
    const int from = place + s.before[axis] - tap * s.dilation[axis];
    if (s.stride[axis] == 1) return from < s.windows[axis] ? from : -1;
    const int window = from / s.stride[axis];
    return from >= 0 && window * s.stride[axis] == from && window < s.windows[axis] ? window : -1;
}

// Grid: blocks of 256 elements of the input.
template <class T>
__device__ void depthwise_input_grad(const T* g, const T* weight, T* gx, const Slide& s) {
    const Int at = Int(blockIdx.x) * blockDim.x + threadIdx.x;
    const unsigned size = s.plane(), windows = s.windows_of_image();
    Int number = at, channel = plane_of(number, size);
    if (channel >= Int(s.images) * s.channels) return;
    const int image = image_of(channel, s.channels), count = s.outputs_of_group();
    const Place place = place_of(unsigned(number), s.size);
    const Int output = channel * count;
    const T* const of_g = g + (Int(image) * s.outputs + output) * windows;
    const T* tap = weight + output * s.taps();
    computed<T> sum = 0;
    for (int i = 0; i < s.kernel[0]; i++)
        for (int j = 0; j < s.kernel[1]; j++) {
            const int z = window_along(s, 0, place.at[0], i), y = window_along(s, 1, place.at[1], j);
            const bool there = z >= 0 && y >= 0;
            const T* line = of_g + (there ? Int(z * s.windows[1] + y) * s.windows[2] : 0);
            for (int k = 0; k < s.kernel[2]; k++, tap++) {
                const int window = window_along(s, 2, place.at[2], k);
                if (!there || window < 0) continue;
                for (int o = 0; o < count; o++)
                    sum += computed<T>(tap[Int(o) * s.taps()]) *
                           computed<T>(line[Int(o) * windows + window]);
            }
        }
    gx[at] = T(sum);
}

// TAPS elements of an output's weight, summed over the windows of some images: g is read once for
// all of them. A thread advances between windows by `step`, without a division. Grid: (outputs,
// groups of TAPS taps, parts of the images). With several parts, out is null, and part p of the
// gradient goes to parts[p].
constexpr int TAPS = 9;
template <class T>
__device__ void depthwise_weight_grad(const T* g, const T* x, T* out, computed<T>* parts,
                                      const Slide& s, Int images_of_part) {
    typedef computed<T> A;
    const int output = blockIdx.x, first = blockIdx.y * TAPS, taps = s.taps(), part = blockIdx.z;
    const int channel = output / s.outputs_of_group(), last_image = min((part + 1) * images_of_part, Int(s.images));
    const unsigned count = s.windows_of_image();
    Place tap[TAPS];
    int offset[TAPS];
#pragma unroll
    for (int k = 0; k < TAPS; k++) {
        tap[k] = of_tap(s, min(first + k, taps - 1));
        offset[k] = int(tap[k].offset(s.size));
    }
    const Place begin = place_of(threadIdx.x, s.windows), step = place_of(blockDim.x, s.windows);
    A sums[TAPS] = {};
    for (Int image = part * images_of_part; image < last_image; image++) {
        const T* const of_g = g + (image * s.outputs + output) * count;
        const T* const of_x = x + (image * s.channels + channel) * s.plane();
        Place window = begin;
        for (unsigned q = threadIdx.x; q < count; q += blockDim.x) {
            const A value = of_g[q];
            Place place;
#pragma unroll
            for (int axis = 0; axis < 3; axis++)
                place.at[axis] = window.at[axis] * s.stride[axis] - s.before[axis];
            const T* at = of_x + place.offset(s.size);
#pragma unroll
            for (int k = 0; k < TAPS; k++)
                sums[k] += value * A((place + tap[k]).inside(s.size) ? at[offset[k]] : T(0.0f));
            window = window + step;
            if (window.at[2] >= s.windows[2]) window.at[2] -= s.windows[2], window.at[1]++;
            if (window.at[1] >= s.windows[1]) window.at[1] -= s.windows[1], window.at[0]++;
        }
    }
#pragma unroll
    for (int k = 0; k < TAPS; k++) {
        const A sum = block_sum(sums[k]);
        const Int at = Int(output) * taps + first + k;
        if (threadIdx.x != 0 || first + k >= taps) continue;
        if (out) out[at] = T(sum);
        else parts[Int(part) * s.outputs * taps + at] = sum;
    }
}

#define EXPORT(NAME, T)                                                                              \
    extern "C" __global__ void depthwise_##NAME(const T* x, const T* weight, const T* bias, T* out,  \
                                                const __grid_constant__ Slide slide) {               \
        depthwise(x, weight, bias, out, slide);                                                      \
    }                                                                                                \
    extern "C" __global__ void depthwise_input_grad_##NAME(                                          \
        const T* g, const T* weight, T* gx, const __grid_constant__ Slide slide) {                   \
        depthwise_input_grad(g, weight, gx, slide);                                                  \
    }                                                                                                \
    extern "C" __global__ void depthwise_weight_grad_##NAME(                                         \
        const T* g, const T* x, T* out, computed<T>* parts, const __grid_constant__ Slide slide,     \
        Int images_of_part) {                                                                        \
        depthwise_weight_grad(g, x, out, parts, slide, images_of_part);                              \
    }
FOR_EACH_FLOAT(EXPORT)

#define STRIP_BOUNDS(K) __launch_bounds__(STRIP_THREADS, K < 7 ? 4 : AFTER_HOPPER ? 2 : 3)
#define EXPORT_STRIPS(NAME, T, K, S)                                                                 \
    extern "C" __global__ void STRIP_BOUNDS(K) depthwise_##K##_##S##_##NAME(               \
        const T* x, const T* weight, const T* bias, T* out, const __grid_constant__ Slide slide,     \
        const __grid_constant__ Strips strips) {                                                     \
        depthwise_strips<T, K, S>(x, weight, bias, out, slide, strips);                              \
    }                                                                                                \
    extern "C" __global__ void STRIP_BOUNDS(K) depthwise_##K##_##S##_input_grad_##NAME(    \
        const T* g, const T* weight, T* gx, const __grid_constant__ Slide slide,                     \
        const __grid_constant__ Strips strips) {                                                     \
        depthwise_strips_input_grad<T, K, S>(g, weight, gx, slide, strips);                          \
    }                                                                                                \
    extern "C" __global__ void STRIP_BOUNDS(K) depthwise_##K##_##S##_weight_grad_##NAME(   \
        const T* g, const T* x, T* out, computed<T>* parts, const __grid_constant__ Slide slide,     \
        Int strips_of_part, const __grid_constant__ Strips strips) {                                 \
        depthwise_strips_weight_grad<T, K, S>(g, x, out, parts, slide, strips_of_part, strips);      \
    }
#define EXPORT_EACH_STRIPS(NAME, T) \
    EXPORT_STRIPS(NAME, T, 3, 1)    \
    EXPORT_STRIPS(NAME, T, 3, 2)    \
    EXPORT_STRIPS(NAME, T, 5, 1)    \
    EXPORT_STRIPS(NAME, T, 5, 2)    \
    EXPORT_STRIPS(NAME, T, 7, 1)    \
    EXPORT_STRIPS(NAME, T, 7, 2)
FOR_EACH_SINGLE(EXPORT_EACH_STRIPS)
