// Windows of images, for convolutions and pooling. One and two dimensions are treated as three, with
// leading sizes of 1.
//
// The elements of a window are `dilation` apart, windows are `stride` apart, and the first starts `before`
// numbers before the image. So element k of window q is at
//
//     q * stride + k * dilation - before        in each dimension; elements outside are 0
#pragma once
#include "numbers.cuh"

// The host's description. The numbers of elements in an image, and of windows in all images, fit an int.
struct Slide {
    int images, channels, outputs, groups;
    int size[3], windows[3], kernel[3], stride[3], dilation[3], before[3];

    __device__ int plane() const { return size[0] * size[1] * size[2]; }
    __device__ int windows_of_image() const { return windows[0] * windows[1] * windows[2]; }
    __device__ int taps() const { return kernel[0] * kernel[1] * kernel[2]; }
    // Channels of a group, of the input and of the output.
    __device__ int inputs() const { return channels / groups; }
    __device__ int outputs_of_group() const { return outputs / groups; }
};

// A place in three dimensions, or the difference of two places.
struct Place {
    int at[3];
    __device__ Place operator+(const Place& other) const {
        return {{at[0] + other.at[0], at[1] + other.at[1], at[2] + other.at[2]}};
    }
    __device__ bool inside(const int (&size)[3]) const {
        return unsigned(at[0]) < unsigned(size[0]) && unsigned(at[1]) < unsigned(size[1]) &&
               unsigned(at[2]) < unsigned(size[2]);
    }
    // The offset in an array of this size.
    __device__ Int offset(const int (&size)[3]) const {
        return (Int(at[0]) * size[1] + at[1]) * size[2] + at[2];
    }
};

// The place of element `number` in an array of this size: the inverse of `offset`.
__device__ inline Place place_of(unsigned number, const int (&size)[3]) {
    const unsigned rest = number / unsigned(size[2]);
    return {{int(rest / unsigned(size[1])), int(rest % unsigned(size[1])),
             int(number % unsigned(size[2]))}};
}

// The place of element k of a window relative to its start; and the start of window q.
__device__ inline Place of_tap(const Slide& s, unsigned k) {
    const Place p = place_of(k, s.kernel);
    return {{p.at[0] * s.dilation[0], p.at[1] * s.dilation[1], p.at[2] * s.dilation[2]}};
}
__device__ inline Place of_window(const Slide& s, unsigned q) {
    const Place p = place_of(q, s.windows);
    return {{p.at[0] * s.stride[0] - s.before[0], p.at[1] * s.stride[1] - s.before[1],
             p.at[2] * s.stride[2] - s.before[2]}};
}

// The places of the input with remainder `rest` modulo the stride: place i is at rest + i * stride.
// They meet the taps first, first + step, ...; tap j belongs to the window `start` + i - j * apart.
struct Remainder {
    int rest[3], count[3], first[3], step[3], taps[3], start[3], apart[3];

    Remainder() = default;
    __device__ Remainder(const Slide& s, int number) {
        for (int i = 2; i >= 0; i--) {
            rest[i] = number % s.stride[i], number /= s.stride[i];
            count[i] = rest[i] < s.size[i] ? (s.size[i] - rest[i] - 1) / s.stride[i] + 1 : 0;
            int common = s.stride[i], other = s.dilation[i];
            while (other) {
                const int left = common % other;
                common = other, other = left;
            }
            step[i] = s.stride[i] / common, apart[i] = s.dilation[i] / common;
            const int from = rest[i] + s.before[i];
            first[i] = 0;
            while (first[i] < step[i] && (from - first[i] * s.dilation[i]) % s.stride[i]) first[i]++;
            const bool none = first[i] == step[i] || first[i] >= s.kernel[i];
            taps[i] = none ? 0 : (s.kernel[i] - first[i] - 1) / step[i] + 1;
            start[i] = (from - first[i] * s.dilation[i]) / s.stride[i];
        }
    }
    __device__ unsigned places() const { return unsigned(count[0]) * count[1] * count[2]; }
    __device__ unsigned all_taps() const { return unsigned(taps[0]) * taps[1] * taps[2]; }
};
