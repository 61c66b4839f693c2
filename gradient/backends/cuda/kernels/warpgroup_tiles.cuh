// Tiles of HEAD columns in shared memory for warpgroup products (warpgroups.cuh): consecutive
// panels of 64 columns, each with all ROOM rows of the tile.
#pragma once
#include <warpgroups.cuh>

#include "attention_tiles.cuh"

constexpr int ROWS_OF_GROUP = 64;  // a block is a warpgroup

// The required alignment of a block's shared memory.
struct alignas(1024) Panel {
    char bytes[1024];
};

// The address of 8 columns of a row, the `piece`-th ones.
template <int ROOM, class T> __device__ T* piece_at(T* tile, int row, int piece) {
    return tile + (piece / 8 * ROOM + row) * 64 + (piece % 8 ^ row % 8) * 8;
}

// Starts copying `count` rows, `apart` elements apart, from `first` on; the other rows of the tile
// become zeros.
template <int HEAD, int ROOM, class T>
__device__ void load_panels(T* tile, int count, int width, const T* first, Int apart) {
    constexpr int PIECES = HEAD / 8, STEP = THREADS / PIECES;
    static_assert(STEP % 8 == 0 && ROOM % STEP == 0, "a thread's rows have the same place in their 8");
    const int row = threadIdx.x / PIECES, piece = threadIdx.x % PIECES;
    const int there = piece * 8 < width ? count - row : 0;
    const T* from = first + row * apart + piece * 8;
    T* to = piece_at<ROOM>(tile, row, piece);
#pragma unroll
    for (int i = 0; i < ROOM; i += STEP) {
        cp_async(to + i * 64, from, i < there ? 16 : 0);
        from += STEP * apart;
    }
}

// The same for rows of a group, which may belong to several heads.
template <int HEAD, int ROOM, class T>
__device__ void load_group_panels(T* tile, int count, int width, const GroupRows<const T>& rows) {
    constexpr int PIECES = HEAD / 8, STEP = THREADS / PIECES;
    if (rows.query + count <= rows.queries)
        return load_panels<HEAD, ROOM>(tile, count, width, rows(0), rows.of_row);
    const int piece = threadIdx.x % PIECES;
#pragma unroll 1
    for (int row = threadIdx.x / PIECES; row < ROOM; row += STEP) {
        const bool there = row < count && piece * 8 < width;
        cp_async(piece_at<ROOM>(tile, row, piece), rows(there ? row : 0) + (there ? piece * 8 : 0),
                 there ? 16 : 0);
    }
}

// Starts out = a b^T for the 64 rows of `a` and all rows of `b`.
template <int HEAD, class T, int N>
__device__ void begin_row_products(float (&out)[N][4], const T* a, const T* b) {
    const Panels rows(a), columns(b);
#pragma unroll
    for (int k = 0; k < HEAD / 16; k++)
        wgmma<T>(out, rows.after(k / 4 * ROWS_OF_GROUP * 128 + k % 4 * 32),
                 columns.after(k / 4 * N * 8 * 128 + k % 4 * 32), k > 0);
}

// Starts sum += weights b: `weights`, rounded, one for each of the tile's N 8 rows.
template <int HEAD, class T, int N>
__device__ void begin_add_weighted(float (&sum)[HEAD / 8][4], const unsigned (&weights)[N / 2][4],
                                   const T* b) {
    const Panels rows(b, N * 8 * 128);
#pragma unroll
    for (int k = 0; k < N / 2; k++) wgmma_held<T>(sum, weights[k], rows.after(k * 2048));
}

// Two adjacent D of 8 columns are an A of 16.
template <class T, int N> __device__ void rounded(unsigned (&to)[N / 2][4], const float (&from)[N][4]) {
#pragma unroll
    for (int k = 0; k < N / 2; k++)
#pragma unroll
        for (int i = 0; i < 4; i++) {
            const float(&d)[4] = from[2 * k + i / 2];
            to[k][i] = two<T>(d[i % 2 * 2], d[i % 2 * 2 + 1]);
        }
}

// As `store_rows`, for the warp's 16 rows, which start in row `first` of a tile of 64.
template <int HEAD, class T, class F>
__device__ void store_panel_rows(F row_at, int width, int count, const float (&values)[HEAD / 8][4],
                                 float scale, T* tile, int first) {
    constexpr int PIECES = HEAD / 8;
    const int lane = threadIdx.x % 32;
#pragma unroll
    for (int n = 0; n < PIECES; n++)
#pragma unroll
        for (int half = 0; half < 2; half++) {
            T* at = piece_at<ROWS_OF_GROUP>(tile, first + 8 * half + lane / 4, n) + lane % 4 * 2;
            *reinterpret_cast<unsigned*>(at) =
                two<T>(values[n][2 * half] * scale, values[n][2 * half + 1] * scale);
        }
    __syncwarp();
#pragma unroll
    for (int i = lane; i < 16 * PIECES; i += 32) {
        const int row = i / PIECES, piece = i % PIECES;
        if (row < count && piece * 8 < width)
            *reinterpret_cast<uint4*>(row_at(row) + piece * 8) =
                *reinterpret_cast<const uint4*>(piece_at<ROWS_OF_GROUP>(tile, first + row, piece));
    }
}
