// Convolution and its gradients as matrix products (implicit GEMM): the columns of windows are read
// from the image when a tile needs them, and never stored.
//
//     out[n, o, q] = sum over (c, k) of weight[o, (c, k)] * x[n, c, place of number k of window q]
//
//     product       rows        columns           summed over ("depth")
//     out           outputs o   windows (n, q)    channels and taps (c, k), in the weight's own order
//     gx            inputs c    places (n, y)     outputs and those taps that meet the place
//     gw            outputs o   (c, k)            windows (n, q), in parts that a second kernel adds up
//
// The factor from an image is the same in all three: the number at (row's place + depth's place), or 0
// outside of the image. A thread keeps its rows' places in registers. The places of a step along depth
// are computed once for the block, one per thread, so an element costs an addition and a comparison in
// each dimension. Lanes take neighbouring windows, which are adjacent in memory.
//
// Gradient for the input: places with the same remainder modulo the stride use the same taps, every
// stride / gcd(stride, dilation)-th. Each remainder is a separate product (blocks along z), without
// zeros between the windows of g.
//
// Bytes: x is read about taps * outputs / 64 times from the cache, and hardly more than once from
// memory. Sums are deterministic: there are no atomic additions. (depthwise.cu has convolutions with
// too few channels for tiles.)
#include "tile_product.cuh"
#include "windows.cuh"

// One element along depth in a step: its place, and its offset in the image and in the other
// factor; `other` is -1 past the end.
struct Along { Int offset, other; Place place; };

// A factor from an image of `size`. PLACES has the places of rows (`row`) and of elements along
// depth (`along`).
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

// The other factor: element (i, k) at numbers[i * stride + other of k].
template <class T> struct OtherFactor {
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

// Rows are windows from `first` on; depth is (channel, tap).
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

// Transposed: rows are (channel, tap), depth is windows. `other` is the offset of the window in g.
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

// Rows are places of the input from `first` on; depth is (output, tap). `other` is the offset of
// these in the weight.
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
        OtherFactor<T>{weight + (output * s.inputs() + row) * s.taps(), s.inputs() - row, s.taps(), table},
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

// Grid: (tiles of channels and taps, tiles of outputs, groups by parts of the windows). With
// several parts, out is null, and part p of the gradient goes to parts[p].
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
        OtherFactor<T>{g + output * s.windows_of_image(), outputs - row, s.windows_of_image(), table},
        Gathered<T, TapsByWindows>{x + Int(group) * s.inputs() * s.plane(), places, last, table},
        first, last, [&](int i, int j, computed<T> sum) {
            if (row + i >= outputs || column + j >= columns) return;
            const Int at = (output + i) * columns + column + j;
            if (out) out[at] = T(sum);
            else parts[Int(part) * s.outputs * columns + at] = sum;
        });
}

// out = the sum of the parts, in order. Grid: blocks of 256 elements.
template <class T> __device__ void join(const computed<T>* parts, T* out, Int count, Int numbers) {
    const Int at = Int(blockIdx.x) * blockDim.x + threadIdx.x;
    if (at >= numbers) return;
    computed<T> sum = parts[at];
    for (Int part = 1; part < count; part++) sum += parts[part * numbers + at];
    out[at] = T(sum);
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
    }
FOR_EACH_FLOAT(EXPORT)
