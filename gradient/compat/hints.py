"""What to use in place of names of PyTorch's that are nowhere here."""

from __future__ import annotations

PAGE = "see docs/from_pytorch.md"
LINALG = f"not in linalg: use numpy.linalg or scipy.linalg on x.numpy() ({PAGE})"
SPARSE = f"sparse tensors are those of sparse_coo_tensor ({PAGE})"
FLOAT8 = "the 8-bit floats are float8_e4m3fn and float8_e5m2"
RETIRED = "retired in PyTorch too: use gradient.linalg."
SCIPY = f"use scipy.special on x.numpy(), which has no gradient ({PAGE})"
MASKED = f"the functions of gradient.masked take a tensor and a mask= ({PAGE})"
DISPATCH = f"there is no dispatcher: a class can have a __torch_function__ ({PAGE})"
TRACING = f"there is no tracing of programs; gradient.compile records and replays ({PAGE})"
STORAGE = "use TypedStorage(data, dtype=...), or what x.storage() gives"

HINTS = {
    "gradient.optim.SparseAdam": "gradients are dense: use optim.Adam",
    "gradient.utils._python_dispatch": DISPATCH,
    "gradient.quint8": "gradient.quantization packs weights into q8_0, q4_k and other formats",
    **dict.fromkeys(
        [f"gradient.float8_{name}" for name in (
            "e4m3fnuz", "e5m2fnuz", "e8m0fnu")], FLOAT8),
    "gradient.eig": LINALG,
    "gradient.lstsq": f"{RETIRED}lstsq",
    "gradient.solve": f"{RETIRED}solve",
    "gradient.symeig": f"{RETIRED}eigh",
    **dict.fromkeys(
        [f"gradient.special.{name}" for name in (
            "airy_ai", "bessel_j0", "bessel_j1", "bessel_y0", "bessel_y1",
            "chebyshev_polynomial_t", "chebyshev_polynomial_u", "chebyshev_polynomial_v",
            "chebyshev_polynomial_w", "hermite_polynomial_h", "hermite_polynomial_he",
            "laguerre_polynomial_l", "legendre_polynomial_p", "modified_bessel_k0",
            "modified_bessel_k1", "scaled_modified_bessel_k0", "scaled_modified_bessel_k1",
            "shifted_chebyshev_polynomial_t", "shifted_chebyshev_polynomial_u",
            "shifted_chebyshev_polynomial_v", "shifted_chebyshev_polynomial_w",
            "spherical_bessel_j0")], SCIPY),
    **dict.fromkeys(
        ("gradient.masked.MaskedTensor", "gradient.masked.masked_tensor"), MASKED),
    "gradient.FloatStorage": STORAGE,
    "gradient.quantize_per_tensor": FLOAT8,
    "gradient.nn.CrossMapLRN2d": "use nn.LocalResponseNorm",
    "gradient.nested": "there are no nested tensors; nn.utils.rnn.pad_sequence pads to one length",
}  # fmt: skip
"""What to use in place of a name that is nowhere."""

PACKED = "gradient.quantization packs weights into 8 bits and fewer; x.dtype says in which format"

TENSOR_HINTS = {
    **dict.fromkeys(
        ("coalesce", "col_indices", "crow_indices", "indices", "sparse_mask",
         "values"), SPARSE),
    "storage_type": STORAGE,
    **dict.fromkeys(("int_repr", "q_scale", "q_zero_point"), PACKED),
    "to_mkldnn": "the CPU's kernels read row-major tensors",
    "eig": f"{RETIRED}eig",
    "lstsq": f"{RETIRED}lstsq",
    "solve": f"{RETIRED}solve",
    "symeig": f"{RETIRED}eigh",
}  # fmt: skip
"""What to use in place of an attribute of a tensor (`gradient.absent.NO_METHODS`)."""
