"""`--device auto`: the GPU if it is usable, else the CPU."""

from __future__ import annotations

import typer

AUTO = "auto"


def chosen_device(device: str | None) -> str | None:
    """The device to use: for "auto", cuda if it is usable, else cpu, with the reason on
    standard error. Any other value, and None, is returned unchanged."""
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
