"""All windows of planes, and their sums: planes are (planes, *sizes), windows (planes, K, *counts)
for the K elements of a kernel, all flat and of three dimensions."""

from gradient.backends.numpy.kernels.compilation import ordered_kernel


@ordered_kernel
def unfold(start, stop, x, sizes, counts, kernel, stride, dilation, out):
    """out = the windows of x, for the planes start to stop."""
    size, n, step = sizes[0] * sizes[1] * sizes[2], counts[2], stride[2]
    to = start * kernel[0] * kernel[1] * kernel[2] * counts[0] * counts[1] * n
    for p in range(start, stop):
        for d in range(kernel[0]):
            for h in range(kernel[1]):
                for w in range(kernel[2]):
                    for i in range(counts[0]):
                        for j in range(counts[1]):
                            z = d * dilation[0] + i * stride[0]
                            v = h * dilation[1] + j * stride[1]
                            at = p * size + (z * sizes[1] + v) * sizes[2] + w * dilation[2]
                            line, row = out[to : to + n], x[at : at + (n - 1) * step + 1]
                            for m in range(n):
                                line[m] = row[m * step]
                            to += n


@ordered_kernel
def fold(start, stop, x, sizes, counts, kernel, stride, dilation, out):
    """out (planes, *sizes) = the sums of the windows x, for the planes start to stop."""
    size, n, step, zero = sizes[0] * sizes[1] * sizes[2], counts[2], stride[2], x.dtype.type(0)
    at = start * kernel[0] * kernel[1] * kernel[2] * counts[0] * counts[1] * n
    for i in range(start * size, stop * size):
        out[i] = zero
    for p in range(start, stop):
        for d in range(kernel[0]):
            for h in range(kernel[1]):
                for w in range(kernel[2]):
                    for i in range(counts[0]):
                        for j in range(counts[1]):
                            z = d * dilation[0] + i * stride[0]
                            v = h * dilation[1] + j * stride[1]
                            to = p * size + (z * sizes[1] + v) * sizes[2] + w * dilation[2]
                            line, row = x[at : at + n], out[to : to + (n - 1) * step + 1]
                            for m in range(n):
                                row[m * step] += line[m]
                            at += n
