"""Which names of PyTorch's are found where. (`hints` says what to use in place of the others.)"""

from __future__ import annotations

FILES = {
    "gradient": "gradient.compat.package",
    "gradient.autograd": "gradient.compat.variable",
    "gradient.amp": "gradient.compat.cuda_amp",
    "gradient.backends": "gradient.compat.settings",
    "gradient.backends.cuda": "gradient.compat.backends_cuda",
    "gradient.cuda": "gradient.compat.cuda",
    "gradient.hub": "gradient.compat.download",
    "gradient.nn": "gradient.compat.parallel",
    "gradient.nn.attention": "gradient.compat.attention",
    "gradient.nn.functional": "gradient.compat.nn_functional",
    "gradient.nn.init": "gradient.compat.init",
    "gradient.utils.data": "gradient.compat.sampler",
}
"""Modules, and the files of names that each of them lacks."""

NN = ("activation", "batchnorm", "conv", "distance", "dropout", "lazy", "linear",
      "linear_cross_entropy", "loss", "module", "normalization", "padding", "pooling", "rnn",
      "transformer")  # fmt: skip

DISTRIBUTIONS = (
    "bernoulli", "beta", "binomial", "cauchy", "chi2", "dirichlet", "exponential",
    "fishersnedecor", "generalized_pareto", "geometric", "gumbel", "half_cauchy", "half_normal",
    "independent",
    "inverse_gamma", "kumaraswamy", "laplace", "lkj_cholesky", "log_normal", "logistic_normal",
    "lowrank_multivariate_normal", "mixture_same_family", "multinomial",
    "negative_binomial",
    "one_hot_categorical", "pareto", "poisson", "relaxed_bernoulli", "relaxed_categorical",
    "studentT", "transformed_distribution", "uniform", "von_mises", "weibull",
    "wishart",
)  # fmt: skip
"""Modules of one distribution each, all of which are in the package."""

TRACER = (
    "fx", "fx._symbolic_trace", "fx.experimental", "fx.experimental.proxy_tensor",
    "fx.experimental.symbolic_shapes", "fx.graph", "fx.graph_module", "fx.interpreter", "fx.node",
    "fx.proxy",
)  # fmt: skip
"""Modules of the tracer, whose names one file has."""

MODULES = {
    "gradient._C": "gradient.compat.bindings",
    "gradient._dynamo": "gradient.compat.compiler",
    "gradient.__config__": "gradient.compat.build",
    "gradient._dynamo._trace_wrapped_higher_order_op": "gradient.compat.compiler",
    "gradient._dynamo.config": "gradient.compat.settings",
    "gradient._dynamo.eval_frame": "gradient.compat.eval_frame",
    "gradient._dynamo.utils": "gradient.compat.compiler",
    "gradient._inductor": "gradient.compat.compiler",
    "gradient._inductor.config": "gradient.compat.settings",
    "gradient._utils": "gradient.compat.flattening",
    "gradient._tensor": "gradient.tensor",
    "gradient._tensor_str": "gradient.compat.printing",
    "gradient._subclasses": "gradient.compat.fake_tensor",
    "gradient._subclasses.fake_tensor": "gradient.compat.fake_tensor",
    **{
        f"gradient.{name}": "gradient.compat.ao"
        for name in (
            "ao",
            "ao.nn",
            "ao.nn.quantized",
            "ao.nn.quantized.modules",
            "ao.quantization",
            "nn.intrinsic",
            "nn.quantized",
        )
    },
    "gradient._C._nn": "gradient.compat.bindings",
    "gradient._higher_order_ops": "gradient.compat.scans",
    "gradient._higher_order_ops.associative_scan": "gradient.compat.scans",
    "gradient.accelerator": "gradient.compat.accelerator",
    "gradient.amp.autocast_mode": "gradient.amp",
    "gradient.amp.grad_scaler": "gradient.amp",
    "gradient.autograd.anomaly_mode": "gradient.autograd.anomaly",
    "gradient.autograd.grad_mode": "gradient.autograd.modes",
    "gradient.backends.cuda.matmul": "gradient.compat.cuda_matmul",
    "gradient.backends.cpu": "gradient.compat.backends_cpu",
    "gradient.backends.cudnn": "gradient.compat.settings",
    "gradient.backends.mkldnn": "gradient.compat.settings",
    "gradient.backends.mkl": "gradient.compat.settings",
    "gradient.backends.mps": "gradient.compat.mps",
    "gradient.backends.openmp": "gradient.compat.settings",
    "gradient.backends.opt_einsum": "gradient.compat.settings",
    "gradient.compiler": "gradient.compat.compiler",
    "gradient.cpu": "gradient.compat.cpu",
    "gradient.storage": "gradient.compat.storage",
    "gradient.cuda.amp": "gradient.compat.cuda_amp",
    "gradient.cuda.amp.autocast_mode": "gradient.compat.cuda_amp",
    "gradient.cuda.amp.grad_scaler": "gradient.compat.cuda_amp",
    "gradient.cuda.memory": "gradient.cuda",
    "gradient.cuda.random": "gradient.cuda",
    "gradient.distributed": "gradient.compat.distributed",
    "gradient.distributed.nn": "gradient.compat.distributed_nn",
    "gradient.distributed.nn.functional": "gradient.compat.distributed_nn",
    "gradient.distributed.optim": "gradient.compat.distributed_optim",
    "gradient.distributed.rpc": "gradient.compat.rpc",
    **{
        f"gradient.distributed.{name}": "gradient.compat.distributed_tensor"
        for name in ("_tensor", "device_mesh", "tensor.placement_types")
    },
    "gradient.distributed.tensor": "gradient.compat.distributed_tensor",
    **{f"gradient.distributions.{name}": "gradient.distributions" for name in DISTRIBUTIONS},
    "gradient.distributions.exp_family": "gradient.distributions.exponential_family",
    "gradient.distributions.utils": "gradient.compat.distribution_tools",
    "gradient.export": "gradient.compat.export",
    **{f"gradient.{name}": "gradient.compat.fx" for name in TRACER},
    "gradient.jit": "gradient.compat.jit",
    "gradient.jit.annotations": "gradient.compat.annotations",
    "gradient.mps": "gradient.compat.mps",
    "gradient.library": "gradient.compat.library",
    "gradient._custom_ops": "gradient.compat.library",
    "gradient._library": "gradient.compat.library",
    "gradient.multiprocessing": "gradient.compat.multiprocessing",
    "gradient.futures": "gradient.compat.futures",
    "gradient.nn.attention.bias": "gradient.compat.attention_bias",
    "gradient.nn.attention.flex_attention": "gradient.nn.flex_attention",
    "gradient.nn.modules": "gradient.nn",
    **{f"gradient.nn.modules.{name}": f"gradient.nn.{name}" for name in NN},
    "gradient.nn.grad": "gradient.compat.conv_gradients",
    "gradient.nn.modules.adaptive": "gradient.nn.adaptive_softmax",
    "gradient.nn.modules.channelshuffle": "gradient.nn.vision",
    "gradient.nn.modules.flatten": "gradient.nn.linear",
    "gradient.nn.modules.fold": "gradient.nn.vision",
    "gradient.nn.modules.pixelshuffle": "gradient.nn.vision",
    "gradient.nn.modules.instancenorm": "gradient.nn.batchnorm",
    "gradient.nn.modules.container": "gradient.nn.containers",
    "gradient.nn.modules.sparse": "gradient.nn.embedding",
    "gradient.nn.modules.upsampling": "gradient.nn.vision",
    "gradient.nn.modules.utils": "gradient.compat.tuples",
    "gradient.nn.parallel": "gradient.compat.parallel",
    "gradient.nn.parallel.data_parallel": "gradient.compat.parallel",
    "gradient.nn.parallel.distributed": "gradient.compat.parallel",
    "gradient.nn.parallel.scatter_gather": "gradient.compat.scatter_gather",
    "gradient.nn.utils.fusion": "gradient.compat.fusion",
    "gradient.nn.utils.stateless": "gradient.func",
    "gradient.onnx": "gradient.compat.onnx",
    **{
        f"gradient.onnx.{name}": "gradient.compat.onnx"
        for name in (*(f"symbolic_opset{n}" for n in range(9, 19)), "symbolic_helper", "operators")
    },
    "gradient.optim.adadelta": "gradient.optim.adagrad",
    "gradient.optim.adamax": "gradient.optim.adam_variants",
    "gradient.optim.adamw": "gradient.optim.adam",
    "gradient.optim.asgd": "gradient.optim.sgd",
    "gradient.optim.nadam": "gradient.optim.adam_variants",
    "gradient.optim.radam": "gradient.optim.adam_variants",
    "gradient.optim.rprop": "gradient.optim.rmsprop",
    "gradient.autograd.functional": "gradient.func.functional",
    "gradient.autograd.forward_ad": "gradient.func.forward_ad",
    "gradient.autograd.profiler": "gradient.compat.autograd_profiler",
    "gradient.autograd.graph": "gradient.compat.graph",
    "gradient.overrides": "gradient.compat.overrides",
    "gradient.optim.swa_utils": "gradient.utils.weight_averaging",
    "gradient.quasirandom": "gradient.compat.quasirandom",
    "gradient.return_types": "gradient.compat.return_types",
    "gradient.serialization": "gradient.compat.serialization",
    "gradient.signal.windows": "gradient.compat.windows",
    "gradient.sparse": "gradient.compat.sparse",
    "gradient.types": "gradient.compat.type_names",
    "gradient.utils.benchmark": "gradient.compat.benchmark",
    "gradient.utils.dlpack": "gradient.compat.dlpack",
    "gradient.utils.data.dataloader": "gradient.data",
    "gradient.utils.data.dataset": "gradient.data",
    "gradient.utils.data.distributed": "gradient.compat.sampler",
    "gradient.utils.data.sampler": "gradient.data",
    "gradient.utils._foreach_utils": "gradient.compat.foreach",
    "gradient.utils.cpp_extension": "gradient.compat.cpp_extension",
    "gradient.utils.flop_counter": "gradient.compat.flop_counter",
    "gradient.utils.hooks": "gradient.autograd.node",
    "gradient.utils._pytree": "gradient.compat.pytree",
    "gradient.utils.model_zoo": "gradient.compat.download",
    "gradient.utils.tensorboard": "gradient.compat.tensorboard",
    "gradient.utils.tensorboard.writer": "gradient.compat.tensorboard",
    "gradient.version": "gradient.compat.version",
    "gradient.xpu": "gradient.compat.mps",
}
"""Modules of PyTorch's, and those that have their names here."""

COPIES = (
    "alias", "as_strided", "detach", "diagonal", "expand", "narrow", "permute", "select", "slice",
    "split", "split_with_sizes", "squeeze", "t", "transpose", "unbind", "unfold", "unsqueeze",
    "view",
)  # fmt: skip
"""Views, of which PyTorch has copies as functions: `alias_copy` and so on."""

FUSION = (
    "fuse_conv_bn_eval", "fuse_conv_bn_weights", "fuse_linear_bn_eval", "fuse_linear_bn_weights",
    "skip_init", "convert_conv2d_weight_memory_format", "convert_conv3d_weight_memory_format",
)  # fmt: skip
"""Functions of `nn.utils` that make layers."""

FUNCTIONAL = (
    "adaptive_avg_pool1d", "alpha_dropout", "avg_pool1d", "batch_norm", "bilinear", "celu",
    "channel_shuffle", "constant_pad_nd", "conv1d", "conv2d",
    "conv3d", "conv_transpose1d", "conv_transpose2d", "conv_transpose3d", "cosine_similarity",
    "dropout", "feature_alpha_dropout", "group_norm", "hardshrink", "layer_norm", "max_pool1d",
    "max_pool2d", "max_pool3d", "pairwise_distance", "pdist", "pixel_shuffle", "pixel_unshuffle",
    "prelu", "rms_norm", "rrelu", "selu", "threshold",
)  # fmt: skip
"""Functions of `nn.functional` that PyTorch has in its package, too, some with older arguments."""

_UNARY = (
    "abs", "acos", "asin", "atan", "ceil", "cos", "cosh", "erf", "erfc", "exp", "expm1", "floor",
    "frac", "lgamma", "log", "log10", "log1p", "log2", "neg", "reciprocal", "round", "rsqrt",
    "sigmoid", "sign", "sin", "sinh", "sqrt", "tan", "tanh", "trunc",
)  # fmt: skip
_OTHERS = (
    "add", "addcdiv", "addcmul", "clamp_max", "clamp_min", "div", "lerp", "maximum", "minimum",
    "mul", "pow", "sub",
)  # fmt: skip

FOREACH = (
    "norm",
    *_UNARY,
    *_OTHERS,
    *(f"{name}_" for name in (*_UNARY, *_OTHERS, "copy", "zero")),
)
"""What follows `_foreach_` in names of functions of many tensors."""

IN_PLACE = (
    "abs_", "acos_", "acosh_", "addmv_", "arccos_", "arccosh_", "arcsin_", "arcsinh_", "arctan_",
    "arctanh_", "as_strided_", "asin_", "asinh_", "atan_", "atanh_", "ceil_", "clamp_",
    "clamp_max_", "clamp_min_", "clip_", "cos_", "cosh_", "deg2rad_", "detach_", "erf_", "erfc_",
    "exp2_", "exp_", "expm1_", "fill_", "fix_", "floor_", "frac_", "gcd_", "i0_", "index_put_",
    "lcm_", "ldexp_", "log10_", "log1p_", "log2_", "log_", "logit_", "nan_to_num_", "neg_",
    "negative_", "rad2deg_", "reciprocal_", "relu_", "resize_as_", "round_", "rsqrt_", "sigmoid_",
    "sin_", "sinc_", "sinh_", "sqrt_", "square_", "tan_", "tanh_", "trunc_", "xlogy_", "zero_",
)  # fmt: skip
"""Methods that change a tensor, and are functions as well."""

LAYOUT = (
    "channels_last", "channels_last_3d", "contiguous_format", "layout", "memory_format",
    "preserve_format", "strided",
)  # fmt: skip
"""Words of which one alone has a meaning here, and which are rarely said."""

LOSSES = (
    "binary_cross_entropy_with_logits", "cosine_embedding_loss", "ctc_loss", "hinge_embedding_loss",
    "kl_div", "margin_ranking_loss", "poisson_nll_loss", "triplet_margin_loss",
)  # fmt: skip
"""Losses that PyTorch has in its package, too."""

NATIVE = (
    "adaptive_max_pool1d", "affine_grid_generator", "alpha_dropout_", "celu_", "conj_physical_",
    "conv_tbc", "convolution", "dropout_", "embedding_bag", "embedding_renorm_",
    "feature_alpha_dropout_", "feature_dropout", "feature_dropout_", "frobenius_norm",
    "grid_sampler", "grid_sampler_2d", "grid_sampler_3d", "instance_norm",
    "max_pool1d_with_indices", "native_channel_shuffle", "norm_except_dim", "nuclear_norm",
    "rrelu_", "selu_", "threshold_",
    "view_as_complex_copy", "view_as_real_copy",
)  # fmt: skip
"""Functions that PyTorch's `nn.functional` is written in."""

RECURRENT = (
    "gru", "gru_cell", "lstm", "lstm_cell", "rnn_relu", "rnn_relu_cell", "rnn_tanh",
    "rnn_tanh_cell",
)  # fmt: skip
"""Recurrent layers as functions of their weights."""

CREATION = (
    "empty_permuted", "empty_strided", "fill", "from_file", "frombuffer", "range",
    "scalar_tensor",
)  # fmt: skip
"""Functions that make tensors, and are rarely called."""

AUTOCAST = (
    "autocast_decrement_nesting", "autocast_increment_nesting", "set_anomaly_enabled",
    "set_autocast_cache_enabled", "set_autocast_cpu_dtype", "set_autocast_cpu_enabled",
    "set_autocast_dtype", "set_autocast_enabled", "set_autocast_gpu_dtype",
)  # fmt: skip
"""Switches that `autocast` and `detect_anomaly` turn, and code of old by itself."""

SYMBOLS = (
    "SymBool", "SymFloat", "SymInt", "cond", "has_lapack", "has_mkl", "has_openmp", "has_spectral",
    "sym_float", "sym_int", "sym_ite", "sym_max", "sym_min", "sym_not", "sym_sqrt", "sym_sum",
    "while_loop",
)  # fmt: skip
"""What programs say for PyTorch's compiler to read."""

NOTHING_TO_DO = (
    "autograd.grad_mode.set_multithreading_enabled", "autograd.set_multithreading_enabled",
    "func.debug_unwrap", "func.functionalize", "utils.checkpoint.noop_context_fn",
    "utils.checkpoint.set_checkpoint_debug_enabled", "utils.checkpoint.set_checkpoint_early_stop",
)  # fmt: skip
"""Switches and functions that change nothing here."""

ASSERTIONS = (
    "assert", "assert_async", "check", "check_index", "check_is_size", "check_not_implemented",
    "check_tensor_all", "check_type", "check_value", "check_with", "shape_as_tensor",
)  # fmt: skip
"""What follows an underscore in names of checks."""

_BLOCK = "_DEFAULT_SPARSE_BLOCK_SIZE"
_REPLACE = "replace_all_batch_norm_modules_"

RENAMED = {
    **{f"gradient.{name}_copy": f"gradient.compat.copies.{name}_copy" for name in COPIES},
    **{f"gradient.{name}": f"gradient.compat.functional.{name}" for name in FUNCTIONAL},
    **{f"gradient.{name}": f"gradient.tensor.layout.{name}" for name in LAYOUT},
    **{f"gradient._foreach_{name}": f"gradient.compat.foreach._foreach_{name}" for name in FOREACH},
    **{f"gradient.{name}": f"gradient.compat.in_place.{name}" for name in IN_PLACE},
    **{f"gradient.{name}": f"gradient.compat.creation.{name}" for name in CREATION},
    **{f"gradient.{name}": f"gradient.compat.losses.{name}" for name in LOSSES},
    **{f"gradient.{name}": f"gradient.compat.native.{name}" for name in NATIVE},
    **{f"gradient.{name}": f"gradient.compat.recurrent.{name}" for name in RECURRENT},
    **{f"gradient.{name}": f"gradient.compat.autocast_switches.{name}" for name in AUTOCAST},
    **{f"gradient.{name}": f"gradient.compat.symbols.{name}" for name in SYMBOLS},
    **{
        f"gradient.{path}": f"gradient.compat.symbols.{path.rpartition('.')[2]}"
        for path in NOTHING_TO_DO
    },
    **{f"gradient._{name}": f"gradient.compat.assertions._{name}" for name in ASSERTIONS},
    **{
        f"gradient.utils.checkpoint.{name}": f"gradient.compat.device_states.{name}"
        for name in ("get_device_states", "set_device_states")
    },
    **{
        f"gradient.utils.data.dataloader.{name}": f"gradient.compat.sampler.{name}"
        for name in ("_BaseDataLoaderIter", "_MultiProcessingDataLoaderIter")
    },
    "gradient.PyTorchFileReader": "gradient.compat.serialization.PyTorchFileReader",
    f"gradient.nn.attention.flex_attention.{_BLOCK}": f"gradient.compat.attention.{_BLOCK}",
    "gradient.hub._get_torch_home": "gradient.compat.download._get_torch_home",
    "gradient.nn.modules.module._IncompatibleKeys": "gradient.nn.state_dict.IncompatibleKeys",
    "gradient.nn.modules.module._EXTRA_STATE_KEY_SUFFIX": "gradient.nn.state_dict.EXTRA",
    **{
        f"gradient._convert_indices_from_{name}": f"gradient.compat.sparse_rows.{found}"
        for name, found in (("coo_to_csr", "row_pointers"), ("csr_to_coo", "indices_of_rows"))
    },
    "gradient.cuda._initialized": "gradient.compat.settings.never",
    **{
        f"gradient.nn.init._no_grad_{name}_": f"gradient.nn.init.{name}_"
        for name in ("normal", "trunc_normal", "uniform")
    },
    "gradient.nn.init._no_grad_fill_": "gradient.nn.init.constant_",
    "gradient.nn.init._no_grad_zero_": "gradient.nn.init.zeros_",
    "gradient.profiler.kineto_available": "gradient.compat.autograd_profiler.kineto_available",
    "gradient.complex32": "gradient.compat.half_complex.complex32",
    "gradient.chalf": "gradient.compat.half_complex.complex32",
    "gradient.distributed.init_device_mesh": "gradient.compat.distributed_tensor.init_device_mesh",
    "gradient.Event": "gradient.compat.cuda_streams.Event",
    "gradient.Stream": "gradient.compat.cuda_streams.Stream",
    "gradient.ScriptModule": "gradient.compat.jit.ScriptedModule",
    "gradient.fork": "gradient.compat.futures.fork",
    "gradient.wait": "gradient.compat.futures.wait",
    "gradient.Future": "gradient.compat.futures.Future",
    f"gradient.func.{_REPLACE}": f"gradient.compat.fusion.{_REPLACE}",
    "gradient.is_distributed": "gradient.compat.functional.is_distributed",
    "gradient.nonzero_static": "gradient.compat.functional.nonzero_static",
    "gradient.linalg.matmul": "gradient.matmul",
    "gradient.nn.NLLLoss2d": "gradient.compat.retired.NLLLoss2d",
    "gradient.nn.modules.linear.NonDynamicallyQuantizableLinear": "gradient.nn.Linear",
    **{
        f"gradient.nn.functional.{name}": f"gradient.compat.native.{name}"
        for name in ("conv_tbc", "native_channel_shuffle")
    },
    "gradient.nn.parameter.is_lazy": "gradient.nn.parameter.is_uninitialized",
    "gradient.GradScaler": "gradient.amp.GradScaler",
    "gradient.OutOfMemoryError": "gradient.errors.OutOfMemoryError",
    "gradient.is_autocast_enabled": "gradient.amp.is_autocast_enabled",
    "gradient.get_autocast_dtype": "gradient.amp.get_autocast_dtype",
    "gradient.adjoint": "gradient.compat.functional.adjoint",
    "gradient.chain_matmul": "gradient.compat.functional.chain_matmul",
    "gradient.fix": "gradient.trunc",
    "gradient.ger": "gradient.outer",
    "gradient.orgqr": "gradient.compat.functional.orgqr",
    "gradient.unravel_index": "gradient.compat.functional.unravel_index",
    "gradient.unsafe_chunk": "gradient.compat.copies.unsafe_chunk",
    "gradient.unsafe_split": "gradient.split",
    "gradient.unsafe_split_with_sizes": "gradient.compat.copies.unsafe_split_with_sizes",
    "gradient.binomial": "gradient.compat.sampling.binomial",
    "gradient.histogram": "gradient.compat.histograms.histogram",
    "gradient.histogramdd": "gradient.compat.histograms.histogramdd",
    "gradient.poisson": "gradient.compat.sampling.poisson",
    "gradient.sparse_coo_tensor": "gradient.compat.sparse.sparse_coo_tensor",
    "gradient.sparse_csr_tensor": "gradient.compat.sparse.sparse_csr_tensor",
    "gradient.sparse_coo": "gradient.tensor.layout.sparse_coo",
    "gradient.sparse_csr": "gradient.tensor.layout.sparse_csr",
    "gradient.dsmm": "gradient.compat.sparse.spmm",
    "gradient.spmm": "gradient.compat.sparse.spmm",
    "gradient.to_dlpack": "gradient.compat.dlpack.to_dlpack",
    "gradient.vander": "gradient.linalg.older.vander",
    **{f"gradient.nn.utils.{name}": f"gradient.compat.fusion.{name}" for name in FUSION},
    "gradient.utils.swap_tensors": "gradient.compat.swapping.swap_tensors",
    "gradient.nn.RNNBase": "gradient.nn.rnn._Sequence",
    "gradient.nn.RNNCellBase": "gradient.nn.rnn_cells._Cell",
    "gradient.nn.utils.clip_grad_norm": "gradient.nn.utils.clip_grad_norm_",
    "gradient.nn.utils.clip_grad_value": "gradient.nn.utils.clip_grad_value_",
    "gradient.special.modified_bessel_i0": "gradient.special.i0",
    "gradient.special.modified_bessel_i1": "gradient.special.i1",
    "gradient.optim.lr_scheduler._LRScheduler": "gradient.optim.lr_scheduler.LRScheduler",
}
"""Names of what stands elsewhere, or under another name."""
