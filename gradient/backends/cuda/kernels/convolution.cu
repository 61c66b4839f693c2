// Convolution and its gradients as matrix products (implicit GEMM): what would be the columns of
// windows is read from the image where a tile needs it, and nowhere laid out.
//
//     out[n, o, q] = sum over (c, k) of weight[o, (c, k)] * x[n, c, place of number k of window q]
//
//     product       rows        columns           summed over ("depth")
//     out           outputs o   windows (n, q)    channels and taps (c, k), in the weight's own order
//     gx            inputs c    places (n, y)     outputs and those taps that meet the place
//     gw            outputs o   (c, k)            windows (n, q), in parts that a second kernel adds up
//
// The factor from an image is the same in all three: the number at row's place + depth's place, 0 if
// that is outside. A thread keeps its rows' places in registers; those of a step along depth are worked
// out by as many threads, once for the block, so that an element costs an addition and a comparison in
// each dimension. Lanes take neighbouring windows, which lie side by side in memory.
//
// Gradient by the input: places that leave the same remainder by the stride meet the same taps, every
// stride / gcd(stride, dilation)-th. Each remainder is a product of its own (blocks along z), without
// any zeros between the windows of g.
//
// Bytes: x is read about taps * outputs / 64 times from the cache, and hardly more than once from
// memory. Sums never depend on chance: there are no atomic additions. Depthwise convolutions have too
// few channels for tiles: a thread for each number, and a block for nine numbers of the weight.
#include "tile_product.cuh"
#include "windows.cuh"

// What a step needs to know of one number along depth: the place, and where the image and the other
// factor have it; `other` is -1 behind the end.
struct Along { Int offset, other; Place place; };

// A factor from an image of `size`. PLACES says where rows are (`row`) and numbers along depth (`along`).
template <class T, class PLACES> struct Gathered {
    static constexpr bool ALONG_DEPTH = PLACES::ALONG_DEPTH;
    struct Row { Int offset; Place place; };
    const T* image;
    const PLACES& places;
    Int last;
    Along (*table)[DEPTH<T>];

    __device__ Row row(int i) const {
        Row found = {0, {{-(1 << 30), 0, 0}}};  // outside, whatever is added
        places.row(i, found.offset, found.place);
        return found;
    }
    __device__ void prepare(Int k, int turn) const {
        const Int mine = k + threadIdx.x;
        if (threadIdx.x < DEPTH<T>)
            table[turn][threadIdx.x] =
                mine < last ? places.along(unsigned(mine)) : Along{0, -1, {{-(1 << 30), 0, 0}}};
    }
    __device__ PackOf<T> load(const Row& row, Int, int part, int turn) const {
        PackOf<T> pack = no_numbers<T>();
#pragma unroll
        for (int i = 0; i < PACK<T>; i++) {
            const Along& along = table[turn][part * PACK<T> + i];
            if ((row.place + along.place).inside(places.size()))
                pack.values[i] = image[row.offset + along.offset];
        }
        return pack;
    }
};

// The other factor: number (i, k) at numbers[i * stride + other of k].
template <class T> struct Beside {
    static constexpr bool ALONG_DEPTH = true;
    typedef const T* Row;
    const T* numbers;
    Int rows, stride;
    Along (*table)[DEPTH<T>];

    __device__ Row row(int i) const { return i < rows ? numbers + i * stride : nullptr; }
    __device__ PackOf<T> load(Row row, Int, int part, int turn) const {
        PackOf<T> pack = no_numbers<T>();
#pragma unroll
        for (int i = 0; i < PACK<T>; i++) {
            const Int other = table[turn][part * PACK<T> + i].other;
            if (row && other >= 0) pack.values[i] = row[other];
        }
        return pack;
    }
};

__device__ inline unsigned windows_of_all(const Slide& s) {
    return unsigned(s.images) * unsigned(s.windows_of_image());
}
__device__ inline Int at_window(const Slide& s, unsigned number, Place& place) {
    const unsigned count = s.windows_of_image();
    place = of_window(s, number % count);
    return Int(number / count) * s.channels * s.plane() + place.offset(s.size);
}
__device__ inline Int at_tap(const Slide& s, unsigned number, Place& place) {
    const unsigned count = s.taps();
    place = of_tap(s, number % count);
    return Int(number / count) * s.plane() + place.offset(s.size);
}

// Rows are windows from `first` on; depth is channels and taps.
struct WindowsByTaps {
    static constexpr bool ALONG_DEPTH = false;
    const Slide& s;
    unsigned first;
    __device__ const int (&size() const)[3] { return s.size; }
    __device__ void row(int i, Int& offset, Place& place) const {
        if (first + i < windows_of_all(s)) offset = at_window(s, first + i, place);
    }
    __device__ Along along(unsigned k) const {
        Along found;
        found.offset = at_tap(s, k, found.place), found.other = k;
        return found;
    }
};

// The other way round. `other` is where g has the window.
struct TapsByWindows {
    static constexpr bool ALONG_DEPTH = true;
    const Slide& s;
    unsigned first;
    __device__ const int (&size() const)[3] { return s.size; }
    __device__ void row(int i, Int& offset, Place& place) const {
        if (first + i < unsigned(s.inputs() * s.taps())) offset = at_tap(s, first + i, place);
    }
    __device__ Along along(unsigned q) const {
        const unsigned count = s.windows_of_image();
        Along found;
        found.offset = at_window(s, q, found.place);
        found.other = Int(q / count) * s.outputs * count + q % count;
        return found;
    }
};

// Rows are places of the input from `first` on; depth is outputs and taps. `other` is where the weight
// has these.
struct PlacesByTaps {
    static constexpr bool ALONG_DEPTH = false;
    const Slide& s;
    const Remainder& r;
    unsigned first;
    __device__ const int (&size() const)[3] { return s.windows; }
    __device__ void row(int i, Int& offset, Place& place) const {
        const unsigned count = r.places(), number = first + i;
        if (number >= s.images * count) return;
        place = place_of(number % count, r.count) + Place{{r.start[0], r.start[1], r.start[2]}};
        offset = Int(number / count) * s.outputs * s.windows_of_image() + place.offset(s.windows);
    }
    __device__ Along along(unsigned k) const {
        const unsigned count = r.all_taps(), output = k / count;
        const Place j = place_of(k % count, r.taps);
        Along found;
        Place tap;
#pragma unroll
        for (int i = 0; i < 3; i++) {
            found.place.at[i] = -j.at[i] * r.apart[i];
            tap.at[i] = r.first[i] + j.at[i] * r.step[i];
        }
        found.offset = Int(output) * s.windows_of_image() + found.place.offset(s.windows);
        found.other = Int(output) * s.inputs() * s.taps() + tap.offset(s.kernel);
        return found;
    }
};

// Grid: (tiles of windows, tiles of outputs, groups).
template <class T>
__device__ void convolution(const T* x, const T* weight, const T* bias, T* out, const Slide& s) {
    __shared__ Along table[2][DEPTH<T>];
    const int group = blockIdx.z, row = blockIdx.y * TILE, outputs = s.outputs_of_group();
    const unsigned column = blockIdx.x * TILE, count = s.windows_of_image();
    const Int depth = Int(s.inputs()) * s.taps(), output = Int(group) * outputs + row;
    const WindowsByTaps places = {s, column};
    tile_product<T>(
        AlongDepth<T>{weight + output * depth, outputs - row, depth, depth},
        Gathered<T, WindowsByTaps>{x + Int(group) * s.inputs() * s.plane(), places, depth, table}, 0,
        depth, [&](int i, int j, computed<T> sum) {
            const unsigned window = column + j;
            if (row + i >= outputs || window >= windows_of_all(s)) return;
            if (bias) sum += computed<T>(bias[output + i]);
            out[(Int(window / count) * s.outputs + output + i) * count + window % count] = T(sum);
        });
}

// Grid: (tiles of places, tiles of inputs, groups by remainders).
template <class T>
__device__ void input_grad(const T* g, const T* weight, T* gx, const Slide& s) {
    __shared__ Along table[2][DEPTH<T>];
    const Remainder r(s, blockIdx.z / s.groups);
    const int group = blockIdx.z % s.groups, row = blockIdx.y * TILE, outputs = s.outputs_of_group();
    const unsigned column = blockIdx.x * TILE, count = r.places();
    if (column >= s.images * count) return;
    const Int depth = Int(outputs) * r.all_taps(), output = Int(group) * outputs;
    const PlacesByTaps places = {s, r, column};
    tile_product<T>(
        Beside<T>{weight + (output * s.inputs() + row) * s.taps(), s.inputs() - row, s.taps(), table},
        Gathered<T, PlacesByTaps>{g + output * s.windows_of_image(), places, depth, table}, 0, depth,
        [&](int i, int j, computed<T> sum) {
            const unsigned number = column + j;
            if (row + i >= s.inputs() || number >= s.images * count) return;
            Place place = place_of(number % count, r.count);
#pragma unroll
            for (int axis = 0; axis < 3; axis++)
                place.at[axis] = place.at[axis] * s.stride[axis] + r.rest[axis];
            const Int plane = Int(number / count) * s.channels + group * s.inputs() + row + i;
            gx[plane * s.plane() + place.offset(s.size)] = T(sum);
        });
}

// Grid: (tiles of channels and taps, tiles of outputs, groups by parts of the windows). Part p of the
// gradient goes to parts[p]; out is null then.
template <class T>
__device__ void weight_grad(const T* g, const T* x, T* out, computed<T>* parts, const Slide& s,
                            Int windows_of_part) {
    __shared__ Along table[2][DEPTH<T>];
    const int group = blockIdx.z % s.groups, part = blockIdx.z / s.groups;
    const int row = blockIdx.y * TILE, outputs = s.outputs_of_group();
    const unsigned column = blockIdx.x * TILE, columns = s.inputs() * s.taps();
    const Int first = part * windows_of_part;
    const Int last = min(first + windows_of_part, Int(windows_of_all(s)));
    const Int output = Int(group) * outputs + row;
    const TapsByWindows places = {s, column};
    tile_product<T>(
        Beside<T>{g + output * s.windows_of_image(), outputs - row, s.windows_of_image(), table},
        Gathered<T, TapsByWindows>{x + Int(group) * s.inputs() * s.plane(), places, last, table},
        first, last, [&](int i, int j, computed<T> sum) {
            if (row + i >= outputs || column + j >= columns) return;
            const Int at = (output + i) * columns + column + j;
            if (out) out[at] = T(sum);
            else parts[Int(part) * s.outputs * columns + at] = sum;
        });
}

// out = the parts added up in their order. Grid: blocks of 256 numbers.
template <class T> __device__ void join(const computed<T>* parts, T* out, Int count, Int numbers) {
    const Int at = Int(blockIdx.x) * blockDim.x + threadIdx.x;
    if (at >= numbers) return;
    computed<T> sum = parts[at];
    for (Int part = 1; part < count; part++) sum += parts[part * numbers + at];
    out[at] = T(sum);
}

// The plane of number `at`, planes of `size` numbers; `at` becomes its place there. Divisions of 64 bits take
// some hundred instructions.
__device__ inline Int plane_of(Int& at, unsigned size) {
    const Int plane = at >> 32 ? at / size : Int(unsigned(at) / size);
    at -= plane * size;
    return plane;
}
// The image of plane number `plane`, of `count` each; the plane's number there stays.
__device__ inline int image_of(Int& plane, int count) {
    const int image = plane >> 32 ? int(plane / count) : int(unsigned(plane) / unsigned(count));
    plane -= Int(image) * count;
    return image;
}

// Depthwise: each channel of the input makes its own outputs. Grid: blocks of 256 outputs.
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

// The window along one axis whose number `tap` is at `place`; -1 where there is none.
__device__ inline int window_along(const Slide& s, int axis, int place, int tap) {
    const int from = place + s.before[axis] - tap * s.dilation[axis];
    if (s.stride[axis] == 1) return from < s.windows[axis] ? from : -1;
    const int window = from / s.stride[axis];
    return from >= 0 && window * s.stride[axis] == from && window < s.windows[axis] ? window : -1;
}

// Grid: blocks of 256 numbers of the input.
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

// TAPS numbers of the weight of an output, summed over the windows of some images: g is read once for
// them. A thread goes from window to window by `step`, without a division. Grid: (outputs, groups of
// TAPS taps, parts of the images); part p of the gradient goes to parts[p], and out is null then.
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

#define EXPORT_TILES(KERNEL, ...) extern "C" __global__ void __launch_bounds__(TILE_THREADS, 4) KERNEL(__VA_ARGS__)
#define EXPORT(NAME, T)                                                                              \
    EXPORT_TILES(convolution_##NAME, const T* x, const T* weight, const T* bias, T* out,             \
                 const __grid_constant__ Slide slide) {                                              \
        convolution(x, weight, bias, out, slide);                                                    \
    }                                                                                                \
    EXPORT_TILES(convolution_input_grad_##NAME, const T* g, const T* weight, T* gx,                  \
                 const __grid_constant__ Slide slide) {                                              \
        input_grad(g, weight, gx, slide);                                                            \
    }                                                                                                \
    EXPORT_TILES(convolution_weight_grad_##NAME, const T* g, const T* x, T* out, computed<T>* parts, \
                 const __grid_constant__ Slide slide, Int windows_of_part) {                         \
        weight_grad(g, x, out, parts, slide, windows_of_part);                                       \
    }                                                                                                \
    extern "C" __global__ void convolution_join_##NAME(const computed<T>* parts, T* out, Int count,  \
                                                       Int numbers) {                                \
        join(parts, out, count, numbers);                                                            \
    }                                                                                                \
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
