"""`--device auto`: the GPU where it can be used, else the CPU."""

from __future__ import annotations

import typer

AUTO = "auto"


def chosen_device(device: str | None) -> str | None:
    """The device that is meant: for "auto" cuda if it can be used, else cpu, which is said on
    standard error with the reason. Any other, and None, stays what it is."""
    if device != AUTO:
        return device
    from gradient import backends
    from gradient.errors import DeviceError

    try:
        gpu = backends.get("cuda")
        _ = gpu.runtime.blas  # type: ignore[attr-defined]  # without it there are no products
    except DeviceError as error:
        reason = str(error).removeprefix("device 'cuda:0': ")
        typer.echo(f"device auto: cpu, as cuda cannot be used: {reason}", err=True)
        return "cpu"
    from gradient.backends.cuda import driver

    typer.echo(f"device auto: {gpu.device}, {driver.device_name(0)}".rstrip(", "), err=True)
    return gpu.device
