"""Parts of memory by strides: as_strided of tensors, of views of them and of what overlaps."""

from __future__ import annotations

import tracemalloc

import pytest

import gradient
from gradient import errors
from gradient.autograd import gradcheck, gradgradcheck


def counted(*shape: int) -> gradient.Tensor:
    n = 1
    for size in shape:
        n *= size
    return gradient.arange(n, dtype=gradient.float64).reshape(shape).clone()


def test_elements_by_their_places_in_memory():
    x = counted(3, 4)
    assert x.as_strided((2, 3), (1, 2)).tolist() == [[0, 2, 4], [1, 3, 5]]
    assert x.as_strided((), (), 7).item() == 7
    assert x.as_strided((2, 0), (1, 1)).shape == (2, 0)
    part = x[1:, 1:]
    assert part.storage_offset() == 5 and x.storage_offset() == 0
    assert part.as_strided((2,), (1,)).tolist() == [5, 6]  # an element that is not in the part
    assert part.as_strided((2,), (1,), 0).tolist() == [0, 1]
    assert x.t().as_strided((4,), (1,)).tolist() == [0, 1, 2, 3]
    assert x.as_strided((2, 3), (4, 0)).tolist() == [[0, 0, 0], [4, 4, 4]]


def test_a_view_is_written_through(device):
    x = gradient.zeros(3, 4, device=device)
    view = x.as_strided((3,), (5,))
    if view.view_info is None:
        pytest.skip("the backend's views have no strides of their own")
    view.fill_(1.0)
    assert x.tolist() == [[1, 0, 0, 0], [0, 1, 0, 0], [0, 0, 1, 0]]
    x[1:].t().as_strided((2,), (1,), 0).mul_(5)
    assert x[0].tolist() == [5, 0, 0, 0]


def test_writes_find_their_way_into_the_graph():
    a = counted(6).requires_grad_()
    b = gradient.tensor([10.0, 20.0], dtype=gradient.float64, requires_grad=True)
    x = a * 2
    x.as_strided((2,), (3,), 1).copy_(b)
    (x * x).sum().backward()
    assert a.grad.tolist() == [0, 0, 16, 24, 0, 40] and b.grad.tolist() == [20, 40]


def test_what_shows_an_element_twice_cannot_be_written():
    with pytest.raises(errors.AutogradError, match="cannot be written"):
        counted(4).as_strided((2, 2), (1, 0)).add_(1)


def test_gradients_add_up_where_places_overlap():
    x = counted(4).requires_grad_()
    x.as_strided((3, 2), (1, 1)).sum().backward()
    assert x.grad.tolist() == [1, 2, 2, 1]
    for of in (lambda x: x * 1, lambda x: (x * 1).reshape(2, 2).t()):
        for options in ({"size": (2, 2), "stride": (1, 2)}, {"size": (3, 2), "stride": (1, 1)}):

            def squares(x, of=of, options=options):
                return of(x).as_strided(**options) ** 2

            assert gradcheck(squares, x) and gradgradcheck(squares, x)


def test_elements_of_one_place_share_its_gradient():
    row = counted(3).requires_grad_()
    wide = (row * 1).expand(2, 3)
    wide.retain_grad()
    shown = wide.as_strided((2, 3), (0, 1))
    assert shown.tolist() == [[0, 1, 2]] * 2
    shown.sum().backward()
    assert wide.grad.tolist() == [[1, 1, 1]] * 2 and row.grad.tolist() == [2, 2, 2]


def test_memory_beyond_the_tensor_has_no_gradient():
    base = counted(6).requires_grad_()
    part = (base * 1)[2:4]
    part.retain_grad()
    shown = part.as_strided((6,), (1,), 0)
    assert shown.tolist() == [0, 1, 2, 3, 4, 5]
    shown.sum().backward()
    assert part.grad.tolist() == [1, 1] and base.grad.tolist() == [0, 0, 1, 1, 0, 0]


def test_a_copy_with_a_part_replaced():
    x, src = counted(6).requires_grad_(), gradient.ones(2, dtype=gradient.float64) * 9
    src.requires_grad_()
    out = x.as_strided_scatter(src, (2,), (2,), 1)
    assert out.tolist() == [0, 9, 2, 9, 4, 5] and x[1].item() == 1
    (out * counted(6)).sum().backward()
    assert x.grad.tolist() == [0, 0, 2, 0, 4, 5] and src.grad.tolist() == [1, 3]
    assert gradgradcheck(lambda x, s: x.as_strided_scatter(s, (2,), (2,), 1) ** 2, (x, src),
                         check_non_contiguous=False)  # fmt: skip
    turned = counted(2, 3).t()
    assert turned.as_strided_scatter(-src, (2,), (1,)).tolist() == [[-9, 3], [-9, 4], [2, 5]]


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (lambda x: x.as_strided((2, 2), (1,)), "as many strides as sizes"),
        (lambda x: x.as_strided((2,), (-1,), 3), "at least 0"),
        (lambda x: x.as_strided((3,), (2,)), "places in memory of 4 elements, got place 4"),
        (lambda x: x.as_strided((2,), (1,), 3), "place 4"),
        (lambda x: x.as_strided_scatter(x, (2,), (1,)), r"src of shape \(2,\)"),
    ],
)
def test_arguments_that_do_not_fit(wrong, message):
    with pytest.raises(errors.ShapeError, match=message):
        wrong(counted(4))


@pytest.mark.cpu_only
def test_a_view_of_many_elements_takes_no_memory():
    x = gradient.ones(1 << 20)
    tracemalloc.start()
    try:
        view = x.as_strided((1 << 19, 100), (1, 1000))
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert view.shape == (1 << 19, 100) and peak < 1 << 16
