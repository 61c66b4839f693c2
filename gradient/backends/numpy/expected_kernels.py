"""Kernels that commands need, for `ahead`: those that take longest to compile first.

Listed is what `gradient generate` and `gradient train` compile at their first use with their
defaults (and `--dtype float32`) on two processors with AVX2, but for kernels of generated source
and those that pack arguments. `python tests/support/list_kernels.py` lists them, and a test
compares.
"""

from __future__ import annotations

GENERATION_IN_BFLOAT16 = """
cached_attention.attend: int64, int64, float32[::1], int64[:,::1], int64[::1], int64[:,::1],
    int64[::1], int64[::1], uint16[::1], int64, uint8[::1], uint8[::1], uint8[::1], int64,
    uint16[::1], int64, uint8[::1], uint8[::1], uint8[::1], int64, float32, int64, float32, int64,
    int64, float32[::1], float32[::1], float32[::1], float32[::1]
half_linear.linear: int64, int64, float32[::1], int64, int64, int64, uint16[::1], int64, int64,
    float32[::1], uint8[::1]
half_linear.copy_rows: int64, int64, uint16[::1], int64, float32[::1], int64
driver.run: int64, int64, int64, int64
norms.softmax: int64, int64, float32[:,::1], float32[:,::1]
cached_attention.join_parts: int64, int64, int64[::1], int64, float32[::1], float32[::1],
    float32[::1], float32[::1]
along.gather: int64, int64, float32[::1], int64, int64[::1], int64, int64, int64[::1],
    float32[::1]
driver.worker: int64, int64
rope.rope: int64, int64, uint16[:,:,:,::1], uint16[:,:,:,::1], uint16[:,:,:,::1], boolean,
    uint16[:,:,:,::1]
reductions.running_sums: int64, int64, float32[::1], int64, int64, int64, float32[::1]
norms.rms_norm: int64, int64, uint16[:,::1], uint16[::1], uint16[:,::1], float64, boolean,
    float32[::1]
rope.rope: int64, int64, uint16[:,:,:,:], uint16[:,:,:,::1], uint16[:,:,:,::1], boolean,
    uint16[:,:,:,::1]
along.put: int64, int64, float32[::1], int64, int64[::1], int64, int64, float32[::1]
elementwise.silu: int64, int64, uint16[::1], uint16[::1]
rows.put: int64, int64, uint16[:,:,:,::1], int64[::1], int64[::1], uint16[:,:,::1]
rows.gather: int64, int64, uint16[:,::1], int64[::1], uint16[:,::1]
driver.run_one: int64, int64, int64, int64, int64, int64
along.check_indices: int64, int64, int64[::1], int64, int64[::1]
driver.reserve: int64, int64
driver.unreserve: int64, int64
driver.spin: int64
"""

GENERATION_IN_FLOAT32 = """
cached_attention.attend: int64, int64, float32[::1], int64[:,::1], int64[::1], int64[:,::1],
    int64[::1], int64[::1], float32[::1], int64, uint8[::1], uint8[::1], uint8[::1], int64,
    float32[::1], int64, uint8[::1], uint8[::1], uint8[::1], int64, float32, int64, float32,
    int64, int64, float32[::1], float32[::1], float32[::1], float32[::1]
dense.linear: int64, int64, float32[::1], int64, int64, float32[::1], int64, int64, float32[::1],
    uint8[::1]
dense.copy_rows: int64, int64, float32[::1], int64, float32[::1], int64
driver.run: int64, int64, int64, int64
norms.softmax: int64, int64, float32[:,::1], float32[:,::1]
cached_attention.join_parts: int64, int64, int64[::1], int64, float32[::1], float32[::1],
    float32[::1], float32[::1]
driver.worker: int64, int64
rope.rope: int64, int64, float32[:,:,:,:], float32[:,:,:,::1], float32[:,:,:,::1], boolean,
    float32[:,:,:,::1]
along.gather: int64, int64, float32[::1], int64, int64[::1], int64, int64, int64[::1],
    float32[::1]
norms.rms_norm: int64, int64, float32[:,::1], float32[::1], float32[:,::1], float64, boolean,
    float32[::1]
rope.rope: int64, int64, float32[:,:,:,::1], float32[:,:,:,::1], float32[:,:,:,::1], boolean,
    float32[:,:,:,::1]
reductions.running_sums: int64, int64, float32[::1], int64, int64, int64, float32[::1]
along.put: int64, int64, float32[::1], int64, int64[::1], int64, int64, float32[::1]
rows.put: int64, int64, uint32[:,:,:,::1], int64[::1], int64[::1], uint32[:,:,::1]
elementwise.silu: int64, int64, float32[::1], float32[::1]
driver.run_one: int64, int64, int64, int64, int64, int64
rows.gather: int64, int64, uint32[:,::1], int64[::1], uint32[:,::1]
along.check_indices: int64, int64, int64[::1], int64, int64[::1]
driver.spin: int64
driver.reserve: int64, int64
driver.unreserve: int64, int64
"""

TRAINING_IN_FLOAT32 = """
cached_attention.attend: int64, int64, float32[::1], int64[:,::1], int64[::1], int64[:,::1],
    int64[::1], int64[::1], float32[::1], int64, uint8[::1], uint8[::1], uint8[::1], int64,
    float32[::1], int64, uint8[::1], uint8[::1], uint8[::1], int64, float32, int64, float32,
    int64, int64, float32[::1], float32[::1], float32[::1], float32[::1]
gemm.product: int64, int64, float32[::1], int64[::1], int64, int64, float32[::1], int64[::1],
    int64, int64, float32[::1], boolean, float32[::1], int64, int64, int64, int64, int64, int64,
    boolean, int64, boolean
small_products.product: int64, int64, float32[::1], int64[::1], int64, int64, float32[::1],
    int64[::1], int64, int64, float32[::1], boolean, float32[::1], int64, int64, int64, int64,
    int64, int64, boolean, int64, boolean
attention.attention: int64, int64, float32[:,:,:,:], float32[:,:,:,:], float32[:,:,:,:], float32,
    boolean, int64, float32, boolean[:,:,::1], int64, int64, float32[:,:,:,:], float32[:,:,::1],
    float32[:,:,::1]
attention.attention_grad: int64, int64, float32[:,:,:,:], float32[:,:,:,:], float32[:,:,:,:],
    float32[:,:,:,:], float32[:,:,:,:], float32[:,:,::1], float32[:,:,::1], float32, boolean,
    int64, float32, boolean[:,:,::1], int64, int64, float32[:,:,:,:], float32[:,:,:,:],
    float32[:,:,:,:]
dense.linear: int64, int64, float32[::1], int64, int64, float32[::1], int64, int64, float32[::1],
    uint8[::1]
norms.cross_entropy: int64, int64, float32[:,::1], int64[::1], int64, float64, float32[::1],
    float32[::1], float32[::1], int64[::1]
reductions.sum_of_columns: int64, int64, float32[::1], int64, int64, float32[::1]
norms.softmax: int64, int64, float32[:,::1], float32[:,::1]
driver.run: int64, int64, int64, int64
cached_attention.join_parts: int64, int64, int64[::1], int64, float32[::1], float32[::1],
    float32[::1], float32[::1]
norms.layer_norm: int64, int64, float32[:,::1], float32[::1], float32[::1], float32[:,::1],
    float64, float32[::1], float32[::1]
embedding.add_rows: int64, int64, float32[::1], int64, int64, int64[::1], float32[::1], boolean,
    int64[::1]
dense.copy_rows: int64, int64, float32[::1], int64, float32[::1], int64
driver.worker: int64, int64
elementary.cos: int64, int64, float32[::1], float32[::1]
reductions.running_sums: int64, int64, float32[::1], int64, int64, int64, float32[::1]
elementwise.gelu_tanh: int64, int64, float32[::1], float32[::1]
along.gather: int64, int64, float32[::1], int64, int64[::1], int64, int64, int64[::1],
    float32[::1]
norms.layer_norm_grad: int64, int64, float32[:,::1], float32[:,::1], float32[::1], float32[::1],
    float32[::1], float32[:,::1], float32[:,::1], float32[:,::1]
elementary.log: int64, int64, float32[::1], float32[::1]
norms.cross_entropy_grad: int64, int64, float32[::1], float32[:,::1], int64[::1], float32[::1],
    float32[::1], int64, float64, float32[:,::1], int64[::1]
along.put: int64, int64, float32[::1], int64, int64[::1], int64, int64, float32[::1]
copies.copy_runs: int64, int64, float32[::1], int64, int64, int64, float32[::1], int64, int64,
    int64, int64, int64, int64, boolean
optimizers.adamw: int64, int64, float32[::1], float32[::1], float32[::1], float32[::1],
    float32[::1]
elementary.sin: int64, int64, float32[::1], float32[::1]
reductions.squares_of_parts: int64, int64, float32[::1], int64, int64, float32[::1]
elementwise.gelu_tanh_grad: int64, int64, float32[::1], float32[::1], float32[::1]
rng.uniform4: int64, int64, uint64, uint64, float32[:,::1]
rows.gather: int64, int64, uint32[:,::1], int64[::1], uint32[:,::1]
rows.put: int64, int64, uint32[:,:,:,::1], int64[::1], int64[::1], uint32[:,:,::1]
copies.join: int64, int64, float32[::1], int64, int64, float32[::1], int64, int64, float32[::1]
optimizers.scale: int64, int64, float32[::1], float32[::1]
driver.run_one: int64, int64, int64, int64, int64, int64
reductions.numpy_sums: int64, int64, float32[::1], int64, float32[::1]
elementary.sqrt: int64, int64, float32[::1], float32[::1]
reductions.root_of_sum: int64, int64, float32[::1], float32[::1]
along.check_indices: int64, int64, int64[::1], int64, int64[::1]
driver.reserve: int64, int64
driver.unreserve: int64, int64
driver.spin: int64
"""

LISTS = {
    "generation in bfloat16": GENERATION_IN_BFLOAT16,
    "generation in float32": GENERATION_IN_FLOAT32,
    "training in float32": TRAINING_IN_FLOAT32,
}


def lines(work: str) -> list[str]:
    """The kernels of some work, a name in LISTS, with the types of their arguments."""
    return LISTS[work].replace("\n    ", " ").strip().splitlines()
