"""Automatic differentiation: nodes, the op decorator, the backward pass; no particular op."""

from gradient.autograd.checkpoint import checkpoint
from gradient.autograd.engine import backward, grad
from gradient.autograd.function import Function, FunctionCtx, once_differentiable
from gradient.autograd.gradcheck import GradcheckError, gradcheck, gradgradcheck
from gradient.autograd.modes import (
    detect_anomaly,
    enable_grad,
    inference_mode,
    is_grad_enabled,
    no_grad,
    set_detect_anomaly,
    set_grad_enabled,
)
from gradient.autograd.node import Node
from gradient.autograd.op import op

__all__ = [
    "Function",
    "FunctionCtx",
    "GradcheckError",
    "Node",
    "backward",
    "checkpoint",
    "detect_anomaly",
    "enable_grad",
    "grad",
    "gradcheck",
    "gradgradcheck",
    "inference_mode",
    "is_grad_enabled",
    "no_grad",
    "once_differentiable",
    "op",
    "set_detect_anomaly",
    "set_grad_enabled",
]
